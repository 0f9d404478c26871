"""The loop: epochs, validation, early stopping, the best weights, recovery from divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from .._data.batches import Rows
from .._runtime.warnings import warn
from ..exceptions import ConvergenceError, ConvergenceWarning
from .step import Step
from .validation import BestState, ValidationPlan, ValidationSet

_RETRIES = 2
_RETRY_FACTOR = 0.1


@dataclass
class History:
    """What a training run reports: losses per row in scaled units, one entry per epoch."""

    loss_curve: list[float] = field(default_factory=list)
    validation_loss_curve: list[float] = field(default_factory=list)
    best_loss: float = math.inf

    @property
    def n_epochs(self) -> int:
        """Number of epochs run."""
        return len(self.loss_curve)

    def last_epoch(self, max_epochs: int) -> str:
        """Describe the last epoch in a line."""
        line = f"epoch {self.n_epochs}/{max_epochs}  loss {self.loss_curve[-1]:.6g}"
        if self.validation_loss_curve:
            line += f"  held-out {self.validation_loss_curve[-1]:.6g}"
        return line


def train(
    step: Step,
    rows: Rows,
    plan: ValidationPlan,
    *,
    max_epochs: int,
    batch_size: int,
    progress: Callable[[int], float],
    after_epoch: Callable[[], None] = lambda: None,
    report: Callable[[History], None] = lambda history: None,
) -> History:
    """Train for all epochs, or until the validation loss stops improving.

    While weights of the objective change, as in a warm-up, training goes on.

    Parameters
    ----------
    step : Step
        The optimisation step; left in the state that is kept.
    rows : Rows
        Training rows.
    plan : ValidationPlan
        Which rows are the validation set, and what they decide.
    max_epochs, batch_size : int
        Most epochs, and rows per step.
    progress : callable
        From the number of epochs run to the progress that schedules go by, in [0, 1].
    after_epoch : callable
        Called after each epoch's last step.
    report : callable
        Called with the history after each epoch.

    Returns
    -------
    History

    Raises
    ------
    ConvergenceError
        If the loss or a weight becomes infinite or NaN, at smaller learning rates too.

    Warns
    -----
    ConvergenceWarning
        If `max_epochs` ends training before early stopping does, unless a schedule was to end with
        it; or if the learning rate had to be lowered.
    """
    history, n_failures = History(), 0
    validation = best = None
    if plan.rows is not None:
        held = step.core, step.objective, plan.rows, step.generator, step.corrupt
        validation = ValidationSet(*held)
        best = BestState(plan, validation.losses(), step.snapshot())
        if max_epochs:
            step.core.begin_training()
    last_good = step.snapshot()
    while history.n_epochs < max_epochs and not (best and best.out_of_patience):
        step.begin_epoch(progress(history.n_epochs))
        with step.mode():
            for x in rows.epoch(batch_size, step.generator, step.batch_buffer):
                step(x)
        after_epoch()
        loss = step.end_epoch()
        losses = validation.losses() if validation and plan.stops_training else None
        if not (math.isfinite(loss) and (losses is None or losses.sum().isfinite())):
            n_failures += 1
            _recover(step, last_good, n_failures, epoch=history.n_epochs + 1)
            continue
        last_good = step.snapshot(None if best and best.holds(last_good) else last_good)
        history.loss_curve.append(loss)
        if best and losses is not None:
            finished = step.objective.schedules_finished
            mean = best.update(losses, last_good, schedules_finished=finished)
            history.validation_loss_curve.append(mean)
        report(history)
    history.best_loss = history.loss_curve[-1] if history.loss_curve else math.inf
    if validation and best:
        if not plan.stops_training:
            best.update(validation.losses(), last_good, schedules_finished=True)
        kept, loss = best.choose()
        step.restore(kept)
        if plan.stops_training or kept is best.start:
            history.best_loss = loss
        ended = 0 < max_epochs <= history.n_epochs and not best.out_of_patience
        if plan.stops_training and ended and step.schedules_finished:
            warn(
                f"All max_iter={max_epochs} epochs were run before {plan.n_iter_no_change} in a "
                "row brought no improvement on held-out rows. Increase max_iter.",
                ConvergenceWarning,
            )
    return history


def _recover(step: Step, last_good: list[Tensor], n_failures: int, *, epoch: int) -> None:
    """Go back to the last good epoch with a smaller learning rate, or give up."""
    if n_failures > _RETRIES:
        raise ConvergenceError(
            f"Training diverged in epoch {epoch}, also after the learning rate was lowered to "
            f"{step.rate:.1e}: the loss is infinite or NaN. Lower learning_rate, or "
            "scale X."
        )
    step.restore(last_good)
    step.slow_down(_RETRY_FACTOR)
    warn(
        f"Training diverged in epoch {epoch}; it goes on from the epoch before with "
        f"learning_rate={step.rate:.1e}.",
        ConvergenceWarning,
    )
