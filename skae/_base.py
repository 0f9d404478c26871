"""The scikit-learn contract, once: fit, partial_fit, transform, inverse_transform, score, state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy, deepcopy
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Generator

from ._auto import count_held_out, hidden_widths, rows_per_batch
from ._basis import PrincipalAxes, principal_axes
from ._batches import Rows, StreamedRows
from ._device import evaluation_device, resolve_device
from ._input import (
    CentredRows,
    Scaling,
    check_codes,
    check_rows,
    dense_blocks,
    fit_scaling,
    summarize,
)
from ._parameters import SHARED_CONSTRAINTS, Constraint, check_parameters, integer
from ._persistence import GuardedState
from ._random import make_generator
from ._session import Session
from ._steps import Loss
from ._training import History
from .modules import Core, build_core


class BaseAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, GuardedState, ABC):
    """What the three estimators share: everything but the model.

    A family says how its core is made (`_make_core`, `_n_encoded`), what is minimised
    (`_objective`), where it starts (`_start`), what it learns between epochs (`_after_epoch`),
    which attributes it publishes (`_publish`), and how it draws (`_draw`). Scores are of the
    reconstruction; a family with a likelihood has its own.
    """

    _doc_link_module = "skae"
    _doc_link_template = (
        "https://skae.readthedocs.io/en/stable/api.html#{estimator_module}.{estimator_name}"
    )

    _constraints: ClassVar[dict[str, list[Constraint]]] = SHARED_CONSTRAINTS

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
    def _make_core(self, n_samples: int | None) -> Callable[..., Core]:
        """Return ``make(encoder, decoder) -> Core``, picklable; None where more rows may come."""

    @abstractmethod
    def _objective(self) -> Loss:
        """Return what is minimised, ``(x, out) -> (batch,)``."""

    @abstractmethod
    def _start(
        self,
        core: Any,
        axes: PrincipalAxes | None,
        scaling: Scaling,
        rows: Rows,
        generator: Generator,
    ) -> None:
        """Set what the core starts from; `axes` is None for a random start."""

    @abstractmethod
    def _publish(self, X: Any, n_before: int) -> None:
        """Set the family's fitted attributes from rows X and the `n_before` rows they describe."""

    @abstractmethod
    def _draw(self, n_samples: int, generator: Generator) -> np.ndarray:
        """Draw rows, float64 of shape (n_samples, n_features)."""

    def _n_encoded(self) -> int:
        """Return the encoder's number of outputs."""
        return self.n_components_

    def _loss_unit(self, scaling: Scaling) -> float:
        """Return what `tol` is a fraction of: the rows' total variance in net units."""
        return float((scaling.variance / scaling.scale**2).sum())

    def _after_epoch(self, session: Session, rows: Rows) -> None:
        """Learn what is learned between epochs."""

    # -- fit -----------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, *, X_val: Any = None) -> Self:
        """Fit the network to X.

        If it raises or is interrupted, the estimator keeps what it had learned before.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Training rows. CSR input is densified block by block, as float32.
        y : None
            Ignored; present by convention.
        X_val : array-like or sparse matrix of shape (n_validation_samples, n_features), \
default=None
            Rows that decide when to stop and which epoch to keep. None holds out
            `validation_fraction` of X.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X is not valid.
        ConvergenceError
            If training diverges at the given learning rate and at a tenth and a hundredth of it.
        """
        with self._draft() as draft:
            if not self.warm_start:
                draft.__dict__.pop("_net", None)
            draft._fit(X, X_val)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train for one epoch on X, going on from where the last call left off.

        The first call on an unfitted estimator fixes the scaling, the start and
        ``n_components_`` from its rows. Nothing is held out. `sample`, and attributes that
        describe training rows, describe those of all calls since the last `fit`, each encoded by
        the network as it was after their call.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Training rows.
        y : None
            Ignored; present by convention.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter or X is not valid, or the first call has fewer rows than
            `n_components` with ``init="pca"``.
        """
        with self._draft() as draft:
            draft._partial_fit(X)
        return self

    def _fit(self, X: Any, X_val: Any) -> None:
        X = self._enter(X)
        if X_val is not None and not self.early_stopping:
            raise ValueError("X_val is given, but early_stopping=False makes no use of it.")
        n_held_out = 0
        if X_val is None and self.max_iter:
            n_held_out = count_held_out(self.early_stopping, self.validation_fraction, X.shape[0])
        generator = make_generator(self.random_state)
        order = torch.randperm(X.shape[0], generator=generator, device="cpu").numpy()
        training = np.sort(order[n_held_out:])
        begin = self._resume if self.__sklearn_is_fitted__() else self._begin
        session, self.mean_ = begin(X, training, generator)
        rows = session.rows(X, training)
        held_out, max_epochs = None, self.max_iter
        if X_val is not None:
            X_val = check_rows(self, X_val, reset=False)
            session.scaling.check_reach(summarize(X_val))
            held_out = session.rows(X_val)
        elif n_held_out:
            held_out = session.rows(X, np.sort(order[:n_held_out]))
        elif self.early_stopping == "auto" and self._starts_at_pca():
            max_epochs = 0  # too few rows to tell whether an epoch is better than the start
        history = self._train(session, rows, held_out, max_epochs)
        self.n_samples_ = X.shape[0]
        self.n_iter_ = history.n_epochs
        self.loss_curve_ = history.loss_curve
        self.validation_loss_curve_ = history.validation_loss_curve
        self._commit(session, X, history, n_before=0, keep_optimizer=False)

    def _partial_fit(self, X: Any) -> None:
        first = not self.__sklearn_is_fitted__()
        X = self._enter(X)
        n_components = self.n_components or 0
        if first and self._starts_at_pca() and X.shape[0] < n_components:
            raise ValueError(
                f"n_components={n_components} must be less or equal to the number of samples "
                f"{X.shape[0]} of the first partial_fit call, which fixes the PCA start. Pass "
                "more rows first, or use init='random'."
            )
        begin = partial(self._begin, more_to_come=True) if first else self._resume
        every, generator = np.arange(X.shape[0]), make_generator(self.random_state)
        session, mean = begin(X, every, generator)
        if first:
            self.mean_, self.n_samples_, self.n_iter_ = mean, 0, 0
            self.loss_curve_, self.validation_loss_curve_ = [], []
        elif self._optimizer is not None:
            session.step.import_optimizer(self._optimizer)
        history = self._train(session, session.rows(X, every), None, max_epochs=1)
        n_before = self.n_samples_
        self.n_samples_ = n_before + X.shape[0]
        self.mean_ = self.mean_ + (mean - self.mean_) * (X.shape[0] / self.n_samples_)
        self.n_iter_ += history.n_epochs
        self.loss_curve_ = self.loss_curve_ + history.loss_curve
        self._commit(session, X, history, n_before=n_before, keep_optimizer=True)

    def _enter(self, X: Any) -> Any:
        check_parameters(self, self._constraints)
        resolve_device(self.device)
        return check_rows(self, X, reset=not self.__sklearn_is_fitted__())

    def _starts_at_pca(self) -> bool:
        return self.init == "pca" and self.encoder is None and self.decoder is None

    def _begin(
        self, X: Any, training: np.ndarray, generator: Generator, *, more_to_come: bool = False
    ) -> tuple[Session, np.ndarray]:
        """Start anew: scaling, network, its start. Return them and the mean of X."""
        scaling = fit_scaling(X, self.scale)
        self.n_components_ = int(self.n_components or min(X.shape))
        self._fitted_with = {name: copy(getattr(self, name)) for name in self._architecture}
        build = partial(
            build_core,
            self._make_core(None if more_to_come else X.shape[0]),
            n_features=X.shape[1],
            n_encoded=self._n_encoded(),
            n_components=self.n_components_,
            hidden_layer_sizes=hidden_widths(self.hidden_layer_sizes, X.shape[1]),
            activation=self.activation,
            skip=self._starts_at_pca(),
            encoder=deepcopy(self.encoder),
            decoder=deepcopy(self.decoder),
        )
        core = build(generator=generator)
        core.leave_out(torch.from_numpy(scaling.constant))
        axes = None
        if self._starts_at_pca():
            axes = principal_axes(CentredRows(X, scaling), self.n_components_, scaling.constant)
        rows = StreamedRows(X, training, scaling, torch.device("cpu"))
        self._start(core, axes, scaling, rows, generator)
        return self._open(build, core, scaling, generator), scaling.mean

    def _resume(
        self, X: Any, training: np.ndarray, generator: Generator
    ) -> tuple[Session, np.ndarray]:
        """Go on from the fitted network. Return it and the mean of X."""
        for name, fitted in self._fitted_with.items():
            wanted = getattr(self, name)
            if repr(wanted) != repr(fitted) and not np.array_equal(wanted, fitted):
                raise ValueError(
                    f"{type(self).__name__} cannot go on from its last fit with {name}={wanted!r}: "
                    f"it was fitted with {name}={fitted!r}. Fit it anew with warm_start=False, or "
                    "set the parameter back."
                )
        net, summary = self._net, summarize(X)
        net.scaling.check_reach(summary)
        return self._open(net.build, net.make_core(), net.scaling, generator), summary.mean

    def _open(
        self, build: partial[Core], core: Core, scaling: Scaling, generator: Generator
    ) -> Session:
        return Session(
            build,
            core,
            scaling,
            resolve_device(self.device),
            self._objective(),
            generator,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
        )

    def _train(
        self, session: Session, rows: Rows, held_out: Rows | None, max_epochs: int
    ) -> History:
        return session.train(
            rows,
            held_out,
            max_epochs=max_epochs,
            batch_size=rows_per_batch(self.batch_size, rows.n_rows),
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol * self._loss_unit(session.scaling),
            start_counts=self._starts_at_pca() or self.__sklearn_is_fitted__(),
            after_epoch=lambda: self._after_epoch(session, rows),
            report=self._report,
        )

    def _report(self, history: History) -> None:
        if self.verbose:
            print(f"[{type(self).__name__}] {history.last_epoch(self.max_iter)}")

    def _commit(
        self, session: Session, X: Any, history: History, *, n_before: int, keep_optimizer: bool
    ) -> None:
        """Publish what was learned."""
        self.best_loss_ = history.best_loss
        self._net = session.fitted_net()
        self._optimizer = session.step.export_optimizer() if keep_optimizer else None
        self._publish(X, n_before)

    # -- use -----------------------------------------------------------------------------------

    def transform(self, X: Any) -> np.ndarray:
        """Return the codes of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_)
            Codes, in X's floating dtype. A row's code does not depend on the rows beside it.
        """
        return self._encode(self._known_rows(X))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the rows that codes stand for.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes, as `transform` returns them.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features_in_)
            Reconstructed rows, in the units of the training data.
        """
        check_is_fitted(self)
        return self._decode(check_codes(self, X, self.n_components_))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw rows from the fitted model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Source of the draws; None continues NumPy's global generator, as everywhere in
            scikit-learn.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features_in_)
            Float64 rows, in the units of the training data.

        Raises
        ------
        ValueError
            If `n_samples` is not a positive integer.
        """
        check_is_fitted(self)
        if not integer("[1, inf)").allows(n_samples):
            raise ValueError(f"n_samples must be an int in the range [1, inf). Got {n_samples!r}.")
        return self._draw(int(n_samples), make_generator(random_state))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the fraction of variance explained, 1 - SSE / SST, with the training mean.

        On training rows PCA's is ``explained_variance_ratio_.sum()``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored; present by convention.

        Returns
        -------
        float
            At most 1; where X equals the training mean, 1.0 if it is reproduced and else 0.0.
        """
        X = self._known_rows(X)
        unexplained = float(self._squared_errors(X).sum())
        total = sum(float(np.square(block - self.mean_).sum()) for block in dense_blocks(X))
        if total == 0:
            return 1.0 if unexplained == 0 else 0.0
        return 1.0 - unexplained / total

    def score_samples(self, X: Any) -> np.ndarray:
        """Return minus the squared reconstruction error of each row, in X's units.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Minus the error summed over features, float64.
        """
        return -self._squared_errors(self._known_rows(X))

    def _known_rows(self, X: Any) -> Any:
        check_is_fitted(self)
        return check_rows(self, X, reset=False)

    def _encode(self, X: Any) -> np.ndarray:
        return self._net.encode(X, evaluation_device(self.device))

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        return self._net.decode(codes, evaluation_device(self.device))

    def _squared_errors(self, X: Any) -> np.ndarray:
        return self._net.squared_errors(X, evaluation_device(self.device))

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_net")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
