"""The device: device="auto", ambient torch state kept out, threads by the work per step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

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
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here: {error}. Use device='auto' or 'cpu'."
        ) from error
    if resolved.type == "mps":
        raise ValueError("device='mps' cannot be used: it has no float64. Use device='cpu'.")
    return resolved


@contextmanager
def own_torch_state(*, gradients: bool) -> Iterator[None]:
    """Shield a block from the caller's inference, gradient and autocast modes (all per thread)."""
    with (
        torch.inference_mode(not gradients),
        torch.set_grad_enabled(gradients),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


@contextmanager
def threads_for(multiply_adds: int) -> Iterator[None]:
    """Run a block on one thread when its batches are too small to share.

    The limit is OpenMP's for the calling thread, so blocks in other threads are not touched.
    """
    if multiply_adds >= _PARALLEL_WORK:
        yield
    else:
        with _openmp().limit(limits=1):
            yield


@lru_cache(maxsize=1)
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")
