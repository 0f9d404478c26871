"""Gradients by compiled passes on fixed buffers, one set for each number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Generator, Tensor

from .._engine.models import Passes
from .._runtime.isolation import isolated_for
from ..modules import Core
from ..objectives import Objective


class CompiledGradients:
    """Gradients of a core and an objective by `Passes`.

    Parameters
    ----------
    core : Core
        The network, whose parameters have a ``grad`` each.
    objective : Objective
        What is minimised.
    gradient : torch.Tensor of shape (n_weights,)
        The flat gradient, of which these are views.
    corrupted : bool
        Whether the encoder is given something else than the rows.
    rounds : bool
        Whether large products are in bfloat16.

    Raises
    ------
    NotComposable
        If the network or a term leaves its gradient to autograd.
    ValueError
        If a term has a parameter that is not valid.
    """

    is_compiled = True

    def __init__(
        self, core: Core, objective: Objective, gradient: Tensor, *, corrupted: bool, rounds: bool
    ) -> None:
        self.core, self.objective, self.gradient = core, objective, gradient
        self._corrupted, self._rounds = corrupted, rounds
        self._weights: list[float] = []
        self._dropout, self._constant = 0.0, 0.0
        self._passes: dict[tuple[int, bool, bool], Passes] = {}
        self._value = gradient.new_zeros((), dtype=torch.float64)
        self.begin_epoch(0.0)
        self.passes(1)

    def begin_epoch(self, dropout: float) -> None:
        """Take note of the objective's weights and the probability of dropout in an epoch."""
        self._dropout = dropout
        if (weights := self.objective.weights()) != self._weights:
            self._collect()
            self._weights, self._passes = weights, {}

    def passes(self, n_rows: int, *, updates: bool = False) -> Passes:
        """Return the passes for `n_rows` rows, made once for the present weights.

        `updates` says that these are the rows of a whole step.
        """
        key = n_rows, updates, self._dropout > 0
        if key not in self._passes:
            noise = self.core.draw_noise(n_rows, Generator("cpu"), self._dropout)
            with torch.inference_mode(False), torch.no_grad():
                self._passes[key] = Passes(
                    self.core,
                    self.objective.terms,
                    self._weights,
                    n_rows,
                    noise,
                    corrupted=self._corrupted,
                    updates=updates,
                    rounds=self._rounds,
                )
        return self._passes[key]

    def differentiate(
        self,
        x: Tensor,
        x_in: Tensor,
        noise: Mapping[str, Tensor],
        slices: Sequence[slice],
        generator: Generator | None,
    ) -> float:
        """Put the gradient of some slices' rows into `gradient`; return what it is divided by.

        `generator` seeds what custom networks draw; None where their state is isolated already.
        """
        if len(slices) == 1:
            return self._pass(x, x_in, noise, slices[0], generator)
        total = torch.zeros_like(self.gradient)
        for rows in slices:
            self._pass(x, x_in, noise, rows, generator)
            total += self.gradient
        self.gradient.copy_(total)
        return self.passes(1).unit  # the same on all ranks, whatever their rows

    def _pass(
        self,
        x: Tensor,
        x_in: Tensor,
        noise: Mapping[str, Tensor],
        rows: slice,
        generator: Generator | None,
    ) -> float:
        passes = self.passes(len(x[rows]))
        if x is not passes.x:
            passes.x.copy_(x[rows])
        if passes.x_in is not passes.x:
            passes.x_in.copy_(x_in[rows])
        passes.take_noise({name: drawn[rows] for name, drawn in noise.items()})
        with isolated_for(self.core, x_in, generator) if generator else nullcontext():
            return self.replay(passes)

    def replay(self, passes: Passes) -> float:
        """Make the passes and count the objective; return what the gradient is divided by."""
        passes.replay()
        self._constant += passes.constant * len(passes.x)
        return passes.unit

    def _collect(self) -> None:
        for passes in self._passes.values():
            self._value += passes.take_value()

    def take_value(self) -> Tensor:
        """Return the objective, summed over rows, since the last call, float64 ()."""
        self._collect()
        value, self._constant = self._value + self._constant, 0.0
        self._value.zero_()
        return value
