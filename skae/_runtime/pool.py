"""Threads that share independent pieces of work, where it pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .threads import available_threads

Item = TypeVar("Item")
Result = TypeVar("Result")
# A block of so many multiply-adds is worth handing to another thread, and so many to start one.
_PARALLEL_BLOCK = 10_000_000
_PARALLEL_WORK = 100_000_000


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], block: int, total: int
) -> Iterator[Result]:
    """Yield a function's results, in the items' order; threads share the items where it pays.

    `block` and `total` are the multiply-adds between which threads change, and all of them.
    """
    pays = block >= _PARALLEL_BLOCK and total >= _PARALLEL_WORK
    n_threads = min(available_threads(), len(items)) if pays else 1
    if n_threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        yield from pool.map(function, items)
