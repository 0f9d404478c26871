"""Tests of blocks: how rows are cut, and who works on them."""

import threading

import numpy as np
import pytest
import torch

from skae._inference.blocks import cut, map_blocks, rows_per_block
from skae._runtime.pool import in_threads


@pytest.mark.parametrize("n_rows", [1, 15, 16, 17, 128, 129, 600, 1024, 5000])
@pytest.mark.parametrize("size", [512, 128, 1])
def test_blocks_cover_all_rows_once(n_rows, size):
    """They follow each other, and only the last may be shorter."""
    cuts = cut(n_rows, size)
    assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts[:-1])]
    assert cuts[-1][1] == n_rows
    assert all(stop - start == size for start, stop in cuts[:-1])
    assert 0 < cuts[-1][1] - cuts[-1][0] <= size


def test_wide_rows_come_in_small_blocks():
    """A block stays in the cache."""
    assert rows_per_block(784) == 512
    assert rows_per_block(100_000) == 128


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("work", [0, 10**12])
def test_blocks_come_back_in_order_whoever_works_on_them(work):
    """Threads share the blocks, each on one thread of torch, without gradients."""
    threads = set()

    def double(first, last):
        threads.add(threading.get_ident())
        assert torch.get_num_threads() == 1
        assert torch.is_inference_mode_enabled()
        return 2 * np.arange(first, last)

    found = map_blocks(double, cut(3000, 128), work)
    assert np.array_equal(found, 2 * np.arange(3000))
    several = work and torch.get_num_threads() > 1
    assert len(threads) == 1 if not several else len(threads) > 1


@pytest.mark.parametrize(("block", "total"), [(10**6, 10**12), (10**8, 10**7)])
def test_small_blocks_and_little_work_stay_with_the_caller(block, total):
    """Handing them over would take longer than they do."""
    threads = in_threads(lambda _: threading.get_ident(), range(10), block, total)
    assert set(threads) == {threading.get_ident()}


def test_an_error_in_a_thread_is_raised():
    """Nothing is lost among threads."""

    def fail(item):
        raise ArithmeticError(item)

    with pytest.raises(ArithmeticError, match="1"):
        list(in_threads(fail, [1, 2, 3], 10**10, 10**10))
