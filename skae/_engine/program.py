"""Gradients of the built-in networks written out: forward and backward pass on fixed buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..modules import _custom
from .kernels import is_faster_by_onednn, onednn_product

Call = Callable[[], Any]

_aten = torch.ops.aten


class Signal(NamedTuple):
    """Values on their way through a network, and the loss's gradient in them, (n_rows, width)."""

    value: Tensor
    gradient: Tensor


class Program:
    """The calls of one pass forward and backward for batches of a fixed number of rows.

    A pass is one list of calls on tensors made beforehand: playing it allocates nothing and decides
    nothing. What is written forward registers what it does on the way back (`on_backward`), which
    `turn` writes in reverse order.

    Slopes are those of the loss summed over rows, divided by `unit`.

    Parameters
    ----------
    n_rows : int
        Rows of a batch.
    like : torch.Tensor
        Has the dtype and device to work in.
    returns : bool, default=True
        Whether there is a way back, for which signals have room for gradients.
    updates : bool, default=False
        Whether what closed forms determine is updated on the way, as these are all rows of a step.
    rounds : bool, default=False
        Whether large products are in bfloat16.
    """

    def __init__(
        self,
        n_rows: int,
        like: Tensor,
        *,
        returns: bool = True,
        updates: bool = False,
        rounds: bool = False,
    ) -> None:
        self.n_rows, self.like = n_rows, like
        self.returns, self.updates, self.rounds = returns, updates, rounds
        self._rounded: dict[tuple[Any, ...], Tensor] = {}
        self.unit = 1.0
        self.calls: list[Call] = []
        self.sums: list[tuple[Tensor, float]] = []  # of losses: what is added up, and its factor
        self.loss_per_row = 0.0  # what does not depend on the rows
        self.ones = torch.ones(n_rows, dtype=like.dtype, device=like.device)
        self._returns: list[Call] = []
        self._begun: set[int] = set()

    def buffer(self, *shape: int) -> Tensor:
        """Return a tensor to write to; rows first."""
        return torch.zeros(shape, dtype=self.like.dtype, device=self.like.device)

    def signal(self, width: int) -> Signal:
        """Return a signal to write to."""
        value = self.buffer(self.n_rows, width)
        return Signal(value, torch.zeros_like(value) if self.returns else value[:0])

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        """Add a call."""
        self.calls.append(partial(function, *arguments, **keywords))

    def on_backward(self, write: Call) -> None:
        """Register what adds the calls for the way back."""
        self._returns.append(write)

    def write_backward(self) -> None:
        """Add the calls for the way back, those of the last part first."""
        for write in reversed(self._returns):
            write()

    def add_product(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """Write ``a @ b`` to a gradient, or add it to what the pass has written there before."""
        begun = out.data_ptr() in self._begun
        self._begun.add(out.data_ptr())
        self.write_product(a, b, out, out if begun else None)

    def write_product(self, a: Tensor, b: Tensor, out: Tensor, start: Tensor | None) -> None:
        """Write ``a @ b``, or ``start + a @ b``, to `out`."""
        if self.rounds and a.numel() * b.shape[1] >= _custom.BFLOAT16_WORK:
            product = torch.zeros_like(out, dtype=torch.bfloat16)
            self.call(torch.mm, self._round(a), self._round(b), out=product)
            if start is None:
                self.call(out.copy_, product)
            else:
                self.call(torch.add, start, product, out=out)
        elif is_faster_by_onednn(a.numel() * b.shape[1], out):
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

    def count_product(self, a: Tensor, b: Tensor, factor: float) -> None:
        """Count ``factor * (a * b).sum()`` as loss."""
        total = self.buffer(1)
        self.call(total.addmv_, a.view(1, -1), b.view(-1))
        self.sums.append((total, factor))

    def count(self, values: Tensor, factor: float) -> Tensor:
        """Count ``factor * values.sum()`` as loss; return the tensor that `values` are added to."""
        total = torch.zeros_like(values)
        self.call(total.add_, values)
        self.sums.append((total, factor))
        return total

    def replay(self) -> None:
        """Make the calls."""
        for call in self.calls:
            call()

    def captured(self, changed: Sequence[Tensor]) -> Call:
        """Return what makes all calls as one launch: a CUDA graph of them.

        They are made once before, so that libraries have set themselves up, after which sums and
        what else is `changed` by them is put back.
        """
        changed = [*(total for total, _ in self.sums), *changed]
        before = [tensor.clone() for tensor in changed]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.replay()
        torch.cuda.current_stream().wait_stream(side)
        for tensor, saved in zip(changed, before, strict=True):
            tensor.copy_(saved)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.replay()
        return graph.replay

    def take_loss(self) -> Tensor:
        """Return the loss counted since the last time, without `loss_per_row`, float64 ()."""
        loss = torch.zeros((), dtype=torch.float64, device=self.like.device)
        for total, factor in self.sums:
            loss.add_(total.sum(dtype=torch.float64), alpha=factor)
            total.zero_()
        return loss


def accumulate_gradients(y: Tensor, gradient: Tensor) -> None:
    """Add the gradients of y, of which the loss has this gradient, to those of what it came from.

    It is what ``torch.Tensor.backward`` does after checks that take as long as the gradients of a
    small network.
    """
    engine = torch.autograd.Variable._execution_engine
    engine.run_backward((y,), (gradient,), False, False, (), True, accumulate_grad=True)
