"""Tests of blocks: how rows are cut, which sizes round alike, and who works on them."""

import threading

import numpy as np
import pytest
import torch

from skae._blocks import cut, in_threads, map_blocks, sizes_that_round_alike
from skae._gradients import OnBuffers
from skae.modules import MLP

LIKE = torch.zeros(0)


@pytest.mark.parametrize("n_rows", [1, 15, 16, 17, 128, 129, 600, 1024, 5000])
@pytest.mark.parametrize("sizes", [(512, 128, 16), (128,), (512,)])
def test_blocks_cover_all_rows_once_and_pad_only_the_last(n_rows, sizes):
    """They follow each other; all but the last are full."""
    cuts = cut(n_rows, sizes)
    assert [cut[0] for cut in cuts] == [0, *(cut[1] for cut in cuts[:-1])]
    assert cuts[-1][1] == n_rows
    assert all(stop - start == size for start, stop, size in cuts[:-1])
    assert all(size in sizes for _, _, size in cuts)
    if n_rows < sizes[-1]:
        assert cuts == [(0, n_rows, sizes[-1])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("widths", [(784, 64, 8), (5, 3, 1), (100, 512, 40)])
def test_sizes_that_are_used_round_alike(dtype, widths):
    """Rows that were not tried out have the same bits in blocks of every size, alone or not."""
    n_in, hidden, n_out = widths
    net = MLP(n_in, n_out, (hidden,), generator=torch.Generator().manual_seed(3)).to(dtype)
    like = next(net.parameters())
    sizes = sizes_that_round_alike([(net, n_in)], max(widths), like)
    X = torch.randn((512, n_in), generator=torch.Generator().manual_seed(4), dtype=dtype)

    def evaluate(size):
        def work(first, last, _):
            return net(X[first:last]).numpy()

        return map_blocks(work, [(i, i + size, size) for i in range(0, 512, size)], 0)

    assert sizes[0] == 512
    assert all(np.array_equal(evaluate(size), evaluate(512)) for size in sizes)


@pytest.mark.parametrize("widths", [(784, 64, 8), (5, 3, 1)])
def test_sizes_are_the_same_for_a_map_that_writes_to_one_place(widths):
    """Results are compared before the next ones are written over them."""
    n_in, hidden, n_out = widths
    net = MLP(n_in, n_out, (hidden,))
    sizes = sizes_that_round_alike([(net, n_in)], max(widths), LIKE)
    assert sizes_that_round_alike([(OnBuffers(net), n_in)], max(widths), LIKE) == sizes


def test_sizes_that_round_otherwise_are_left_out():
    """A map whose rows depend on how many there are passes in blocks of one size only."""

    def depends(x):
        return x * (1.0 + 1e-7 * len(x))

    def depends_on_few(x):
        return x + (len(x) < 100)

    assert sizes_that_round_alike([(depends, 4)], 4, LIKE) == [512]
    assert sizes_that_round_alike([(depends_on_few, 4)], 4, LIKE) == [512, 128]
    assert sizes_that_round_alike([(torch.neg, 4)], 100_000, LIKE)[0] == 128


@pytest.mark.parametrize("work", [0, 10**12])
def test_blocks_come_back_in_order_whoever_works_on_them(work):
    """Threads share the blocks, each on one thread of torch, without gradients."""
    threads = set()

    def double(first, last, size):
        threads.add(threading.get_ident())
        assert torch.get_num_threads() == 1
        assert torch.is_inference_mode_enabled()
        return 2 * np.arange(first, last)

    found = map_blocks(double, cut(3000, (128,)), work)
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
