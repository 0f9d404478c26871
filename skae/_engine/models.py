"""The passes of a whole network and its objective, composed of what networks and terms bind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..modules import Core
from ..objectives import Buffers, Term
from ..objectives._checks import is_built_in
from ..objectives._objective import FORMULAS, bound_by
from .layers import multiplied, write_gains, write_network
from .program import Call, Program, Signal

# The methods that say what a quantizer or a core does; see `bound_by`.
_LOOKING_UP = "nearest", "quantize", "lookup", "partial_sums"
_QUANTIZING = *_LOOKING_UP, "straight_through", "observe", "update"
_PASSING = "forward", "encode", "observe", "update"


class NotComposable(Exception):
    """A network or a term does not bind its gradient: autograd is to differentiate."""


class Composer:
    """What `Core.compose` writes its pass to.

    A method that may not know a gradient returns something false in that case.

    Parameters
    ----------
    program : Program
        Where the calls go.
    x, x_in : torch.Tensor of shape (n_rows, n_features)
        The clean rows, and what the encoder is given.
    noise : mapping of str to torch.Tensor
        Buffers of what `Core.draw_noise` draws.
    terms : sequence of Term
        What is minimised.
    factors : sequence of float
        What the gradient of each term is multiplied by.
    updates : bool
        Whether these are all rows of a step, so that `Core.update` belongs to the pass.
    """

    def __init__(
        self,
        program: Program,
        x: Tensor,
        x_in: Tensor,
        noise: Mapping[str, Tensor],
        terms: Sequence[Term],
        factors: Sequence[float],
        updates: bool,
    ) -> None:
        self.noise, self.updates, self.n_rows = noise, updates, program.n_rows
        self.rows, self.signal = Signal(x_in, x_in[:0]), program.signal
        self.bound: list[tuple[int, Buffers]] = []
        self._program, self._x, self._terms, self._factors = program, x, terms, factors

    def forward(self, call: Call) -> None:
        """Add a call."""
        self._program.call(call)

    def backward(self, call: Call) -> None:
        """Add a call to the pass backward, which runs in reverse order."""
        self._program.on_backward(lambda: self._program.call(call))

    def network(self, net: Any, x: Signal, mask: str) -> Signal:
        """Write a network's pass from x, with the dropout mask of a name; return its output."""
        y, inputs = self.signal(net.n_out), x is not self.rows
        write_network(self._program, net, x, y, self.noise.get(mask), inputs=inputs)
        return y

    def multiply(self, h: Signal, factor: Tensor) -> Signal:
        """Write the product of a signal with factors that have no gradient."""
        return multiplied(self._program, h, factor)

    def gains(self, net: Any) -> Signal | None:
        """Write the gains of a network, after the other gradients in its weights; None without."""
        layers = net.dense_layers()
        return None if layers is None else write_gains(self._program, layers)

    def activate(self, activation: Any, z: Signal) -> bool:
        """Write a code activation, in place."""
        if activation is None:
            return True
        bound = hasattr(activation, "bind") and bound_by(activation, FORMULAS)(*z)
        if not bound:
            return False
        forward, backward = bound
        self.forward(forward)
        self.backward(backward)
        return True

    def quantize(self, quantizer: Any, *buffers: Tensor) -> bool:
        """Write what quantizes and what codebooks learn, see `Quantizer.bind`."""
        bound = bound_by(quantizer, _QUANTIZING)(*buffers, updates=self.updates)
        if not bound:
            return False
        assign, learn = bound
        self.forward(assign)
        if learn:
            self.backward(learn)
        return True

    def loss(self, x_hat: Signal, residual: Tensor | None = None, **more: Any) -> bool:
        """Bind the first term, the loss of reconstructions, once `x_hat` is known."""
        call = self._bind(0, {"x_hat": x_hat, **more}, residual)
        if call:
            self.forward(call)
        return bool(call)

    def terms(self, **outputs: Any) -> bool:
        """Bind the other terms: backward, they add to the gradients in these pairs of tensors."""
        calls = [self._bind(i, outputs) for i in range(1, len(self._terms))]
        for call in filter(None, calls):
            self.backward(call)
        return all(calls)

    def _bind(
        self, number: int, outputs: Mapping[str, Any], residual: Tensor | None = None
    ) -> Call | None:
        """Return a term as a call on pairs of value and gradient, by name."""
        term = self._terms[number]
        if not set(term.needs_outputs) <= set(outputs):
            return None
        values, gradients = (
            SimpleNamespace(**{name: pair[i] for name, pair in outputs.items()}) for i in (0, 1)
        )
        buffers = Buffers(self._x, values, gradients, self._factors[number], residual)
        self.bound.append((number, buffers))
        call: Call | None = bound_by(term, FORMULAS)(buffers)
        return call


