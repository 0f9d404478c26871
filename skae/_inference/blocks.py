"""In which blocks rows pass through a network, and which threads work on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .._runtime.modes import Evaluation
from .._runtime.pool import in_threads
from .._runtime.threads import available_threads

Cut = tuple[int, int]  # start and stop of a block
Work = Callable[[int, int], np.ndarray]

# Rows per block, unless rows are so wide that a block would leave the cache.
_MOST_ROWS, _FEWEST_ROWS = 512, 128
_BLOCK_ENTRIES = 2**19


def rows_per_block(widest: int) -> int:
    """Return how many rows a block has whose rows have `widest` columns on their way."""
    return _MOST_ROWS if _MOST_ROWS * widest <= _BLOCK_ENTRIES else _FEWEST_ROWS


def cut(n_rows: int, size: int) -> list[Cut]:
    """Return the blocks of `n_rows` rows, of `size` rows each but for the last."""
    return [(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def map_blocks(work: Work, cuts: Sequence[Cut], multiply_adds: int) -> np.ndarray:
    """Return what is made of blocks, one below the other.

    Parameters
    ----------
    work : callable
        ``(start, stop) -> ndarray`` with ``stop - start`` rows.
    cuts : sequence of (int, int)
        The blocks, see `cut`.
    multiply_adds : int
        The work that each row is, 0 if the blocks are to be worked off by the calling thread. Where
        it pays, as many threads take part as torch has, each making its products by itself: results
        do not depend on the number of threads.
    """
    first, *others = cuts
    with Evaluation():
        found = work(*first)
    if not others:
        return found
    joined = np.empty((cuts[-1][1], *found.shape[1:]), dtype=found.dtype)
    joined[: first[1]] = found

    def work_off(share: list[Cut]) -> None:
        with Evaluation():
            for start, stop in share:
                joined[start:stop] = work(start, stop)

    n_shares = available_threads()
    shares = [others[i::n_shares] for i in range(min(n_shares, len(others)))]
    for _ in in_threads(work_off, shares, multiply_adds * first[1], multiply_adds * len(joined)):
        pass
    return joined
