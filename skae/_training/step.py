"""One optimisation step: corruption, noise, gradients, update; the row-slice rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .._data.batches import Rows
from .._engine.kernels import accumulate_gradients
from .._engine.models import NotComposable
from .._runtime.distributed import rank_and_size, sum_over_ranks
from .._runtime.isolation import isolated_for, isolated_state
from ..modules import Core
from ..modules._custom import Rounded, with_networks
from ..objectives import Corruption, Objective, Schedule
from ..objectives._schedules import value_at
from .adam import ScheduleFreeAdam
from .compiled_step import CompiledGradients

# A larger batch is worked off in slices of this many rows: memory stays bounded, and noise and
# normalisation belong to the whole batch, so the result is that of one piece, to rounding (what
# terms or networks of the user's compute over rows together is that of a slice).
_SLICE_ROWS = 4096
# What closed forms determine is measured on so many rows once an epoch is over.
_SETTLING_ROWS = 4096

Corrupt = Callable[[Tensor, Generator], Tensor]


def even_slices(n_rows: int, most: int) -> list[slice]:
    """Cut rows into the fewest slices of at most `most` rows, about equally long."""
    length = math.ceil(n_rows / math.ceil(n_rows / most))
    return [slice(start, start + length) for start in range(0, n_rows, length)]


def _is_own(corrupt: Corrupt) -> bool:
    """Return whether a corruption draws from its generator alone and returns finite rows."""
    return isinstance(corrupt, Corruption)


def corrupted(x: Tensor, corrupt: Corrupt | None, generator: Generator) -> Tensor:
    """Return what the encoder is given for a batch x; `corrupt` works on a copy.

    A callable of the user's may draw from torch's global generators: these are isolated for it.

    Raises
    ------
    ValueError
        If it returns anything but finite rows of the same shape.
    """
    if corrupt is None:
        return x
    own = _is_own(corrupt)
    with nullcontext() if own else isolated_state(generator, x.dtype, x.device):
        x_in = corrupt(x.clone(), generator)
    shape = tuple(x_in.shape) if isinstance(x_in, Tensor) else None
    if shape != tuple(x.shape):
        raise ValueError(
            f"corruption must return a tensor of the batch's shape {tuple(x.shape)}, but "
            f"{corrupt!r} returned {'shape ' + str(shape) if shape else repr(x_in)}."
        )
    if not (own or x_in.isfinite().all()):
        raise ValueError(f"corruption must return finite rows, but {corrupt!r} did not.")
    return x_in.to(x)


class Step:
    """Steps on batches that are global: noise and normalisation belong to the whole batch.

    Steps are those of schedule-free Adam, between `begin_epoch` and `end_epoch`. Outside of these
    the core has averaged weights, which are the ones to evaluate and to keep.

    The gradients come from `CompiledGradients` where the network and all terms bind theirs, and
    else from `AutogradGradients`.

    Parameters
    ----------
    core : Core
        The network, on its device. Its parameters become views of the flat vector.
    objective : Objective
        What is minimised.
    generator : torch.Generator
        Source of the noise, on the CPU.
    learning_rate : float or Schedule
        Step size.
    weight_decay : float or Schedule, default=0.0
        What each step takes from the weights, relative to the step size; not from biases.
    dropout : float or Schedule, default=0.0
        Probability that a hidden unit of the built-in networks is switched off for a row.
    max_grad_norm : float, Schedule or None, default=None
        Longer gradients are cut to this length.
    corrupt : callable or None, default=None
        ``(x, generator) -> x``: what is done to a batch before it is encoded.
    precision : {"float32", "bfloat16"}, default="float32"
        How exact large products are.
    slice_rows : int, default=4096
        Largest number of rows that pass through the network at once.
    compiled : bool or None, default=None
        Whether gradients are compiled; None is where they can be.

    Raises
    ------
    NotComposable
        If ``compiled=True`` and they cannot be.
    """

    def __init__(
        self,
        core: Core,
        objective: Objective,
        generator: Generator,
        *,
        learning_rate: float | Schedule,
        weight_decay: float | Schedule = 0.0,
        dropout: float | Schedule = 0.0,
        max_grad_norm: float | Schedule | None = None,
        corrupt: Corrupt | None = None,
        precision: str = "float32",
        slice_rows: int = _SLICE_ROWS,
        compiled: bool | None = None,
    ) -> None:
        self.core, self.objective, self.generator = core, objective, generator
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.dropout, self.max_grad_norm, self.corrupt = dropout, max_grad_norm, corrupt
        self.slowdown, self.slice_rows = 1.0, slice_rows
        self._is_isolated, self._n_rows = False, 0
        self._rank, self._n_ranks = rank_and_size()
        learned = [*core.parameters(), *objective.parameters()]
        no_decay = {id(p) for p in core.no_decay()} | {id(p) for p in learned if p.ndim < 2}
        self._adam = ScheduleFreeAdam([p for p in learned if p.requires_grad], no_decay)
        self.weights, self.gradient = self._adam.weights, self._adam.gradient
        self._gradients: Any = self._make_gradients(compiled, precision == "bfloat16")
        self._follow_schedules()

    def _make_gradients(
        self, compiled: bool | None, rounds: bool
    ) -> CompiledGradients | AutogradGradients:
        made = self.core, self.objective, self.gradient
        if compiled is not False:
            try:
                corrupted = self.corrupt is not None
                return CompiledGradients(*made, corrupted=corrupted, rounds=rounds)
            except NotComposable:
                if compiled:
                    raise
        return AutogradGradients(*made, rounds=rounds)

    @property
    def is_compiled(self) -> bool:
        """Whether gradients are compiled."""
        return self._gradients.is_compiled

    @property
    def schedules_finished(self) -> bool:
        """Whether the objective's weights and the step size are what they will be at the end."""
        constant = value_at(self.learning_rate, 1.0) == self._now(self.learning_rate)
        return self.objective.schedules_finished and constant

    def begin_epoch(self, progress: float) -> None:
        """Set what follows schedules to what it is at `progress`, between 0 and 1."""
        self.objective.progress = progress
        self._follow_schedules()
        self._adam.begin()

    def _follow_schedules(self) -> None:
        self.rate = self._now(self.learning_rate) * self.slowdown
        self._dropout = self._now(self.dropout, "[0, 1)")
        longest = None if self.max_grad_norm is None else self._now(self.max_grad_norm)
        self._adam.set(self.rate, self._now(self.weight_decay), longest)
        self._gradients.begin_epoch(self._dropout)
        self._whole: dict[int, Any] = {}

    def slow_down(self, factor: float) -> None:
        """Multiply the step size from now on."""
        self.slowdown *= factor
        self._follow_schedules()

    def _now(self, scalar: float | Schedule, interval: str = "[0, inf)") -> float:
        return value_at(scalar, self.objective.progress, interval)

    @contextmanager
    def mode(self) -> Iterator[None]:
        """Return the context in which steps are taken fastest: global state is isolated once.

        Where all gradients are compiled, and no code of the user's runs, it includes torch's
        inference mode.
        """
        custom = self.core.has_custom_parts
        known = self.is_compiled and self.core.shows_layers
        known = known and (self.corrupt is None or _is_own(self.corrupt))
        inference = torch.inference_mode() if known else nullcontext()
        with isolated_for(self.core, self.weights, self.generator), inference:
            self._is_isolated = custom
            try:
                yield
            finally:
                self._is_isolated = False

    def batch_buffer(self, n_rows: int) -> Tensor | None:
        """Return a tensor that a batch of `n_rows` rows may be written to before its step."""
        if not self.is_compiled or self._n_ranks > 1 or len(self._slices(n_rows)) > 1:
            return None
        if self.corrupt is not None or self._generator_is_needed:
            return self._gradients.passes(n_rows).x
        self._whole[n_rows] = self._gradients.passes(n_rows, updates=True)
        return self._whole[n_rows].x

    def __call__(self, x: Tensor) -> None:
        """Take one step on a global batch, shape (batch, n_features)."""
        n_rows = x.shape[0]
        whole = self._whole.get(n_rows)
        if whole is not None and x is whole.x:
            if whole.noise:
                whole.take_noise(self.core.draw_noise(n_rows, self.generator, self._dropout))
            unit = self._gradients.replay(whole)
        else:
            unit = self._differentiate(x)
            if self._n_ranks > 1:
                sum_over_ranks([self.gradient, *self.core.statistics()])
            self.core.update()
        self._adam(n_rows / unit)
        self._n_rows += n_rows

    def _differentiate(self, x: Tensor) -> float:
        """Put this rank's part of the gradient, of the sum over rows, into `gradient`.

        Counts the objective, lets the core observe the rows, and returns what the gradient has been
        divided by.
        """
        n_rows = x.shape[0]
        x_in = corrupted(x, self.corrupt, self.generator)
        noise = self.core.draw_noise(n_rows, self.generator, self._dropout)
        generator = None
        if self._generator_is_needed:
            # one per batch, so that the fit's own moves alike on ranks with more and fewer slices
            seed = int(torch.randint(2**62, (), generator=self.generator, device="cpu"))
            generator = Generator("cpu").manual_seed(seed)
        return self._gradients.differentiate(x, x_in, noise, self._slices(n_rows), generator)

    @property
    def _generator_is_needed(self) -> bool:
        """Whether custom networks are given isolated global state for each batch."""
        return self.core.has_custom_parts and not self._is_isolated

    def _slices(self, n_rows: int) -> list[slice]:
        """Cut a batch of `n_rows` rows, or this rank's part of it, into slices."""
        rank, n_ranks = self._rank, self._n_ranks
        most = max(1, self.slice_rows // self.core.n_draws)
        if n_rows <= most and n_ranks == 1:
            return [slice(None)]
        return even_slices(n_rows, min(most, math.ceil(n_rows / n_ranks)))[rank::n_ranks]

    def end_epoch(self) -> float:
        """Return the mean loss per row since the last call; NaN if a weight is not finite.

        The loss of each batch is that of the weights with which its step began.
        """
        self._adam.end()
        total = self._gradients.take_value()
        sum_over_ranks([total])
        finite = self.weights.isfinite().all()
        mean = torch.where(finite, total / self._n_rows, torch.nan)
        self._n_rows = 0
        return float(mean)  # the epoch's one wait for the device

    @torch.no_grad()
    def settle(self, rows: Rows) -> None:
        """Let closed forms follow the averaged weights, by some of the training rows."""
        core, generator = self.core, self.generator
        if not core.settles:
            return
        training = core.training
        core.eval()
        with isolated_for(core, self.weights, generator):
            for x in rows.sample(_SETTLING_ROWS, generator):
                noise = core.draw_noise(len(x), generator)
                core.observe(x, core(x, {name: drawn.to(x) for name, drawn in noise.items()}))
        core.settle()
        core.train(training)

    def snapshot(self, reuse: list[Tensor] | None = None) -> list[Tensor]:
        """Return copies of all that training changes, in the tensors of a snapshot to `reuse`."""
        if reuse is None:
            return [tensor.clone() for tensor in self._state()]
        return [saved.copy_(tensor) for saved, tensor in zip(reuse, self._state(), strict=True)]

    def restore(self, snapshot: list[Tensor]) -> None:
        """Go back to a snapshot."""
        with torch.no_grad():
            for tensor, saved in zip(self._state(), snapshot, strict=True):
                tensor.copy_(saved)

    def _state(self) -> list[Tensor]:
        """Return all that training changes; custom networks may replace their tensors."""
        return self._found_state() if self.core.has_custom_parts else self._same_state

    @cached_property
    def _same_state(self) -> list[Tensor]:
        return self._found_state()

    def _found_state(self) -> list[Tensor]:
        return [*self._adam.state, self.weights, *self.core.buffers()]

    def export_optimizer(self) -> list[np.ndarray]:
        """Return the state of the optimiser and of the generator, as NumPy arrays."""
        optimizer = [tensor.cpu().numpy().copy() for tensor in self._adam.state]
        return [*optimizer, self.generator.get_state().numpy().copy()]

    def import_optimizer(self, arrays: list[np.ndarray]) -> None:
        """Continue from what `export_optimizer` returned, if it was about as many weights."""
        *optimizer, generator_state = arrays
        if optimizer[0].shape != self.weights.shape:
            return
        for tensor, saved in zip(self._adam.state, optimizer, strict=True):
            tensor.copy_(torch.tensor(saved, device="cpu"))
        self.generator.set_state(torch.tensor(generator_state, device="cpu"))


class AutogradGradients:
    """Gradients of any core and any objective, all by automatic differentiation.

    The parameters are those of `CompiledGradients`.
    """

    is_compiled = False

    def __init__(self, core: Core, objective: Objective, gradient: Tensor, *, rounds: bool) -> None:
        self.core, self.objective, self.gradient = core, objective, gradient
        self._evaluated = with_networks(core, Rounded) if rounds else core
        self._value = gradient.new_zeros((), dtype=torch.float64)

    def begin_epoch(self, dropout: float) -> None:
        """Do nothing: nothing is kept from one epoch to the next."""

    def differentiate(
        self,
        x: Tensor,
        x_in: Tensor,
        noise: Mapping[str, Tensor],
        slices: Sequence[slice],
        generator: Generator | None,
    ) -> float:
        """Put the gradient of some slices' rows into `gradient`; return 1."""
        noise = {name: drawn.to(device=x.device, dtype=x.dtype) for name, drawn in noise.items()}
        self.gradient.zero_()
        for rows in slices:
            part = {name: drawn[rows] for name, drawn in noise.items()}
            self._add(x[rows], x_in[rows], part, generator)
        return 1.0

    def _add(
        self, x: Tensor, x_in: Tensor, noise: Mapping[str, Tensor], generator: Generator | None
    ) -> None:
        """Add the gradient of some rows' objective, and its value; let the core observe them."""
        if self.objective.needs_input_gradient:
            x_in = x_in.detach().clone().requires_grad_()
        with isolated_for(self.core, x_in, generator) if generator else nullcontext():
            out = self._evaluated(x_in, noise)
        value = self.objective(x, out).sum()
        if value.requires_grad:
            accumulate_gradients(value, torch.ones_like(value))
        self._value += value.detach()
        self.core.observe(x, out)

    def take_value(self) -> Tensor:
        """Return the objective, summed over rows, since the last call, float64 ()."""
        value = self._value.clone()
        self._value.zero_()
        return value