class Passes:
    """Forward and backward pass of a core and an objective for batches of a fixed number of rows.

    `replay` reads `x`, `x_in` and `noise`, which are to be filled in beforehand, and leaves the
    gradients of the mean objective times ``n_rows / unit`` in the parameters' ``grad``.

    Parameters
    ----------
    core : Core
        A network whose parameters have a ``grad`` each.
    terms : sequence of Term
        What is minimised.
    weights : sequence of float
        The terms' weights.
    n_rows : int
        Number of rows.
    noise : mapping of str to torch.Tensor
        What `Core.draw_noise` draws for so many rows.
    corrupted : bool
        Whether the encoder is given something else than the rows.
    updates : bool
        Whether the core is updated too, as `Core.update` does: for rows that are a whole step's.
    rounds : bool
        Whether large products are in bfloat16.

    Raises
    ------
    NotComposable
        If the network or a term leaves its gradient to autograd.
    ValueError
        If a term has a parameter that is not valid.

    Attributes
    ----------
    x, x_in : torch.Tensor of shape (n_rows, n_features)
        The rows, and what the encoder is given: the same tensor unless `corrupted`.
    noise : dict of str to torch.Tensor
        Buffers for the noise.
    unit : float
        What gradients are divided by.
    constant : float
        What each row adds to the objective, whatever it is.
    """

    def __init__(
        self,
        core: Core,
        terms: Sequence[Term],
        weights: Sequence[float],
        n_rows: int,
        noise: Mapping[str, Tensor],
        *,
        corrupted: bool,
        updates: bool,
        rounds: bool,
    ) -> None:
        like = next((p.detach() for p in core.parameters() if p.requires_grad), None)
        nets = core.encoder, core.decoder
        if like is None or not all(hasattr(net, "dense_layers") for net in nets):
            raise NotComposable("The network leaves its gradient to autograd.")
        self.unit = terms[0].gradient_unit
        self._program = Program(n_rows, like, rounds=rounds)
        self.x = self.x_in = self._program.buffer(n_rows, core.encoder.n_in)
        if corrupted:
            self.x_in = torch.zeros_like(self.x)
        self.noise = {
            name: torch.zeros_like(drawn, device=like.device, dtype=like.dtype)
            for name, drawn in noise.items()
        }
        factors = [weight / self.unit for weight in weights]
        steps = Composer(self._program, self.x, self.x_in, self.noise, terms, factors, updates)
        if not bound_by(core, _PASSING, "compose")(steps):
            raise NotComposable(
                "A part of the network, or a term's bind, leaves the gradient to autograd."
            )
        self._program.write_backward()
        self.constant = sum(weights[i] * term.constant for i, term in steps.bound)
        self._totals = [
            (total, weights[i] * factor) for i, term in steps.bound for total, factor in term.totals
        ]
        self._core, self._terms = core, terms

    @cached_property
    def replay(self) -> Call:
        """What makes the calls: one by one, or on CUDA as one launch, see `_is_capturable`."""
        captures = self.x.device.type == "cuda" and self._is_capturable
        return self.captured() if captures else self._program.replay

    @property
    def _is_capturable(self) -> bool:
        """Whether autograd has no part, nor has code of the user's, which is to run each time."""
        parts = [*self._terms, *(getattr(term, "term", None) for term in self._terms)]
        parts += [getattr(self._core, name, None) for name in ("code_activation", "quantizer")]
        return self._core.shows_layers and all(is_built_in(p) for p in parts if p is not None)

    def captured(self) -> Call:
        """Return what makes the calls as one launch, a CUDA graph."""
        changed = [*(total for total, _ in self._totals), *self._core.buffers()]
        return self._program.captured(changed)

    def take_noise(self, noise: Mapping[str, Tensor]) -> None:
        """Put what was drawn where `replay` reads it."""
        for name, drawn in noise.items():
            self.noise[name].copy_(drawn)

    def take_value(self) -> Tensor:
        """Return the objective counted since the last time, without `constant`, float64 ()."""
        value = torch.zeros((), dtype=torch.float64, device=self.x.device)
        for total, factor in self._totals:
            value.add_(total.sum(dtype=torch.float64), alpha=factor)
            total.zero_()
        return value
