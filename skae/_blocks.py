"""In which blocks rows pass through a network: sizes that round alike, one thread per block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

from ._device import Evaluation

Map = Callable[[Tensor], Tensor]
Cut = tuple[int, int, int]  # start, stop and size of a block
Work = Callable[[int, int, int], np.ndarray]
Item = TypeVar("Item")
Result = TypeVar("Result")

# Rows per block, largest first.
_SIZES = (512, 128, 16)
# Where it is not known how products round, all have this size.
UNKNOWN_SIZES = (128,)
# Larger blocks than this many entries would leave the cache.
_BLOCK_ENTRIES = 2**19
# A block of so many multiply-adds is worth handing to another thread, and so many to start one.
_PARALLEL_BLOCK = 10_000_000
_PARALLEL_WORK = 100_000_000


def sizes_that_round_alike(maps: Iterable[tuple[Map, int]], widest: int, like: Tensor) -> list[int]:
    """Return sizes of blocks, largest first, in which a row's result is the same to the last bit.

    Products of other shapes may add up in another order. Whether they do is tried out: random rows
    pass through each map in one large block and in smaller ones.

    Parameters
    ----------
    maps : iterable of (callable, int)
        Maps of rows, (n_rows, width) to (n_rows, any), each with its width. What they return may
        change when they are called again.
    widest : int
        The largest number of columns on the way.
    like : torch.Tensor
        Has the dtype to compute in, on the CPU.
    """
    largest = next((size for size in _SIZES if size * widest <= _BLOCK_ENTRIES), UNKNOWN_SIZES[0])
    alike = [size for size in _SIZES if size < largest]
    n_rows, generator = max(alike, default=0), Generator("cpu").manual_seed(0)
    with Evaluation():
        for function, width in maps:
            shape = (largest, width)
            rows = torch.randn(shape, generator=generator, dtype=like.dtype, device="cpu")
            some, whole = rows[:n_rows], function(rows)[:n_rows].clone()
            alike = [
                size
                for size in alike
                if torch.equal(torch.cat([function(x).clone() for x in some.split(size)]), whole)
            ]
    return [largest, *alike]


def cut(n_rows: int, sizes: Sequence[int]) -> list[Cut]:
    """Return the blocks of `n_rows` rows, as large as they can be; the last may have to be padded.

    `sizes` are those to use, largest first.
    """
    cuts, start = [], 0
    while start < n_rows:
        size = next((size for size in sizes if size <= n_rows - start), sizes[-1])
        cuts.append((start, min(start + size, n_rows), size))
        start += size
    return cuts


def map_blocks(work: Work, cuts: Sequence[Cut], multiply_adds: int) -> np.ndarray:
    """Return what is made of blocks, one below the other.

    Parameters
    ----------
    work : callable
        ``(start, stop, size) -> ndarray`` with ``stop - start`` rows.
    cuts : sequence of (int, int, int)
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
    joined[first[0] : first[1]] = found

    def work_off(share: list[Cut]) -> None:
        with Evaluation():
            for start, stop, size in share:
                joined[start:stop] = work(start, stop, size)

    n_shares = torch.get_num_threads()
    shares = [others[i::n_shares] for i in range(min(n_shares, len(others)))]
    for _ in in_threads(work_off, shares, multiply_adds * first[2], multiply_adds * len(joined)):
        pass
    return joined


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], block: int, total: int
) -> Iterator[Result]:
    """Yield a function's results, in the items' order; threads share the items where it pays.

    `block` and `total` are the multiply-adds between which threads change, and all of them.
    """
    pays = block >= _PARALLEL_BLOCK and total >= _PARALLEL_WORK
    n_threads = min(torch.get_num_threads(), len(items)) if pays else 1
    if n_threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        yield from pool.map(function, items)
