"""How fitting goes: train, keep, describe; what each family brings to it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator

from .._data.batches import Rows
from .._data.rows import summarize
from .._data.scaling import Scaling
from .._inference.fitted import NotFiniteError
from .._latent.basis import Basis
from .._sklearn.inputs import check_rows
from .._training.defaults import (
    count_folds,
    count_held_out,
    epochs_per_call,
    most_epochs,
    patience,
    rows_per_batch,
    rows_per_fold,
)
from .._training.learner import Run
from .._training.loop import History, train
from .._training.trainer import Trainer, make_shared_generator
from .._training.validation import BestState, ValidationPlan
from ..exceptions import ConvergenceError
from .beginning import Beginning
from .cross_fit import Compared, cross_fit, train_on_all
from .recipe import Recipe

# Where nothing is held out, so many training rows decide whether the start is kept.
_MOST_COMPARED = 10_000

# Recipes are compared on so many rows.
_MOST_CROSS_FITTED = 1500

# So many training rows are reconstructed to see whether weights are too large.
_MOST_TRIED = 256


@dataclass(frozen=True)
class Encoding:
    """Rows with what a fitted network makes of them.

    Attributes
    ----------
    rows : ndarray or CSR of shape (n_rows, n_features)
        Rows.
    codes : ndarray of shape (n_rows, n_codes)
        Codes as `transform` returns them; means of a VAE's posteriors, integers of a VQ-VAE.
    deviations : ndarray of shape (n_rows, n_codes) or None
        Standard deviations of posteriors.
    """

    rows: Any
    codes: np.ndarray
    deviations: np.ndarray | None = None


class Fitting(Beginning):
    """The procedure of fit and partial_fit, which works on an estimator's draft.

    Beside how it begins (`Beginning`) a family says what it learns between epochs (`_after_epoch`),
    what it makes of rows (`_encoding`), what its codes mean (`_describe`), which attributes it
    publishes (`_publish`), and how it draws (`_draw`).
    """

    mean_: np.ndarray
    n_samples_: int
    n_iter_: int
    loss_curve_: list[float]
    validation_loss_curve_: list[float]
    best_loss_: float
    scores_per_init_: np.ndarray
    _optimizer: list[np.ndarray] | None
    _is_streamed: bool

    # -- what a family brings ------------------------------------------------------------------

    @abstractmethod
    def _encoding(self, X: Any) -> Encoding:
        """Return rows X with what `_net` makes of them."""

    def _describe(self, X: Any, held_out: Any) -> Encoding:
        """Give the codes of `_net` their basis, and return rows X with what it makes of them.

        `held_out` are rows that were held out, where there are any.
        """
        return self._encoding(X)

    @abstractmethod
    def _publish(self, encoding: Encoding, n_before: int) -> None:
        """Set the family's fitted attributes from rows and the `n_before` rows they describe."""

    def _publish_by_feature(self, encoding: Encoding, n_before: int) -> None:
        """Set the attributes that are measured feature by feature, of rows of all features."""

    @abstractmethod
    def _squared_errors(self, X: Any) -> np.ndarray:
        """Return each row's squared reconstruction error, in X's units."""

    @abstractmethod
    def _draw(self, n_samples: int, generator: Generator, mean: bool) -> np.ndarray:
        """Draw rows, float64 of shape (n_samples, n_features), without noise if `mean`."""

    def _follow(self, X: Any, trainer: Trainer) -> Basis | None:
        """Let the start move with rows that come later, and return the basis of the codes."""
        return self._net.basis

    def _after_epoch(self, trainer: Trainer, rows: Rows) -> None:
        """Learn what is learned between epochs."""

    # -- the procedure -------------------------------------------------------------------------

    def _fit(self, X: Any, X_val: Any) -> Any:
        """Fit anew, or go on; return X_val as it was checked, or X where there is none."""
        first = not self.__sklearn_is_fitted__()
        X = self._enter(X, X_val)
        generator = make_shared_generator(self.random_state)
        if first and X_val is None and (folds := self._folds(X, generator)):
            self._fit_as_folds_say(X, folds, generator)
            return X
        if first:
            self._recipe = self._preferred_recipe(X, generator)
        n_held_out = 0
        if X_val is None and self.max_iter:
            n_held_out = count_held_out(self.early_stopping, self.validation_fraction, X.shape[0])
        order = torch.randperm(X.shape[0], generator=generator, device="cpu").numpy()
        training = np.sort(order[n_held_out:])
        if not first:
            self.__dict__.pop("_stream", None)  # rows before are not among those of this fit
        begin = self._begin if first else self._resume
        trainer, self.mean_, rows_in = begin(X, training, generator)
        held_out, max_epochs, compared = None, self._most_epochs(X), X
        if X_val is not None:
            compared = check_rows(self, X_val, reset=False)
            self._check_values(compared, self._scaling_of(trainer), summarize(compared))
            held_out = self._as_trained(compared)
        elif n_held_out:
            held_out = rows_in[np.sort(order[:n_held_out])]
        elif self.early_stopping == "auto" and self._recipe.starts_at_a_fit:
            max_epochs = 0  # too few rows to decide whether an epoch is better than the start
        if held_out is None:
            history = self._train_all(trainer, rows_in, training, max_epochs)
        else:
            network = Compared(trainer, self.mean_, held_out, self._wide)
            run = self._run(trainer, trainer.rows(rows_in, training), network.rows())
            budget = trainer.scaling, X.shape[0], max_epochs
            history = self._train([run], *budget, stops_training=True)
            self._confirm(run, history)
            self._note_gain([network], history.best if first else None)
        self._finish(trainer, history, X, rows_in, held_out)
        return compared

    def _folds(self, X: Any, generator: Generator) -> list[np.ndarray]:
        """Return the rows that each fold holds out; none where the table is not cross-fitted."""
        n_folds = count_folds(*X.shape) if self.early_stopping == "auto" else 0
        return self._folds_of(X, n_folds, generator) if n_folds else []

    def _folds_of(self, X: Any, n_folds: int, generator: Generator) -> list[np.ndarray]:
        """Return folds; none if too few rows would be left or nothing is trained."""
        n_samples, each = X.shape[0], rows_per_fold(X.shape[0])
        self.n_components_, fraction = self._wanted_components(X)
        too_many = fraction is not None or self.n_components_ > n_samples - each
        if too_many or not self._most_epochs(X):
            return []
        order = torch.randperm(n_samples, generator=generator, device="cpu").numpy()
        return [np.sort(fold) for fold in np.array_split(order, -(-n_samples // each))[:n_folds]]

    def _preferred_recipe(self, X: Any, generator: Generator) -> Recipe:
        """Return the recipe that held-out rows prefer, of 1500 rows at most."""
        X = X[:: -(-X.shape[0] // _MOST_CROSS_FITTED)]
        n_folds = count_folds(*X.shape)
        if len(self._recipes) == 1 or not n_folds or self.early_stopping is False:
            return self._recipe
        folds = self._folds_of(X, n_folds, generator)
        if not folds:
            return self._recipe
        return cross_fit(self, X, folds, generator, reports=False).recipe

    def _fit_as_folds_say(self, X: Any, folds: list[np.ndarray], generator: Generator) -> None:
        """Train networks without each fold, and then one of all rows for as many epochs as paid.

        Whether epochs pay at all is decided by the held-out rows of all folds, each in comparison
        with the start of the other rows, and where the start competes once more by training rows.
        """
        recipe, history, networks = cross_fit(self, X, folds, generator)
        best = history.best
        assert best is not None
        self._recipe, self._recipes = recipe, [recipe]
        chosen = best.choose()
        n_epochs, gained = chosen.n_epochs, best.start.loss - chosen.loss
        trainer, rows_in, left = train_on_all(self, X, n_epochs, gained, generator)
        if n_epochs and not left:
            best.keep_start()
            history.best_loss = best.start.loss
        self._note_gain(networks, best)
        self._finish(trainer, history, X, rows_in, None)

    def _train_all(
        self,
        trainer: Trainer,
        rows_in: Any,
        training: np.ndarray,
        max_epochs: int,
        *,
        reports: bool = True,
    ) -> History:
        """Train for all epochs; a start that competes is then compared on training rows."""
        validation = None
        if max_epochs and self._recipe.start_competes and not trainer.step.objective.adversarial:
            validation = trainer.rows(rows_in, training[:: -(-len(training) // _MOST_COMPARED)])
        run = self._run(trainer, trainer.rows(rows_in, training), validation)
        scaling, n_samples = trainer.scaling, rows_in.shape[0]
        return self._train([run], scaling, n_samples, max_epochs, reports=reports)

    def _finish(
        self, trainer: Trainer, history: History, X: Any, rows_in: Any, held_out: Any
    ) -> None:
        """Keep what was learned, and describe it."""
        self.n_samples_, self._is_streamed = X.shape[0], False
        self.n_iter_ = history.n_epochs
        self.loss_curve_ = history.loss_curve
        self.validation_loss_curve_ = history.validation_loss_curve
        if self._wide is not None:
            self._wide.forget_the_last(trainer.core)
        if history.n_epochs:
            self._refine(trainer, rows_in)
        self._commit(trainer, history)
        del trainer
        with self._overflow_is_divergence(rows_in):
            encoding = self._describe(rows_in, held_out)
            self._publish(encoding, n_before=0)
            if self._wide is not None:
                self._net = self._wide.widened(self._net)
                self.mean_ = self._net.scaling.mean
            self._publish_by_feature(replace(encoding, rows=X), n_before=0)

    def _as_trained(self, X: Any) -> Any:
        """Return rows of all features as the network that is trained sees them."""
        return X if self._wide is None else self._wide.coordinates.of(X)

    def _note_gain(self, networks: list[Compared], best: BestState | None) -> None:
        """Take note of what training has gained on rows that did not choose the epoch."""

    def _confirm(self, run: Run, history: History) -> None:
        """Go back to the start where a family asks for more than a gain on held-out rows."""

    def _refine(self, trainer: Trainer, rows_in: Any) -> None:
        """Learn what all rows say about a trained network, those held out too."""

    def _partial_fit(self, X: Any) -> None:
        first = not self.__sklearn_is_fitted__()
        X = self._enter(X)
        n_components = self.n_components or 0
        n_axes = n_components // (len(self._patches) if self._patches else 1)
        if first and self._recipe.starts_at_pca and X.shape[0] < n_axes:
            raise ValueError(
                f"n_components={n_axes} must be less or equal to the batch number of samples "
                f"{X.shape[0]} for the first partial_fit call, which fixes the PCA start. Pass "
                "more rows first, or use init='random'."
            )
        begin = partial(self._begin, more_to_come=True) if first else self._resume
        every, generator = np.arange(X.shape[0]), make_shared_generator(self.random_state)
        trainer, mean, _ = begin(X, every, generator)
        if first:
            self.mean_, self.n_samples_, self.n_iter_ = mean, 0, 0
            self.loss_curve_, self.validation_loss_curve_ = [], []
            self._net = trainer.fitted_net()
            if self._recipe.starts_at_a_fit:
                self._describe(X, None)
        elif self._optimizer is not None:
            trainer.step.import_optimizer(self._optimizer)
        basis = self._net.basis if first else self._follow(X, trainer)
        self._is_streamed = first or self._is_streamed
        max_epochs = epochs_per_call(self.batch_size, X.shape[0]) if self._is_streamed else 1
        max_epochs = max_epochs if self._most_epochs(X) else 0
        run = self._run(trainer, trainer.rows(X, every))
        budget = trainer.scaling, X.shape[0], max_epochs
        history = self._train([run], *budget, epochs_before=self.n_iter_)
        n_before = self.n_samples_
        self.n_samples_ = n_before + X.shape[0]
        self.mean_ = self.mean_ + (mean - self.mean_) * (X.shape[0] / self.n_samples_)
        self.n_iter_ += history.n_epochs
        self.loss_curve_ = self.loss_curve_ + history.loss_curve
        self._commit(trainer, history, basis=basis)
        self._optimizer = trainer.step.export_optimizer()
        with self._overflow_is_divergence(X):
            encoding = self._encoding(X)
            self._publish(encoding, n_before)
            self._publish_by_feature(encoding, n_before)

    def _run(self, trainer: Trainer, rows: Rows, held_out: Rows | None = None) -> Run:
        """Return what the loop trains."""
        batch_size = rows_per_batch(self.batch_size, rows.n_rows)
        return trainer.run(rows, batch_size, held_out, lambda: self._after_epoch(trainer, rows))

    def _train(
        self,
        runs: list[Run],
        scaling: Scaling,
        n_samples: int,
        max_epochs: int,
        *,
        stops_training: bool = False,
        epochs_before: int = 0,
        reports: bool = True,
    ) -> History:
        n_epochs = most_epochs(self.max_iter, self.batch_size, n_samples)
        plan = ValidationPlan(
            stops_training,
            start_competes=self._recipe.start_competes or self.__sklearn_is_fitted__(),
            n_iter_no_change=patience(self.n_iter_no_change, self.batch_size, n_samples),
            tol=self._training_tol * self._recipe.loss_unit(scaling),
            leaves_out_outliers=self._recipe.loss.is_robust,
        )
        report = partial(self._report, n_epochs) if self.verbose and reports else None
        return train(
            runs,
            plan,
            max_epochs=max_epochs,
            progress=lambda epoch: min((epochs_before + epoch) / max(n_epochs, 1), 1.0),
            report=report or (lambda history: None),
        )

    def _report(self, max_epochs: int, history: History) -> None:
        print(f"[{type(self).__name__}] {history.last_epoch(max_epochs)}")

    def _commit(self, trainer: Trainer, history: History, basis: Basis | None = None) -> None:
        """Keep what was learned."""
        self.best_loss_ = history.best_loss
        self._net = trainer.fitted_net()
        self._net.basis = basis
        self._optimizer = None

    @contextmanager
    def _overflow_is_divergence(self, X: Any) -> Iterator[None]:
        """Raise a ConvergenceError where the network overflows on rows that it was trained on."""
        try:
            self._squared_errors(X[:_MOST_TRIED])
            yield
        except (NotFiniteError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
            raise ConvergenceError(
                "Training ended with weights so large that what the network makes of the training "
                "rows is not finite. Lower learning_rate or weight_decay, or scale X."
            ) from error
