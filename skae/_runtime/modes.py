"""Modes of torch and NumPy around a block: the caller's are shut out and come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from .threads import OneThread


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


class Evaluation:
    """Context for evaluation: `own_modes` without gradients, on one thread; overflows are silent.

    It is entered for single rows, so it does no more than it must.
    """

    def __enter__(self) -> None:
        self._errors = np.errstate(divide="warn", under="ignore", over="ignore", invalid="ignore")
        self._inference, self._threads = torch.inference_mode(), OneThread()
        self._autocast = _without_autocast()
        self._errors.__enter__()
        self._inference.__enter__()
        self._threads.__enter__()
        for context in self._autocast:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in self._autocast:
            context.__exit__(*error)
        self._threads.__exit__()
        self._inference.__exit__(*error)
        self._errors.__exit__(*error)
