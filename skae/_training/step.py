"""One optimisation step: gradients by autograd or written out, the row-slice rule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .._engine.models import Passes, have_closed_form
from .._engine.program import accumulate_gradients
from .._runtime.distributed import rank_and_size, sum_over_ranks
from .._runtime.isolation import isolated_for, isolated_state
from ..modules import Core
from ..modules._custom import Rounded, with_networks
from ..objectives import Corruption, Objective, Schedule
from ..objectives._schedules import value_at
from .adam import Adam

# A larger batch is worked off in slices of this many rows: memory stays bounded, and noise and
# normalisation belong to the whole batch, so the result is that of one piece, to rounding (what
# terms or networks of the user's compute over rows together is that of a slice).
_SLICE_ROWS = 4096

Corrupt = Callable[[Tensor, Generator], Tensor]


def even_slices(n_rows: int, most: int) -> list[slice]:
    """Cut rows into the fewest slices of at most `most` rows, about equally long."""
    length = math.ceil(n_rows / math.ceil(n_rows / most))
    return [slice(start, start + length) for start in range(0, n_rows, length)]


def corrupted(x: Tensor, corrupt: Corrupt | None, generator: Generator) -> Tensor:
    """Return what the encoder is given for a batch x; `corrupt` works on a copy.

    A callable of the user's own may draw from torch's global generators: they are lent to it.

    Raises
    ------
    ValueError
        If it returns anything but finite rows of the same shape.
    """
    if corrupt is None:
        return x
    own = isinstance(corrupt, Corruption)
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


class Step(ABC):
    """Steps of Adam, however gradients are come by.

    Parameters
    ----------
    core : Core
        The network, on its device. Its parameters become views of the flat vector.
    objective : Objective
        What is minimised.
    generator : torch.Generator
        Source of the noise, on the CPU.
    learning_rate : float or Schedule
        Adam's step size.
    weight_decay : float or Schedule, default=0.0
        What each step takes from the weights, relative to the step size; biases are spared.
    dropout : float or Schedule, default=0.0
        Odds that a hidden unit of the built-in networks is switched off for a row.
    max_grad_norm : float, Schedule or None, default=None
        Longer gradients are cut to this length.
    corrupt : callable or None, default=None
        ``(x, generator) -> x``: what is done to a batch before it is encoded.
    precision : {"float32", "bfloat16"}, default="float32"
        How exact large products are.
    slice_rows : int, default=4096
        Largest number of rows that pass through the network at once.
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
    ) -> None:
        self.core, self.objective, self.generator = core, objective, generator
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.dropout, self.max_grad_norm, self.corrupt = dropout, max_grad_norm, corrupt
        self._rounds = precision == "bfloat16"
        self.slowdown = 1.0
        self._is_isolated = False
        self._rank, self._n_ranks = rank_and_size()
        self.slice_rows = slice_rows
        learned = [*core.parameters(), *objective.parameters()]
        spared = {id(p) for p in core.no_decay()} | {id(p) for p in learned if p.ndim < 2}
        self._adam = Adam([p for p in learned if p.requires_grad], spared)
        self.weights, self.gradient = self._adam.weights, self._adam.gradient
        self._loss_sum = self.weights.new_zeros((), dtype=torch.float64)
        self._loss_constant = 0.0
        self._n_rows = 0
        self.begin_epoch(objective.progress)

    @property
    def schedules_finished(self) -> bool:
        """Whether the objective's weights and the step size are what they will be at the end."""
        constant = value_at(self.learning_rate, 1.0) == self._now(self.learning_rate)
        return self.objective.schedules_finished and constant

    def begin_epoch(self, progress: float) -> None:
        """Set what follows schedules to what it is at `progress`, between 0 and 1."""
        self.objective.progress = progress
        self.rate = self._now(self.learning_rate) * self.slowdown
        self._odds = self._now(self.dropout, "[0, 1)")
        longest = None if self.max_grad_norm is None else self._now(self.max_grad_norm)
        self._adam.set(self.rate, self._now(self.weight_decay), longest)

    def slow_down(self, factor: float) -> None:
        """Multiply the step size from now on."""
        self.slowdown *= factor
        self.begin_epoch(self.objective.progress)

    def _now(self, scalar: float | Schedule, interval: str = "[0, inf)") -> float:
        return value_at(scalar, self.objective.progress, interval)

    @contextmanager
    def mode(self) -> Iterator[None]:
        """Return the context in which steps are taken fastest: one loan for all of them."""
        with isolated_for(self.core, self.weights, self.generator):
            self._is_isolated = self.core.has_custom_parts
            try:
                yield
            finally:
                self._is_isolated = False

    def batch_buffer(self, n_rows: int) -> Tensor | None:
        """Return a tensor that a batch of `n_rows` rows may be written to before its step."""
        return None

    def __call__(self, x: Tensor) -> None:
        """Take one step on a global batch, shape (batch, n_features)."""
        n_rows = x.shape[0]
        x_in = corrupted(x, self.corrupt, self.generator)
        noise = self.core.draw_noise(n_rows, self.generator, self._odds)
        unit = self._differentiate(n_rows, x, x_in, noise)
        if self._n_ranks > 1:
            sum_over_ranks([self.gradient, *self.core.statistics()])
        self.core.update()
        self._adam(n_rows / unit)
        self._n_rows += n_rows

    @abstractmethod
    def _differentiate(
        self, n_rows: int, x: Tensor, x_in: Tensor, noise: Mapping[str, Tensor]
    ) -> float:
        """Put this rank's part of the gradient, of the sum over rows, into `gradient`.

        Counts the loss, lets the core observe the rows, and returns what the gradient is to be
        multiplied by.
        """

    def _generator_of_custom_parts(self) -> Generator:
        """Return the generator that seeds what the user's networks draw for a batch.

        It is one per batch, so that the fit's own moves alike on ranks with more and fewer slices.
        """
        if self._is_isolated or not self.core.has_custom_parts:
            return self.generator
        seed = int(torch.randint(2**62, (), generator=self.generator, device="cpu"))
        return Generator("cpu").manual_seed(seed)

    def _is_one_slice(self, n_rows: int) -> bool:
        """Return whether a batch passes through the network as a whole."""
        return n_rows * self.core.n_draws <= self.slice_rows and self._n_ranks == 1

    def _slices(self, n_rows: int) -> list[slice]:
        """Cut a batch of `n_rows` rows, or this rank's part of it, into slices."""
        rank, n_ranks = self._rank, self._n_ranks
        most = max(1, self.slice_rows // self.core.n_draws)
        return even_slices(n_rows, min(most, math.ceil(n_rows / n_ranks)))[rank::n_ranks]

    def end_epoch(self) -> float:
        """Return the mean loss per row since the last call; NaN if a weight is not finite."""
        constant = self._loss_sum.new_tensor(self._loss_constant)
        sum_over_ranks([self._loss_sum.add_(constant)])
        finite = self.weights.isfinite().all()
        loss = self._loss_sum / self._n_rows
        mean = torch.where(finite, loss, torch.nan)
        self._loss_sum.zero_()
        self._n_rows, self._loss_constant = 0, 0.0
        return float(mean)  # the epoch's one wait for the device

    def snapshot(self, spare: list[Tensor] | None = None) -> list[Tensor]:
        """Return copies of all that training changes, in the tensors of a `spare` snapshot."""
        if spare is None:
            return [tensor.clone() for tensor in self._state]
        return [saved.copy_(tensor) for saved, tensor in zip(spare, self._state, strict=True)]

    def restore(self, snapshot: list[Tensor]) -> None:
        """Go back to a snapshot."""
        with torch.no_grad():
            for tensor, saved in zip(self._state, snapshot, strict=True):
                tensor.copy_(saved)

    @property
    def _state(self) -> list[Tensor]:
        """All that training changes."""
        return [*self._adam.state, self.weights, *self.core.buffers()]

    def export_optimizer(self) -> list[np.ndarray]:
        """Return Adam's moments and step count, and the generator's state, as NumPy arrays."""
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


class AutogradStep(Step):
    """Steps for any core and any objective, all by automatic differentiation."""

    @cached_property
    def _evaluated(self) -> Core:
        return with_networks(self.core, Rounded) if self._rounds else self.core

    def _differentiate(
        self, n_rows: int, x: Tensor, x_in: Tensor, noise: Mapping[str, Tensor]
    ) -> float:
        noise = {name: drawn.to(device=x.device, dtype=x.dtype) for name, drawn in noise.items()}
        self.gradient.zero_()
        draws = self._generator_of_custom_parts()
        if self._is_one_slice(n_rows):
            self._add_slice(x, x_in, noise, draws)
            return 1.0
        for rows in self._slices(n_rows):
            part = {name: drawn[rows] for name, drawn in noise.items()}
            self._add_slice(x[rows], x_in[rows], part, draws)
        return 1.0

    def _add_slice(
        self, x: Tensor, x_in: Tensor, noise: Mapping[str, Tensor], draws: Generator
    ) -> None:
        """Add the gradient of some rows' loss, and the loss; let the core observe them."""
        if self.objective.needs_input_gradient:
            x_in = x_in.detach().clone().requires_grad_()
        with nullcontext() if self._is_isolated else isolated_for(self.core, x_in, draws):
            out = self._evaluated(x_in, noise)
        loss = self.objective(x, out).sum()
        if loss.requires_grad:
            accumulate_gradients(loss, torch.ones_like(loss))
        self._loss_sum += loss.detach()
        self.core.observe(x, out)


class ExplicitStep(Step):
    """Steps with gradients written out (see `Passes`), but for networks of the user's own."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._passes: dict[tuple[int, bool, bool], Passes] = {}
        self._whole: dict[int, Passes] = {}
        self._weights_now: list[float] = []
        super().__init__(*arguments, **settings)

    @property
    def _state(self) -> list[Tensor]:
        """All that training changes."""
        return super()._state if self.core.has_custom_parts else self._same_state

    @cached_property
    def _same_state(self) -> list[Tensor]:
        """All that training changes; built-in networks keep their tensors."""
        return super()._state

    def begin_epoch(self, progress: float) -> None:
        """Set what follows schedules to what it is at `progress`, between 0 and 1."""
        super().begin_epoch(progress)
        self._whole = {}
        if (weights := self.objective.weights()) != self._weights_now:
            self._collect_losses()
            self._weights_now, self._passes = weights, {}

    @contextmanager
    def mode(self) -> Iterator[None]:
        """Return the context in which steps are taken fastest.

        It includes torch's inference mode, unless code of the user's runs in it.
        """
        own = self.corrupt is None or isinstance(self.corrupt, Corruption)
        own = own and not self.core.has_custom_parts
        with super().mode(), torch.inference_mode() if own else nullcontext():
            yield

    def batch_buffer(self, n_rows: int) -> Tensor | None:
        """Return a tensor that a batch of `n_rows` rows may be written to before its step."""
        if not self._is_one_slice(n_rows):
            return None
        borrows = self.core.has_custom_parts and not self._is_isolated
        if borrows or self.corrupt is not None:
            return self._passes_for(n_rows).x
        self._whole[n_rows] = self._passes_for(n_rows, updates=True)
        return self._whole[n_rows].x

    def __call__(self, x: Tensor) -> None:
        """Take one step on a global batch, shape (batch, n_features)."""
        n_rows = x.shape[0]
        passes = self._whole.get(n_rows)
        if passes is None or x is not passes.x:
            super().__call__(x)
            return
        if passes.noise:
            noise = self.core.draw_noise(n_rows, self.generator, self._odds)
            passes.take_noise(noise)
        passes.replay()
        self._count(passes, n_rows)
        self._adam(n_rows / passes.unit)
        self._n_rows += n_rows

    def _differentiate(
        self, n_rows: int, x: Tensor, x_in: Tensor, noise: Mapping[str, Tensor]
    ) -> float:
        draws = self._generator_of_custom_parts()
        if self._is_one_slice(n_rows):
            return self._pass(x, x_in, noise, draws)
        total, slices = torch.zeros_like(self.gradient), self._slices(n_rows)
        for rows in slices:
            part = {name: drawn[rows] for name, drawn in noise.items()}
            self._pass(x[rows], x_in[rows], part, draws)
            total += self.gradient
        self.gradient.copy_(total)
        return self._passes_for(len(x[slices[0]]) if slices else 1).unit  # on all ranks the same

    def _pass(
        self, x: Tensor, x_in: Tensor, noise: Mapping[str, Tensor], draws: Generator
    ) -> float:
        passes = self._passes_for(x.shape[0])
        if x is not passes.x:
            passes.x.copy_(x)
        if passes.x_in is not passes.x:
            passes.x_in.copy_(x_in)
        passes.take_noise(noise)
        with nullcontext() if self._is_isolated else isolated_for(self.core, x_in, draws):
            passes.replay()
        self._count(passes, x.shape[0])
        return passes.unit

    def _count(self, passes: Passes, n_rows: int) -> None:
        self._loss_constant += passes.loss_per_row * n_rows

    def _passes_for(self, n_rows: int, *, updates: bool = False) -> Passes:
        """Return the passes for `n_rows` rows, made once for the present weights.

        `updates` says that these are the rows of a whole step.
        """
        key = n_rows, updates, self._odds > 0
        if key not in self._passes:
            with torch.inference_mode(False), torch.no_grad():
                self._passes[key] = Passes(
                    self.core,
                    self.objective.terms,
                    self._weights_now,
                    n_rows,
                    self.core.draw_noise(n_rows, Generator("cpu"), self._odds),
                    corrupted=self.corrupt is not None,
                    updates=updates,
                    rounds=self._rounds,
                )
        return self._passes[key]

    def _collect_losses(self) -> None:
        for passes in self._passes.values():
            self._loss_sum += passes.take_loss()

    def end_epoch(self) -> float:
        """Return the mean loss per row since the last call; NaN if a weight is not finite."""
        self._collect_losses()
        return super().end_epoch()


def make_step(core: Core, objective: Objective, generator: Generator, **settings: Any) -> Step:
    """Return the fastest step that serves a core and an objective."""
    kind = ExplicitStep if have_closed_form(core, objective) else AutogradStep
    return kind(core, objective, generator, **settings)
