"""Threads: how many a block of work gets, and limits that other threads do not see."""

from __future__ import annotations

import ctypes
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


@contextmanager
def threads_for(multiply_adds: int) -> Iterator[None]:
    """Run a block on one thread when its batches are too small to share."""
    if multiply_adds >= _PARALLEL_WORK:
        yield
    else:
        with OneThread():
            yield


class OneThread:
    """Context in which torch uses one thread.

    The limits are those of OpenMP and MKL for the calling thread, so blocks in other threads are
    not touched.
    """

    def __enter__(self) -> None:
        torch.get_num_threads()  # a thread's first call of torch sets the limits, so it goes first
        runtimes, limit_mkl = _openmp(), _mkl_limit()
        self._before = [runtime.omp_get_max_threads() for runtime in runtimes]
        self._mkl_before = limit_mkl(1)
        for runtime in runtimes:
            runtime.omp_set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        _mkl_limit()(self._mkl_before)
        for runtime, n_threads in zip(_openmp(), self._before, strict=True):
            runtime.omp_set_num_threads(n_threads)


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
