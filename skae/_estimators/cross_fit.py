"""Cross-fitting: networks beside rows that they were not trained on, and what is gained there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from .._data.batches import Rows
from .._data.rows import sum_of_squares
from .._training.defaults import count_starts
from .._training.learner import Run
from .._training.loop import History
from .._training.trainer import Trainer
from .._training.validation import BestState, ValidationSet, is_beyond
from ..exceptions import ConvergenceError
from .recipe import Recipe
from .wide import WideFit


@dataclass(frozen=True)
class Compared:
    """A network and rows that are held out from its training.

    Attributes
    ----------
    trainer : Trainer
        The network.
    mean : ndarray of shape (n_features,)
        Mean of the rows that it is trained on.
    held_out : ndarray or CSR of shape (n_rows, n_features)
        The rows, as the network sees them.
    wide : WideFit or None
        In which coordinates that is.
    """

    trainer: Trainer
    mean: np.ndarray
    held_out: Any
    wide: WideFit | None

    def rows(self) -> Rows:
        """Return the rows in scaled units on the device."""
        return self.trainer.rows(self.held_out)

    def unexplained(self, snapshot: list[Tensor], rows: Any, device: torch.device) -> float:
        """Return the squared error of rows in a state of the network, which it is left in."""
        self.trainer.step.restore(snapshot)
        if self.wide is not None:
            self.wide.forget_the_last(self.trainer.core)
        return float(self.trainer.fitted_net().squared_errors(rows, device).sum())


class Outcome(NamedTuple):
    """What comes of a cross-fit.

    Attributes
    ----------
    recipe : Recipe
        What was minimised.
    history : History
        Losses by epoch, means over the folds, and what the held-out rows of all of them choose.
    networks : list of Compared
        One for each fold.
    """

    recipe: Recipe
    history: History
    networks: list[Compared]

    def losses(self) -> Tensor:
        """Return the loss of each held-out row in the state that is kept."""
        assert self.history.best is not None
        return self.history.best.choose().losses


def cross_fit(
    fitting: Any,
    X: Any,
    folds: Sequence[np.ndarray],
    generator: Generator,
    *,
    reports: bool = True,
) -> Outcome:
    """Train networks without each fold, side by side.

    Where an estimator has several recipes it is done with each. The outcome of the first is
    returned, unless the held-out rows' loss of a later one is smaller by more than a standard error
    of the paired difference.

    Parameters
    ----------
    fitting : Fitting
        The estimator, whose attributes are those of the last network afterwards.
    X : ndarray or CSR of shape (n_samples, n_features)
        Rows.
    folds : sequence of ndarray of int
        The rows that each fold holds out.
    generator : torch.Generator
        Source of weights and batches.
    reports : bool, default=True
        Whether epochs are reported, if they are to be.

    Returns
    -------
    Outcome
    """
    every, outcomes = np.arange(X.shape[0]), []
    for recipe in fitting._recipes:
        networks, runs = [], []
        for held_out in folds:
            fitting._recipe, fitting._wide = recipe, None
            rows = X[np.setdiff1d(every, held_out)]
            trainer, mean, rows_in = fitting._begin(rows, every[: rows.shape[0]], generator)
            networks.append(
                Compared(trainer, mean, fitting._as_trained(X[held_out]), fitting._wide)
            )
            runs.append(fitting._run(trainer, trainer.rows(rows_in), networks[-1].rows()))
        budget = networks[0].trainer.scaling, X.shape[0], fitting._most_epochs(X)
        history = fitting._train(runs, *budget, stops_training=True, reports=reports)
        outcomes.append(Outcome(recipe, history, networks))
    fitting._wide = None
    preferred, *others = outcomes
    for other in others:
        if is_beyond(preferred.losses() - other.losses(), 1):
            preferred = other
    return preferred


def train_on_all(
    fitting: Any, X: Any, n_epochs: int, wanted: float, generator: Generator
) -> tuple[Trainer, Any, bool]:
    """Train networks on all rows, from several starts where that is cheap, and keep the best.

    Where even the best gains less on the rows it is trained on than the folds did on others, it is
    stuck, and as many starts again are tried at most.

    Parameters
    ----------
    fitting : Fitting
        The estimator, whose attributes are those of the network that is kept afterwards.
    X : ndarray or CSR of shape (n_samples, n_features)
        Rows.
    n_epochs : int
        For how many epochs.
    wanted : float
        What the folds' rows gained, of the loss per row.
    generator : torch.Generator
        Source of weights and batches.

    Returns
    -------
    trainer : Trainer
        The network with the smallest training loss.
    rows : ndarray or CSR
        The rows as it sees them.
    left : bool
        Whether its start was left.

    Raises
    ------
    ConvergenceError
        If training diverges from all starts.
    """
    recipe, every = fitting._recipe, np.arange(X.shape[0])
    n_starts = count_starts(*X.shape) if n_epochs else 1
    smallest, gained, outcome, state, failure = math.inf, -math.inf, None, {}, None
    for i in range(2 * n_starts):
        if i >= n_starts and gained >= wanted:
            break
        fitting._recipe, fitting._wide = recipe, None
        trainer, fitting.mean_, rows = fitting._begin(X, every, generator)
        try:
            history = fitting._train_all(trainer, rows, every, n_epochs, reports=False)
        except ConvergenceError as error:
            failure = error
            continue
        kept = history.best.choose() if history.best else None
        loss = history.best_loss if kept is None else kept.loss
        gained = max(gained, history.best.start.loss - loss if history.best else math.inf)
        if outcome is None or loss < smallest:
            left = kept is None or kept is not history.best.start
            smallest, outcome, state = loss, (trainer, rows, left), dict(fitting.__dict__)
    if outcome is None:
        assert failure is not None
        raise failure
    fitting.__dict__ = state
    return outcome


def gain(networks: Sequence[Compared], best: BestState, device: torch.device) -> float:
    """Return the score of held-out rows minus that of the start, after selection by others.

    Each group of rows is scored at the epoch that the other groups choose: rows of several
    networks by fold, those of one by halves. It is 0 where the start is kept. The networks are
    left in the state that is.
    """
    kept = best.choose()
    before = now = total = 0.0
    for group in range(best.n_groups if kept is not best.start else 0):
        i = group % len(networks)
        network = networks[i]
        rows = network.held_out if len(networks) > 1 else network.held_out[group :: best.n_groups]
        before += network.unexplained(best.start.snapshot[i], rows, device)
        now += network.unexplained(best.chosen_without(group).snapshot[i], rows, device)
        total += sum_of_squares(rows, network.mean)
    for network, snapshot in zip(networks, kept.snapshot, strict=True):
        network.trainer.step.restore(snapshot)
    return (before - now) / total if total else 0.0


def training_gain(run: Run, best: BestState) -> float:
    """Return the mean loss of training rows at the start minus that in the state that is kept.

    The network is left in the latter.
    """
    step, kept = run.step, best.choose()
    validation = ValidationSet(step.core, step.objective, run.rows, step.generator, step.corrupt)
    losses = []
    for state in (best.start, kept):
        step.restore(state.snapshot[0])
        losses.append(float(validation.losses().mean()))
    return losses[0] - losses[1]
