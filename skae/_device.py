"""The device: device="auto", ambient torch state kept out, threads by the work per step."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import lru_cache
from glob import glob
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

# Multiply-adds of one batch above which a second thread pays (measured: a 2,000,000 multiply-add
# product gains nothing from a second core, a 100,000,000 one nearly doubles its speed).
_PARALLEL_WORK = 2_000_000


def resolve_device(device: str) -> torch.device:
    """Return the torch device for `device`; "auto" is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        If `device` is not a device string or no such device is present.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type not in ("cpu", "cuda"):
            raise NotImplementedError("skae computes on the CPU and on CUDA devices")
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here: {error}. Use device='auto' or 'cpu'."
        ) from error
    return resolved


def evaluation_device(device: str) -> torch.device:
    """Return the torch device for `device`; the CPU, with a warning, where it is not present."""
    try:
        return resolve_device(device)
    except ValueError as error:
        warnings.warn(f"{error} The CPU is used instead.", UserWarning, stacklevel=5)
        return torch.device("cpu")


@contextmanager
def own_modes(*, gradients: bool) -> Iterator[None]:
    """Shield a block from the caller's modes, all of them per thread.

    These are torch's inference, gradient and autocast modes and NumPy's floating-point errors.
    """
    with (
        np.errstate(all="warn", under="ignore"),
        torch.inference_mode(not gradients),
        torch.set_grad_enabled(gradients),
        ExitStack() as stack,
    ):
        for context in _without_autocast():
            stack.enter_context(context)
        yield


def _without_autocast() -> list[AbstractContextManager[object]]:
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    return [torch.autocast(kind, enabled=False) for kind in kinds]


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Round numbers below 1e-38 to zero in a block, in the calling thread alone.

    Adam's moments of weights that get no gradients any more decay into such numbers and stay there,
    where processors are ten times slower.
    """
    smallest = torch.tensor(torch.finfo(torch.float32).tiny, device="cpu", dtype=torch.float32)
    flushed_before = bool(smallest / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed_before)


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
        runtimes, limit_mkl = _openmp(), _mkl_limit()
        self._before = [runtime.omp_get_max_threads() for runtime in runtimes]
        self._mkl_before = limit_mkl(1)
        for runtime in runtimes:
            runtime.omp_set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        _mkl_limit()(self._mkl_before)
        for runtime, n_threads in zip(_openmp(), self._before, strict=True):
            runtime.omp_set_num_threads(n_threads)


class Evaluation:
    """Context for evaluation: `own_modes` without gradients, on one thread; overflows are silent.

    It is entered for single rows, so it does no more than it must.
    """

    def __enter__(self) -> None:
        self._contexts: list[AbstractContextManager[object]] = [
            np.errstate(divide="warn", under="ignore", over="ignore", invalid="ignore"),
            torch.inference_mode(),
            OneThread(),
            *_without_autocast(),
        ]
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)


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
