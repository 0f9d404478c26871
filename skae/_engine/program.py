"""A program: the calls of one pass forward and backward, on buffers made beforehand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..modules import _custom
from .kernels import is_faster_by_onednn, onednn_product

Call = Callable[[], Any]

# CUDA allows one capture at a time in a process, and fits may run side by side in threads.
_CAPTURING = threading.Lock()


class Signal(NamedTuple):
    """Values on their way through a network, and the objective's gradient in them, (n_rows, n)."""

    value: Tensor
    gradient: Tensor


class Program:
    """The calls of one pass forward and backward for batches of a fixed number of rows.

    Replaying it allocates little and decides nothing. What is written forward registers what it
    does backward (`on_backward`), which `write_backward` writes in reverse order.

    Parameters
    ----------
    n_rows : int
        Rows of a batch.
    like : torch.Tensor
        Has the dtype and device to work in.
    differentiates : bool, default=True
        Whether there is a pass backward, for which signals have room for gradients.
    rounds : bool, default=False
        Whether large products are in bfloat16.
    """

    def __init__(
        self, n_rows: int, like: Tensor, *, differentiates: bool = True, rounds: bool = False
    ) -> None:
        self.n_rows, self.like = n_rows, like
        self.differentiates, self.rounds = differentiates, rounds
        self.calls: list[Call] = []
        self.ones = torch.ones(n_rows, dtype=like.dtype, device=like.device)
        self._rounded: dict[tuple[Any, ...], Tensor] = {}
        self._backward: list[Call] = []
        self._written: set[int] = set()

    def buffer(self, *shape: int) -> Tensor:
        """Return a tensor to write to; rows first."""
        return torch.zeros(shape, dtype=self.like.dtype, device=self.like.device)

    def signal(self, width: int, gradient: Tensor | None = None) -> Signal:
        """Return a signal to write to, whose gradient may have a place already."""
        value = self.buffer(self.n_rows, width)
        if gradient is not None:
            return Signal(value, gradient)
        return Signal(value, torch.zeros_like(value) if self.differentiates else value[:0])

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        """Add a call."""
        more = arguments or keywords
        self.calls.append(partial(function, *arguments, **keywords) if more else function)

    def on_backward(self, write: Call) -> None:
        """Register what adds the calls of the pass backward."""
        self._backward.append(write)

    def write_backward(self) -> None:
        """Add the calls of the pass backward, those of the last part first."""
        for write in reversed(self._backward):
            write()

    def add_product(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """Write ``a @ b`` to a gradient, or add it to what the pass has written there before."""
        start = out if out.data_ptr() in self._written else None
        self._written.add(out.data_ptr())
        self.write_product(a, b, out, start)

    def write_product(self, a: Tensor, b: Tensor, out: Tensor, start: Tensor | None) -> None:
        """Write ``a @ b``, or ``start + a @ b``, to `out`."""
        multiply_adds = a.numel() * b.shape[1]
        if self.rounds and multiply_adds >= _custom.BFLOAT16_WORK:
            product = torch.zeros_like(out, dtype=torch.bfloat16)
            self.call(torch.mm, self._round(a), self._round(b), out=product)
            if start is None:
                self.call(out.copy_, product)
            else:
                self.call(torch.add, start, product, out=out)
        elif is_faster_by_onednn(multiply_adds, out):
            self.call(onednn_product, a, b, out, start)
        elif start is None:
            self.call(torch.mm, a, b, out=out)
        else:
            self.call(torch.addmm, start, a, b, out=out)

    def _round(self, factor: Tensor) -> Tensor:
        """Write a matrix in bfloat16, once: what has been a factor keeps its value in a pass."""
        if not factor.is_contiguous():
            return self._round(factor.t()).t()
        key = factor.data_ptr(), *factor.shape
        if key not in self._rounded:
            self._rounded[key] = torch.zeros_like(factor, dtype=torch.bfloat16)
            self.call(self._rounded[key].copy_, factor)
        return self._rounded[key]

    def replay(self) -> None:
        """Make the calls."""
        for call in self.calls:
            call()

    def captured(self, changed: Sequence[Tensor]) -> Call:
        """Return what makes all calls as one launch: a CUDA graph of them.

        They are made once before, so that libraries have set themselves up, after which all that
        is `changed` by them is put back.
        """
        before = [tensor.clone() for tensor in changed]
        with _CAPTURING, torch.cuda.device(self.like.device):  # streams are the current device's
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self.replay()
            torch.cuda.current_stream().wait_stream(side)
            for tensor, saved in zip(changed, before, strict=True):
                tensor.copy_(saved)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                self.replay()
        return graph.replay
