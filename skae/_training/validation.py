"""Validation: on what losses states of the network are compared, and which state wins."""

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
# So many standard errors the gain of an epoch is not taken for by having been selected.
_ERRORS_OF_SELECTED = 3.0
# Of few rows the standard error is too small, since those of a fold share a network: it takes twice
# as many errors where there are no more rows than these.
_FEW_ROWS = 25


@dataclass(frozen=True)
class ValidationPlan:
    """What the validation set decides about a network in training.

    Parameters
    ----------
    stops_training : bool, default=False
        Whether each epoch is evaluated, the best is kept, and training ends when epochs no longer
        improve. Otherwise all epochs run, and the last is compared with the start.
    start_competes : bool, default=False
        Whether the state before the first epoch is kept unless the gain over it exceeds its noise.
    n_iter_no_change : int, default=10
        Epochs in a row without an improvement that end training.
    tol : float, default=0.0
        Smallest improvement that counts as one, on the loss of the last epoch that counted.
    leaves_out_outliers : bool, default=False
        Whether rows whose loss at the start is far above that of most rows do not count, see
        `within_reach`: what a network makes of these would outweigh all others.
    """

    stops_training: bool = False
    start_competes: bool = False
    n_iter_no_change: int = 10
    tol: float = 0.0
    leaves_out_outliers: bool = False


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


@dataclass(frozen=True)
class State:
    """A state of the network in training.

    Attributes
    ----------
    n_epochs : int
        Epochs before it.
    losses : torch.Tensor of shape (n_rows,)
        Its losses on the validation set.
    snapshot : list of list of torch.Tensor
        What to restore.
    """

    n_epochs: int
    losses: Tensor
    snapshot: list[list[Tensor]]

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.losses.mean())


class BestState:
    """The best epoch so far by validation loss, and the start, which may win in the end.

    The best epoch's own loss flatters it, since it was selected by that. Therefore each group of
    rows is also compared at the epoch that the rows of the other groups choose.

    Parameters
    ----------
    plan : ValidationPlan
        What is decided.
    losses : torch.Tensor of shape (n_rows,)
        The start's validation losses.
    snapshot : list of list of torch.Tensor
        The start.
    groups : torch.Tensor of int of shape (n_rows,)
        The group of each row, from 0.

    Attributes
    ----------
    start : State
        The start.
    n_epochs : int
        Number of epochs seen.
    n_epochs_without_gain : int
        The patience counter.
    """

    def __init__(
        self,
        plan: ValidationPlan,
        losses: Tensor,
        snapshot: list[list[Tensor]],
        groups: Tensor,
    ) -> None:
        self.plan, self._groups = plan, groups
        self.start = State(0, losses, snapshot)
        n_groups = int(groups.max()) + 1 if len(groups) else 0
        others = [groups != group for group in range(n_groups)] if n_groups > 1 else []
        self._choosers = [torch.ones(len(groups), dtype=torch.bool, device="cpu"), *others]
        self._chosen = [self.start] * len(self._choosers)
        self._lowest = [math.inf] * len(self._choosers)
        self.n_epochs, self.n_epochs_without_gain, self._to_beat = 0, 0, math.inf

    @property
    def out_of_patience(self) -> bool:
        """Whether as many epochs in a row as the plan allows brought no improvement."""
        return self.n_epochs_without_gain >= self.plan.n_iter_no_change

    @property
    def loss(self) -> float:
        """Smallest mean loss of an epoch; infinite before the first."""
        return self._lowest[0]

    def holds(self, snapshot: list[list[Tensor]]) -> bool:
        """Return whether a snapshot may yet be restored, so that it must not be overwritten."""
        return any(snapshot is state.snapshot for state in (self.start, *self._chosen))

    def update(self, losses: Tensor, snapshot: list[list[Tensor]], *, is_final: bool) -> float:
        """Keep an epoch's snapshot if it is the best, count patience, and return the mean loss.

        Small gains count once they add up to `tol`. Epochs before the weights of the objective's
        terms are final do not cost patience, and later ones need not be better than these.
        """
        self.n_epochs += 1
        state = State(self.n_epochs, losses, snapshot)
        gained = state.loss < self._to_beat - self.plan.tol
        self.n_epochs_without_gain = 0 if gained else self.n_epochs_without_gain + 1
        if gained:
            self._to_beat = state.loss if is_final else math.inf
        for i, chooser in enumerate(self._choosers):
            loss = float(losses[chooser].mean())
            if loss < self._lowest[i]:
                self._lowest[i], self._chosen[i] = loss, state
        return state.loss

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return max(len(self._chosen) - 1, 1)

    def chosen_without(self, group: int) -> State:
        """Return the best epoch by the rows of all other groups."""
        return self._chosen[1 + group if len(self._chosen) > 1 else 0]

    def keep_start(self) -> None:
        """Let the start win, whatever epochs gained on the validation set."""
        self._chosen = [self.start] * len(self._chosen)

    def gains(self) -> Tensor:
        """Return by how much the loss of each row is below the start's, after selection by others.

        A row is compared at the epoch that the rows of the other groups choose, float64 of shape
        (n_rows,).
        """
        gains = self.start.losses - self._chosen[0].losses
        for group in range(len(self._chosen) - 1):
            rows = self._groups == group
            gains[rows] = (self.start.losses - self.chosen_without(group).losses)[rows]
        return gains

    def choose(self) -> State:
        """Return the state to restore.

        It is the best epoch, but a start that competes is left only for a mean gain per row of
        more than one standard error (two of 25 rows, and in between of others), or more than three
        of the best epoch's own gain, which selection alone does not reach: networks of several
        folds may need unlike numbers of epochs.
        """
        own = self.start.losses - self._chosen[0].losses
        n_errors = 1 + _FEW_ROWS / max(len(own), _FEW_ROWS)
        leaves = is_beyond(self.gains(), n_errors) or is_beyond(own, _ERRORS_OF_SELECTED)
        return self._chosen[0] if leaves or not self.plan.start_competes else self.start


def is_beyond(gains: Tensor, n_errors: float) -> bool:
    """Return whether the mean of gains is larger than so many of its standard errors."""
    error = float(gains.std()) / len(gains) ** 0.5 if len(gains) > 1 else math.inf
    return float(gains.mean()) > n_errors * error
