"""The learner: networks in training with their rows, one, or one for each fold of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._data.batches import Rows
from .._data.outliers import within_reach
from .step import Step
from .validation import ValidationSet


@dataclass(frozen=True)
class Run:
    """A network in training.

    Attributes
    ----------
    step : Step
        The optimisation step.
    rows : Rows
        Training rows.
    batch_size : int
        Rows per step.
    held_out : Rows or None, default=None
        Rows of the validation set, which may be training rows where they do not stop training.
    after_epoch : callable
        Called after each epoch, before its weights are evaluated.
    """

    step: Step
    rows: Rows
    batch_size: int
    held_out: Rows | None = None
    after_epoch: Callable[[], None] = lambda: None

    def epoch(self, progress: float) -> float:
        """Train for an epoch and return the mean loss per row, NaN if a weight is not finite."""
        step = self.step
        step.begin_epoch(progress)
        with step.mode():
            for x in self.rows.epoch(self.batch_size, step.generator, step.batch_buffer):
                step(x)
        loss = step.end_epoch()
        step.settle(self.rows)
        self.after_epoch()
        return loss


class Learner:
    """What the loop trains: one run, or those of several folds, which go on side by side.

    Parameters
    ----------
    runs : sequence of Run
        All with rows held out, or none; those of one objective.

    Attributes
    ----------
    is_compared : bool
        Whether there is a validation set: the held-out rows of all runs.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self._validations = [
            ValidationSet(step.core, step.objective, run.held_out, step.generator, step.corrupt)
            for run, step in ((run, run.step) for run in runs)
            if run.held_out is not None
        ]
        self.is_compared = bool(self._validations)
        self._counted: slice | Tensor = slice(None)

    @property
    def work(self) -> int:
        """Multiply-adds of the largest product."""
        return max(run.batch_size * run.step.core.largest_product for run in self.runs)

    def begin_training(self) -> None:
        """Prepare for training, after the start has been evaluated."""
        for run in self.runs:
            run.step.core.begin_training()

    def epoch(self, progress: float) -> float:
        """Train each run for an epoch; return the mean loss, NaN if a weight is not finite."""
        return sum(run.epoch(progress) for run in self.runs) / len(self.runs)

    def losses(self) -> Tensor:
        """Return the loss of each row of the validation set that counts, float64."""
        return torch.cat([validation.losses() for validation in self._validations])[self._counted]

    def leave_out_outliers(self) -> None:
        """Let only those rows of the validation set count whose loss now is not far above most."""
        self._counted = torch.from_numpy(within_reach(self.losses().numpy()))

    def groups(self) -> Tensor:
        """Return the group of each row that counts: its fold, or one of two halves."""
        sizes = [validation.rows.n_rows for validation in self._validations]
        if len(sizes) == 1:
            return (torch.arange(sizes[0], device="cpu") % 2)[self._counted]
        folds = [torch.full((size,), i, device="cpu") for i, size in enumerate(sizes)]
        return torch.cat(folds)[self._counted]

    def snapshot(self, reuse: list[list[Tensor]] | None = None) -> list[list[Tensor]]:
        """Return copies of all that training changes, in the tensors of a snapshot to `reuse`."""
        if reuse is None:
            return [run.step.snapshot() for run in self.runs]
        return [run.step.snapshot(old) for run, old in zip(self.runs, reuse, strict=True)]

    def restore(self, snapshot: list[list[Tensor]]) -> None:
        """Go back to a snapshot."""
        for run, saved in zip(self.runs, snapshot, strict=True):
            run.step.restore(saved)

    def slow_down(self, factor: float) -> None:
        """Multiply the step size from now on."""
        for run in self.runs:
            run.step.slow_down(factor)

    @property
    def rate(self) -> float:
        """The present step size."""
        return self.runs[0].step.rate

    @property
    def weights_are_final(self) -> bool:
        """Whether the weights of the objective's terms are what they will be at the end."""
        return self.runs[0].step.objective.schedules_finished

    @property
    def schedules_finished(self) -> bool:
        """Whether these and the step size are."""
        return self.runs[0].step.schedules_finished
