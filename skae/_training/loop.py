"""The loop: epochs, held-out loss, best weights, early stopping, divergence. Knows no estimator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from .._data.batches import Rows
from .._runtime.isolation import isolated_for
from .._runtime.warnings import warn
from ..exceptions import ConvergenceError, ConvergenceWarning
from ..modules import Core
from ..objectives import Objective
from .step import Corrupt, Step, corrupted

_EVALUATION_ROWS = 2048
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


class HeldOut:
    """Rows kept out of training, and the noise under which all epochs are compared.

    Parameters
    ----------
    core : Core
        The network being trained.
    objective : Objective
        What is minimised.
    rows : Rows
        The held-out rows.
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
        """Return the loss of each held-out row, float64 of shape (n_rows,), on the CPU."""
        losses, start = [], 0
        differentiates = self.objective.needs_input_gradient
        same_draws = Generator("cpu").manual_seed(self.seed)
        custom = self.core.has_custom_parts
        if custom:
            self.core.eval()
        at_once = max(1, _EVALUATION_ROWS // self.core.n_draws)
        with torch.set_grad_enabled(differentiates):
            for x in self.rows.in_order(at_once):
                x_in = corrupted(x, self.corrupt, same_draws)
                x_in = x_in.detach().requires_grad_(differentiates)
                part = slice(start, start + len(x))
                noise = {name: drawn[part].to(x.device) for name, drawn in self.noise.items()}
                with isolated_for(self.core, x_in):
                    out = self.core(x_in, noise)
                losses.append(self.objective(x, out).detach().double())
                start += len(x)
        if custom:
            self.core.train()
        return torch.cat(losses).cpu()


class _Best:
    """The best epoch so far, by held-out loss, and the start, which competes with it in the end."""

    def __init__(self, step: Step, held_out: HeldOut, *, start_counts: bool) -> None:
        self.step, self.held_out = step, held_out
        self.start = self.losses = held_out.losses()
        self.start_counts = start_counts
        self.start_state = self.state = step.snapshot()
        self.loss, self.waited = math.inf, 0

    def consider(self, losses: Tensor, state: list[Tensor], tol: float) -> float:
        """Keep the step's state if it is the best; count epochs without a gain of `tol`.

        Those do not count in which weights of the objective are not yet what they will be. Returns
        the mean loss.
        """
        loss = float(losses.mean())
        counts = loss >= self.loss - tol and self.step.objective.schedules_finished
        self.waited = self.waited + 1 if counts else 0
        if loss < self.loss:
            self.loss, self.losses, self.state = loss, losses, state
        return loss

    def restore(self) -> None:
        """Go to the best state; to the start where the gain over it is within its noise.

        The noise is one standard error of the paired gain per held-out row.
        """
        gain = self.start - self.losses
        noise = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else math.inf
        if self.start_counts and float(gain.mean()) <= noise:
            self.state = self.start_state
        if self.state is self.start_state:
            self.loss = float(self.start.mean())
        self.step.restore(self.state)


def train(
    step: Step,
    rows: Rows,
    held_out: HeldOut | None,
    *,
    max_epochs: int,
    progress: Callable[[int], float],
    batch_size: int,
    n_iter_no_change: int,
    tol: float,
    stops_early: bool,
    start_counts: bool,
    after_epoch: Callable[[], None],
    report: Callable[[History], None],
) -> History:
    """Train until the held-out loss stops improving, or for all epochs.

    While weights of the objective change, as in a warm-up, training goes on.

    Parameters
    ----------
    step : Step
        The step; left in the best state.
    rows : Rows
        Training rows.
    held_out : HeldOut or None
        Rows that decide which epoch is kept; None keeps the last one. Without `stops_early` they
        are training rows, which decide between the last epoch and the start.
    max_epochs, batch_size, n_iter_no_change : int
        Most epochs, rows per step, epochs without improvement before training stops.
    progress : callable
        From the number of epochs run to the progress that schedules go by, in [0, 1].
    tol : float
        Smallest improvement on the best held-out loss so far that counts as one.
    stops_early : bool
        Whether each epoch is judged, and training ends when they do not improve.
    start_counts : bool
        Whether the state before the first epoch competes; it is left only for a gain on the
        held-out rows beyond one standard error.
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
    history = History()
    best = None if held_out is None else _Best(step, held_out, start_counts=start_counts)
    if best and max_epochs:
        step.core.begin_training()
    last_good, retries = step.snapshot(), 0
    while history.n_epochs < max_epochs and not (best and best.waited >= n_iter_no_change):
        step.begin_epoch(progress(history.n_epochs))
        with step.mode():
            for x in rows.epoch(batch_size, step.generator, step.batch_buffer):
                step(x)
        after_epoch()
        loss = step.end_epoch()
        losses = held_out.losses() if held_out and stops_early else None
        if not math.isfinite(loss) or not (losses is None or math.isfinite(losses.sum())):
            retries += 1
            _retry(step, last_good, retries, history.n_epochs + 1)
            continue
        is_kept = best is not None and (last_good is best.state or last_good is best.start_state)
        last_good = step.snapshot(None if is_kept else last_good)
        history.loss_curve.append(loss)
        if best and losses is not None:
            history.validation_loss_curve.append(best.consider(losses, last_good, tol))
        report(history)
    if history.loss_curve:
        history.best_loss = history.loss_curve[-1]
    if best and held_out and not stops_early:
        best.consider(held_out.losses(), last_good, tol)
        best.restore()
        if best.state is best.start_state:
            history.best_loss = best.loss
    elif best:
        best.restore()
        history.best_loss = best.loss
        patient = best.waited < n_iter_no_change and step.schedules_finished
        if patient and 0 < max_epochs <= history.n_epochs:
            warn(
                f"All max_iter={max_epochs} epochs were run before {n_iter_no_change} in a row "
                "brought no improvement on held-out rows. Increase max_iter.",
                ConvergenceWarning,
            )
    return history


def _retry(step: Step, last_good: list[Tensor], retries: int, epoch: int) -> None:
    """Go back to the last good epoch with a smaller learning rate, or give up."""
    if retries > _RETRIES:
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
