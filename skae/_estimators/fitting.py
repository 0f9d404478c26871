"""How fitting goes: begin or resume, train, describe; what each family brings to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Generator

from .._data.batches import Rows, StreamedRows
from .._data.centred import CentredRows
from .._data.rows import ColumnSummary, summarize
from .._data.scaling import Scaling, fit_scaling
from .._inference.fitted import FittedNet, NotFiniteError
from .._init.coordinates import Coordinates
from .._init.pca import PrincipalAxes, principal_axes
from .._init.robust_pca import residuals_of, robust_axes
from .._latent.basis import Basis
from .._runtime.device import resolve_device
from .._sklearn.inputs import check_rows
from .._sklearn.params import SHARED_CONSTRAINTS, Constraints, check_parameters
from .._sklearn.state import GuardedState
from .._training.defaults import (
    count_coordinates,
    count_folds,
    count_held_out,
    epochs_per_call,
    hidden_widths,
    most_epochs,
    patience,
    rows_per_batch,
    rows_per_fold,
    step_size,
)
from .._training.learner import Run
from .._training.loop import History, train
from .._training.trainer import Trainer, make_shared_generator
from .._training.validation import BestState, ValidationPlan
from ..exceptions import ConvergenceError
from ..modules import Core, build_core
from ..objectives._schedules import check_schedule
from .cross_fit import Compared, cross_fit, train_on_all
from .recipe import Recipe
from .wide import WideFit

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


class Fitting(GuardedState, ABC):
    """The procedure of fit and partial_fit, which works on an estimator's draft.

    A family says what its recipe is (`_make_recipe`), how its core is made (`_make_core`,
    `_n_encoded`), where it starts (`_start`), what it learns between epochs (`_after_epoch`), what
    it makes of rows (`_encoding`), what its codes mean (`_describe`), which attributes it publishes
    (`_publish`), and how it draws (`_draw`).

    `_recipe` is there while a fit lasts, and not after it, as is `_wide` where a network is trained
    in coordinates: rows, network and `mean_` are then those of coordinates until it is published.
    """

    _parameter_constraints: ClassVar[Constraints] = SHARED_CONSTRAINTS

    n_components_: int
    mean_: np.ndarray
    n_samples_: int
    n_iter_: int
    loss_curve_: list[float]
    validation_loss_curve_: list[float]
    best_loss_: float
    scores_per_init_: np.ndarray
    n_features_in_: int
    feature_names_in_: np.ndarray
    _net: FittedNet
    _optimizer: list[np.ndarray] | None
    _recipe: Recipe
    _recipes: list[Recipe]
    _wide: WideFit | None = None
    _is_streamed: bool

    # Parameters that a fitted network cannot change any more.
    _architecture: ClassVar[tuple[str, ...]] = (
        "n_components",
        "hidden_layer_sizes",
        "activation",
        "encoder",
        "decoder",
        "init",
        "scale",
    )

    # -- what a family brings ------------------------------------------------------------------

    @abstractmethod
    def _make_core(self, rows: StreamedRows | None) -> Callable[..., Core]:
        """Return ``make(encoder, decoder) -> Core``, picklable.

        `rows` are the training rows, None where more may come.
        """

    @abstractmethod
    def _make_recipe(self) -> Recipe:
        """Resolve the slots and check them against each other and the other parameters.

        Raises
        ------
        ValueError
            If they do not go together.
        """

    @abstractmethod
    def _start(
        self,
        core: Any,
        axes: PrincipalAxes | None,
        scaling: Scaling,
        rows: StreamedRows,
        generator: Generator,
    ) -> None:
        """Set what the core starts from; `axes` is None for a random start."""

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

    def _pretrain(self, core: Any, scaling: Scaling, rows: Rows, generator: Generator) -> None:
        """Train parts of the core, on the CPU, before the whole is trained."""

    def _follow(self, X: Any, trainer: Trainer) -> Basis | None:
        """Let the start move with rows that come later, and return the basis of the codes."""
        return self._net.basis

    def _start_codes(self, core: Any, rows: StreamedRows, generator: Generator) -> None:
        """Set what the core starts from among the codes of its encoder."""

    def _n_encoded(self) -> int:
        """Return the encoder's number of outputs."""
        return self.n_components_

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
        if len(self._recipes) == 1 or not n_folds:
            return self._recipe
        folds = self._folds_of(X, n_folds, generator)
        return cross_fit(self, X, folds, generator).recipe if folds else self._recipe

    def _fit_as_folds_say(self, X: Any, folds: list[np.ndarray], generator: Generator) -> None:
        """Train networks without each fold, and then one of all rows for as many epochs as paid.

        Whether epochs pay at all is decided by the held-out rows of all folds, each in comparison
        with the start of the other rows, and where the start competes once more by training rows.
        """
        recipe, history, networks = cross_fit(self, X, folds, generator)
        best = history.best
        assert best is not None
        self._recipe, self._recipes = recipe, [recipe]
        n_epochs = best.choose().n_epochs
        trainer, rows_in, left = train_on_all(self, X, n_epochs, generator)
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
        if first and self._recipe.starts_at_pca and X.shape[0] < n_components:
            raise ValueError(
                f"n_components={n_components} must be less or equal to the batch number of samples "
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

    def _enter(self, X: Any, X_val: Any = None) -> Any:
        self._recipe = self._checked_recipe(X_val)
        X = check_rows(self, X, reset=not self.__sklearn_is_fitted__())
        self._recipes = self._candidates(X)
        self._recipe = self._recipes[0]
        return X

    def _candidates(self, X: Any) -> list[Recipe]:
        """Return the recipe, or several of which held-out rows choose one, the simplest first."""
        return [self._recipe]

    def _checked_recipe(self, X_val: Any = None) -> Recipe:
        """Return the recipe, once all parameters are checked; no rows are looked at."""
        check_parameters(self, self._parameter_constraints)
        resolve_device(self.device)
        for scalar in (self.learning_rate, self.weight_decay, self.max_grad_norm):
            check_schedule(scalar)
        check_schedule(self.dropout, "[0, 1)")
        if X_val is not None and not self.early_stopping:
            raise ValueError("X_val is given, but early_stopping=False makes no use of it.")
        return self._make_recipe()

    def _asks_for_pca(self) -> bool:
        return self.init == "pca" and self.encoder is None and self.decoder is None

    def _begin(
        self, X: Any, training: np.ndarray, generator: Generator, *, more_to_come: bool = False
    ) -> tuple[Trainer, np.ndarray, Any]:
        """Start anew: scaling, network, its start.

        Return them, and the rows that the network is trained on with their mean: X, or its
        coordinates.
        """
        robust = self._recipe.loss.is_robust
        scaling = fit_scaling(X, self.scale, robust=robust)
        self._check_values(X, scaling, ColumnSummary(scaling.mean, scaling.low, scaling.high))
        axes = self._principal_axes(X, scaling)
        rows = StreamedRows(X, training, scaling, torch.device("cpu"))
        self._fitted_with = {name: kept(getattr(self, name)) for name in self._architecture}
        build = partial(
            build_core,
            self._make_core(None if more_to_come else rows),
            n_features=X.shape[1],
            n_encoded=self._n_encoded(),
            n_components=self.n_components_,
            hidden_layer_sizes=hidden_widths(self.hidden_layer_sizes, X.shape[1]),
            activation=self.activation,
            skip=self._recipe.starts_at_pca,
            encoder=deepcopy(self.encoder),
            decoder=deepcopy(self.decoder),
            tied_weights=self._recipe.tied_weights,
        )
        core = build(generator=generator)
        core.leave_out(torch.from_numpy(scaling.constant))
        start = axes.first(self.n_components_) if axes and self._recipe.starts_at_pca else None
        self._start(core, start, scaling, rows, generator)
        if not more_to_come:
            X, scaling = self._in_coordinates(X, core, axes, scaling)
            rows = StreamedRows(X, training, scaling, torch.device("cpu"))
            self._pretrain(core, scaling, rows, generator)
        self._start_codes(core, rows, generator)
        self._recipe = self._recipe.for_residuals(partial(residuals_of, core, rows))
        mean = summarize(X).mean if robust else scaling.mean  # a robust one is of fewer rows
        return self._open(build, core, scaling, generator), mean, X

    def _in_coordinates(
        self, X: Any, core: Core, axes: PrincipalAxes | None, scaling: Scaling
    ) -> tuple[Any, Scaling]:
        """Return rows and scaling to train with: in coordinates if there are any to use."""
        n_axes, n_features = self._n_coordinates(X, scaling), X.shape[1]
        recipe = self._recipe.in_coordinates(n_features) if n_axes else None
        if axes is None or recipe is None:
            return X, scaling
        leading = axes.components[:n_axes][axes.variances[:n_axes] > 0]
        kind = Coordinates.spread if self._most_epochs(X) else Coordinates
        coordinates = kind(leading, scaling)
        self._wide, self._recipe = WideFit(coordinates, self._recipe), recipe
        self._wide.narrow(core)
        rows = coordinates.of(X)
        return rows, coordinates.scaling_of(rows)

    def _n_coordinates(self, X: Any, scaling: Scaling) -> int:
        """Return in how many coordinates of X a built-in network is trained; 0 is for none."""
        built_in = self.encoder is None and self.decoder is None
        if not built_in or not scaling.is_uniform or self._recipe.in_coordinates(1) is None:
            return 0
        n_axes = count_coordinates(X.shape[0], X.shape[1], self.n_components_)
        if self._most_epochs(X):
            return n_axes
        return min(n_axes, self.n_components_) if self._recipe.starts_at_pca else 0

    def _scaling_of(self, trainer: Trainer) -> Scaling:
        """Return the scaling of rows of all features."""
        return trainer.scaling if self._wide is None else self._wide.coordinates.scaling

    def _check_values(self, X: Any, scaling: Scaling, summary: ColumnSummary) -> None:
        """Refuse rows for which training is not defined."""
        scaling.check_reach(summary)
        self._recipe.loss.check_support(summary.low, summary.high)

    def _principal_axes(self, X: Any, scaling: Scaling) -> PrincipalAxes | None:
        """Set the number of components and return the axes that it, or the start, needs."""
        self.n_components_, fraction = self._wanted_components(X)
        n_axes = self._n_coordinates(X, scaling)
        if fraction is None and not self._recipe.starts_at_pca and not n_axes:
            return None
        n_axes = max(n_axes, self.n_components_)
        if self._recipe.loss.is_robust:
            axes = robust_axes(X, scaling, n_axes)
        else:
            axes = principal_axes(CentredRows(X, scaling), n_axes, scaling.constant)
        if fraction is not None and scaling.is_uniform:
            needed = len(axes.reaching(fraction).variances)
            self.n_components_ = self._divisible(needed, min(X.shape))
        return axes

    def _wanted_components(self, X: Any) -> tuple[int, float | None]:
        """Return a number of components, and the share of the variance that the first need."""
        fraction, most = self._score_to_reach(), min(X.shape)
        counted = fraction is None and self.n_components is not None
        return int(self.n_components) if counted else most, fraction

    def _divisible(self, k: int, most: int) -> int:
        """Return a number of components, about k, that a network can have."""
        return k

    def _score_to_reach(self) -> float | None:
        """Return `n_components` where it is a score to reach and not a number."""
        counted = self.n_components is None or isinstance(self.n_components, Integral)
        return None if counted else float(self.n_components)

    def _most_epochs(self, X: Any) -> int:
        """Return the largest number of epochs, once the number of components is known."""
        return most_epochs(self.max_iter, self.batch_size, X.shape[0])

    @property
    def _training_tol(self) -> float:
        return float(self.tol)

    def _resume(
        self, X: Any, training: np.ndarray, generator: Generator
    ) -> tuple[Trainer, np.ndarray, Any]:
        """Go on from the fitted network. Return it, X's mean and X."""
        for name, fitted in self._fitted_with.items():
            wanted = getattr(self, name)
            if not same(wanted, fitted):
                raise ValueError(
                    f"{type(self).__name__} cannot go on from its last fit with {name}={wanted!r}: "
                    f"it was fitted with {name}={fitted!r}. Fit it anew with warm_start=False, or "
                    "set the parameter back."
                )
        net, summary = self._net, summarize(X)
        self._check_values(X, net.scaling, summary)
        self._recipe = replace(self._recipe, loss=net.loss)
        return self._open(net.build, net.make_core(), net.scaling, generator), summary.mean, X

    def _step_size(self, n_features: int) -> Any:
        """Return the learning rate, a number or a schedule."""
        widths = hidden_widths(self.hidden_layer_sizes, n_features)
        custom = self.encoder is not None or self.decoder is not None
        return step_size(self.learning_rate, widths, n_features, custom=custom)

    def _open(
        self, build: partial[Core], core: Core, scaling: Scaling, generator: Generator
    ) -> Trainer:
        device = resolve_device(self.device)
        return Trainer(
            build,
            core,
            scaling,
            device,
            self._recipe.objective(scaling, device),
            generator,
            loss=self._recipe.loss,
            learning_rate=self._step_size(len(scaling.mean)),
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            max_grad_norm=self.max_grad_norm,
            corrupt=self._recipe.corruption,
            precision=self.precision,
        )

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

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_net")


def _is_network(value: Any) -> bool:
    return callable(value) and not isinstance(value, BaseEstimator)


def kept(value: Any) -> Any:
    """Return what to compare a parameter with later: a copy, but networks themselves."""
    return value if _is_network(value) else deepcopy(value)


def same(wanted: Any, fitted: Any) -> bool:
    """Return whether a parameter still is what it was; networks are the same if they are one."""
    if wanted is fitted or _is_network(wanted) or _is_network(fitted):
        return wanted is fitted
    return repr(wanted) == repr(fitted) or np.array_equal(wanted, fitted)
