"""How a fit begins: the recipe, the scaling, where training starts, the network on its device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
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
from .._inference.fitted import FittedNet
from .._init.coordinates import Coordinates
from .._init.pca import PrincipalAxes, principal_axes
from .._init.robust_pca import residuals_of, robust_axes
from .._runtime.device import resolve_device
from .._sklearn.inputs import check_rows
from .._sklearn.params import NETWORK, SHARED_CONSTRAINTS, Constraints, check_parameters
from .._sklearn.state import GuardedState
from .._training.defaults import count_coordinates, hidden_widths, most_epochs, step_size
from .._training.trainer import Trainer
from ..architectures import Architecture
from ..modules import Core, build_core
from ..objectives._schedules import check_schedule
from .recipe import Recipe
from .wide import WideFit


class Beginning(GuardedState, ABC):
    """How an estimator's draft begins a fit, anew or from what it has learned.

    A family says what its recipe is (`_make_recipe`), how its core is made (`_make_core`,
    `_n_encoded`) and where it starts (`_start`, `_pretrain`, `_start_codes`).

    `_recipe` is there while a fit lasts, and not after it, as is `_wide` where a network is trained
    in coordinates: rows, network and `mean_` are then those of coordinates until it is published.
    """

    _parameter_constraints: ClassVar[Constraints] = {
        **SHARED_CONSTRAINTS,
        "encoder": [NETWORK, Architecture, None],
    }

    n_components_: int
    n_features_in_: int
    feature_names_in_: np.ndarray
    _net: FittedNet
    _recipe: Recipe
    _recipes: list[Recipe]
    _wide: WideFit | None = None

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

    def _pretrain(self, core: Any, scaling: Scaling, rows: Rows, generator: Generator) -> None:
        """Train parts of the core, on the CPU, before the whole is trained."""

    def _start_codes(self, core: Any, rows: StreamedRows, generator: Generator) -> None:
        """Set what the core starts from among the codes of its encoder."""

    def _n_encoded(self) -> int:
        """Return the encoder's number of outputs."""
        return self.n_components_

    def _enter(self, X: Any, X_val: Any = None) -> Any:
        self._recipe = self._checked_recipe(X_val)
        X = check_rows(self, X, reset=not self.__sklearn_is_fitted__())
        if (architecture := self._networks_of) is not None:
            architecture.check(X.shape[1])
            self._check_patches()
        self._recipes = self._candidates(X)
        self._recipe = self._recipes[0]
        return X

    def _candidates(self, X: Any) -> list[Recipe]:
        """Return the recipe, or several of which held-out rows choose one, the likeliest first."""
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
        if isinstance(self.encoder, type) and hasattr(self.encoder, "patches"):
            raise ValueError(
                f"encoder={self.encoder.__name__} is a class, and an architecture must be an "
                f"object. Pass {self.encoder.__name__}(...), with the shape of a row."
            )
        if self._networks_of is not None:
            self._networks_of.check()
        if self._networks_of is not None and self.decoder is not None:
            raise ValueError(
                f"decoder must be None with encoder={self.encoder!r}, which makes a decoder that "
                f"mirrors the encoder. Got {self.decoder!r}."
            )
        return self._make_recipe()

    @property
    def _networks_of(self) -> Architecture | None:
        """The architecture that makes encoder and decoder, if there is one."""
        return self.encoder if isinstance(self.encoder, Architecture) else None

    @property
    def _patches(self) -> list[np.ndarray] | None:
        """The features that each part of the code stands for, where parts have a place."""
        return self._networks_of.patches() if self._networks_of else None

    @property
    def _is_built_in(self) -> bool:
        """Whether no network is the user's."""
        return self.decoder is None and (self.encoder is None or self._networks_of is not None)

    def _check_patches(self) -> None:
        """Refuse an architecture whose codes have places where codes are of whole rows."""
        if self._patches is not None:
            raise ValueError(
                f"encoder={self.encoder!r} has a code for each position, which is for "
                "VQVAETransformer. Use grid=False."
            )

    def _asks_for_pca(self) -> bool:
        return self.init == "pca" and self._is_built_in

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
        made_by = deepcopy(self._networks_of)
        build = partial(
            build_core,
            self._make_core(None if more_to_come else rows),
            n_features=X.shape[1],
            n_encoded=self._n_encoded(),
            n_components=self.n_components_,
            hidden_layer_sizes=self._hidden_widths(X.shape[1]),
            activation=self.activation,
            skip=self._recipe.starts_at_pca,
            encoder=None if made_by else deepcopy(self.encoder),
            decoder=deepcopy(self.decoder),
            tied_weights=self._recipe.tied_weights,
            pair=made_by.build if made_by else None,
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
        perceptrons = self.encoder is None and self.decoder is None
        if not perceptrons or not scaling.is_uniform or self._recipe.in_coordinates(1) is None:
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
        return int(self.n_components) if counted else self._divisible(most, most), fraction

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
        kind = {
            "custom": not self._is_built_in,
            "architecture": self._networks_of is not None,
        }
        return step_size(self.learning_rate, self._hidden_widths(n_features), n_features, **kind)

    def _hidden_widths(self, n_features: int) -> list[int]:
        """Return the widths of hidden layers; "auto" is none beside those of an architecture."""
        if self._networks_of is not None and isinstance(self.hidden_layer_sizes, str):
            return []
        return hidden_widths(self.hidden_layer_sizes, n_features)

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
    if isinstance(wanted, BaseEstimator) and type(wanted) is type(fitted):
        parts = wanted.get_params(deep=False), fitted.get_params(deep=False)
        return all(same(parts[0][name], parts[1][name]) for name in parts[0])
    return repr(wanted) == repr(fitted) or np.array_equal(wanted, fitted)
