"""The loop: epochs, validation, early stopping, the best weights, recovery from divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .._runtime.modes import flushed_denormals
from .._runtime.threads import threads_for
from .._runtime.warnings import warn
from ..exceptions import ConvergenceError, ConvergenceWarning
from .learner import Learner, Run
from .validation import BestState, ValidationPlan

_RETRIES = 2
_RETRY_FACTOR = 0.1


@dataclass
class History:
    """What a training run reports: losses per row in scaled units, one entry per epoch.

    Attributes
    ----------
    loss_curve, validation_loss_curve : list of float
        Mean losses per row, of several runs the mean over these.
    best_loss : float
        Mean loss of the state that was kept: of the validation set where it stops training, or
        where the start was kept, and else of the last epoch.
    best : BestState or None
        What was chosen, where there was something to choose by.
    """

    loss_curve: list[float] = field(default_factory=list)
    validation_loss_curve: list[float] = field(default_factory=list)
    best_loss: float = math.inf
    best: BestState | None = None

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
    runs: Sequence[Run],
    plan: ValidationPlan,
    *,
    max_epochs: int,
    progress: Callable[[int], float],
    report: Callable[[History], None] = lambda history: None,
) -> History:
    """Train for all epochs, or until the validation loss stops improving.

    While weights of the objective change, as in a warm-up, training goes on. Several runs go on
    side by side and stop together, by the mean loss of all their validation rows.

    Parameters
    ----------
    runs : sequence of Run
        The networks with their rows; left in the state that is kept.
    plan : ValidationPlan
        What the validation set decides.
    max_epochs : int
        Most epochs.
    progress : callable
        From the number of epochs run to the progress that schedules go by, in [0, 1].
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
    learner, history, n_failures = Learner(runs), History(), 0
    with flushed_denormals(), threads_for(learner.work):
        best = None
        if learner.is_compared:
            if plan.leaves_out_outliers:
                learner.leave_out_outliers()
            best = BestState(plan, learner.losses(), learner.snapshot(), learner.groups())
            history.best = best
            if max_epochs:
                learner.begin_training()
        last_good = learner.snapshot()
        while history.n_epochs < max_epochs and not (best and best.out_of_patience):
            loss = learner.epoch(progress(history.n_epochs))
            losses = learner.losses() if best and plan.stops_training else None
            if not (math.isfinite(loss) and (losses is None or losses.sum().isfinite())):
                n_failures += 1
                _recover(learner, last_good, n_failures, epoch=history.n_epochs + 1)
                continue
            last_good = learner.snapshot(None if best and best.holds(last_good) else last_good)
            history.loss_curve.append(loss)
            if best and losses is not None:
                mean = best.update(losses, last_good, is_final=learner.weights_are_final)
                history.validation_loss_curve.append(mean)
            report(history)
        history.best_loss = history.loss_curve[-1] if history.loss_curve else math.inf
        if best:
            _keep_best(learner, best, history, last_good)
    ended = 0 < max_epochs <= history.n_epochs and not (best and best.out_of_patience)
    if plan.stops_training and ended and learner.schedules_finished:
        warn(
            f"All max_iter={max_epochs} epochs were run before {plan.n_iter_no_change} in a "
            "row brought no improvement on held-out rows. Increase max_iter.",
            ConvergenceWarning,
        )
    return history


def _keep_best(
    learner: Learner, best: BestState, history: History, last: list[list[Tensor]]
) -> None:
    """Restore the state that the validation set chooses, and note its loss."""
    if not best.plan.stops_training:
        best.update(learner.losses(), last, is_final=True)
    kept = best.choose()
    learner.restore(kept.snapshot)
    if best.plan.stops_training or kept is best.start:
        history.best_loss = kept.loss


def _recover(
    learner: Learner, last_good: list[list[Tensor]], n_failures: int, *, epoch: int
) -> None:
    """Go back to the last good epoch with a smaller learning rate, or give up."""
    if n_failures > _RETRIES:
        raise ConvergenceError(
            f"Training diverged in epoch {epoch}, also after the learning rate was lowered to "
            f"{learner.rate:.1e}: the loss is infinite or NaN. Lower learning_rate, or "
            "scale X."
        )
    learner.restore(last_good)
    learner.slow_down(_RETRY_FACTOR)
    warn(
        f"Training diverged in epoch {epoch}; it goes on from the epoch before with "
        f"learning_rate={learner.rate:.1e}.",
        ConvergenceWarning,
    )
