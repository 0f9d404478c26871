"""Validation: which rows compare states of the network, on what losses, and which state wins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .._data.batches import Rows
from .._runtime.isolation import isolated_for
from ..modules import Core
from ..objectives import Objective
from .step import Corrupt, corrupted

_EVALUATION_ROWS = 2048


@dataclass(frozen=True)
class ValidationPlan:
    """Which rows compare the states of a network in training, and what they decide.

    Parameters
    ----------
    rows : Rows or None, default=None
        The validation set; without one the last epoch is kept. Where it does not stop training it
        may consist of training rows.
    stops_training : bool, default=False
        Whether each epoch is evaluated, the best is kept, and training ends when epochs no longer
        improve. Otherwise all epochs run, and the last is compared with the start.
    start_competes : bool, default=False
        Whether the state before the first epoch is kept unless the gain over it exceeds its noise.
    n_iter_no_change : int, default=10
        Epochs in a row without an improvement that end training.
    tol : float, default=0.0
        Smallest improvement on the best loss so far that counts as one.
    """

    rows: Rows | None = None
    stops_training: bool = False
    start_competes: bool = False
    n_iter_no_change: int = 10
    tol: float = 0.0


class ValidationSet:
    """The rows of the validation set, and the noise under which all epochs are compared.

    Parameters
    ----------
    core : Core
        The network being trained.
    objective : Objective
        What is minimised.
    rows : Rows
        The rows.
    generator : torch.Generator
        Source of the noise.
    corrupt : callable or None, default=None
        ``(x, generator) -> x``: what is done to rows before they are encoded.
    """

    def __init__(
        self,
        core: Core,
        objective: Objective,
        rows: Rows,
        generator: Generator,
        corrupt: Corrupt | None = None,
    ) -> None:
        self.core, self.objective = core, objective.for_validation()
        self.rows, self.corrupt = rows, corrupt
        self.noise = core.eval().draw_noise(rows.n_rows, generator)
        self.seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))

    def losses(self) -> Tensor:
        """Return the loss of each row as the network is now, float64 of shape (n_rows,)."""
        if not self.core.has_custom_parts:
            return self._losses()
        self.core.eval()
        try:
            return self._losses()
        finally:
            self.core.train()

    def _losses(self) -> Tensor:
        losses, start = [], 0
        differentiates = self.objective.needs_input_gradient
        same_draws = Generator("cpu").manual_seed(self.seed)
        with torch.set_grad_enabled(differentiates):
            for x in self.rows.in_order(max(1, _EVALUATION_ROWS // self.core.n_draws)):
                x_in = corrupted(x, self.corrupt, same_draws)
                x_in = x_in.detach().requires_grad_(differentiates)
                part = slice(start, start + len(x))
                noise = {name: drawn[part].to(x.device) for name, drawn in self.noise.items()}
                with isolated_for(self.core, x_in):
                    out = self.core(x_in, noise)
                losses.append(self.objective(x, out).detach().double())
                start += len(x)
        return torch.cat(losses).cpu()


class BestState:
    """The best state so far by validation loss, and the start, which may win in the end.

    Parameters
    ----------
    plan : ValidationPlan
        What decides.
    losses : torch.Tensor of shape (n_rows,)
        The start's validation losses.
    snapshot : list of torch.Tensor
        The start.

    Attributes
    ----------
    loss : float
        Smallest mean loss of an epoch; infinite before the first.
    n_epochs_without_gain : int
        The patience counter.
    """

    def __init__(self, plan: ValidationPlan, losses: Tensor, snapshot: list[Tensor]) -> None:
        self.plan = plan
        self.start, self._start_losses = snapshot, losses
        self._snapshot, self._losses = snapshot, losses
        self.loss, self.n_epochs_without_gain = math.inf, 0

    @property
    def out_of_patience(self) -> bool:
        """Whether as many epochs in a row as the plan allows brought no improvement."""
        return self.n_epochs_without_gain >= self.plan.n_iter_no_change

    def holds(self, snapshot: list[Tensor]) -> bool:
        """Return whether a snapshot may yet be restored, so that it must not be overwritten."""
        return snapshot is self._snapshot or snapshot is self.start

    def update(self, losses: Tensor, snapshot: list[Tensor], *, schedules_finished: bool) -> float:
        """Keep an epoch's snapshot if it is the best, count patience, and return the mean loss.

        Epochs before the schedules of the objective are finished do not cost patience.
        """
        loss = float(losses.mean())
        without_gain = loss >= self.loss - self.plan.tol and schedules_finished
        self.n_epochs_without_gain = self.n_epochs_without_gain + 1 if without_gain else 0
        if loss < self.loss:
            self.loss, self._losses, self._snapshot = loss, losses, snapshot
        return loss

    def choose(self) -> tuple[list[Tensor], float]:
        """Return the snapshot to restore and its mean loss.

        It is the best epoch's, but a start that competes is left only for a mean gain per row of
        more than one standard error of the paired gains.
        """
        gain = self._start_losses - self._losses
        noise = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else math.inf
        if self.plan.start_competes and float(gain.mean()) <= noise:
            return self.start, float(self._start_losses.mean())
        return self._snapshot, float(self._losses.mean())
