"""Threads: how many a block of work gets, and limits that other threads do not see."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from glob import glob
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

# Multiply-adds of one batch above which a second thread pays (measured: a 2,000,000 multiply-add
# product gains nothing from a second core, a 100,000,000 one nearly doubles its speed).
_PARALLEL_WORK = 2_000_000


class _Outer(threading.local):
    """The limits around the outermost `OneThread` of this thread; None outside of any."""

    limits: list[int] | None = None


_outer = _Outer()


def available_threads() -> int:
    """Return the number of threads that the caller of the package has given torch."""
    return torch.get_num_threads() if _outer.limits is None else max(_outer.limits[1:], default=1)


@contextmanager
def threads_for(multiply_adds: int) -> Iterator[None]:
    """Run a block on one thread when its batches are too small to share, and else on all."""
    if multiply_adds < _PARALLEL_WORK:
        with OneThread():
            yield
    elif _outer.limits is None:
        yield
    else:
        outer, _outer.limits = _outer.limits, None
        inner = _exchange(outer)
        try:
            yield
        finally:
            _exchange(inner)
            _outer.limits = outer


class OneThread:
    """Context in which torch uses one thread, and starts no pool of them.

    The limits are those of OpenMP and MKL for the calling thread, so blocks in other threads are
    not touched.
    """

    def __enter__(self) -> None:
        self._before, self._outer = _exchange([1] * (1 + len(_openmp()))), _outer.limits
        if self._outer is None:
            _outer.limits = self._before

    def __exit__(self, *_: object) -> None:
        _exchange(self._before)
        _outer.limits = self._outer


def _exchange(limits: list[int]) -> list[int]:
    """Set the calling thread's limits, MKL's (0 for none) and OpenMP's; return those before."""
    torch.get_num_threads()  # a thread's first call of torch sets its limits, so it goes first
    before = [_mkl_limit()(limits[0])]
    for runtime, n_threads in zip(_openmp(), limits[1:], strict=True):
        before.append(runtime.omp_get_max_threads())
        runtime.omp_set_num_threads(n_threads)
    return before


@lru_cache(maxsize=1)
def _openmp() -> list[Any]:
    libraries = ThreadpoolController().select(user_api="openmp").lib_controllers
    return [library.dynlib for library in libraries]


@lru_cache(maxsize=1)
def _mkl_limit() -> Callable[[int], int]:
    """Return what sets the calling thread's limit in torch's MKL and returns the one before.

    0 stands for none. After a call of ``torch.set_num_threads`` MKL heeds no other limit.
    """
    for path in glob(f"{torch.__path__[0]}/lib/*torch_cpu*"):
        with suppress(OSError, AttributeError):
            limit: Callable[[int], int] = ctypes.CDLL(path).MKL_Set_Num_Threads_Local
            return limit
    return lambda n_threads: n_threads
