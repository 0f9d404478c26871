"""The scikit-learn contract, once: fit, partial_fit, transform, inverse_transform, score."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Generator

from .._data.rows import sum_of_squares
from .._latent.noise import scattered
from .._runtime.device import evaluation_device
from .._runtime.random import make_generator
from .._sklearn.inputs import check_codes, check_rows
from .._sklearn.params import check_n_samples, integer
from .beginning import kept
from .fitting import Fitting
from .restarts import fit_best
from .slots import takes_no_negatives

# What the next call of fit or partial_fit drops.
_OF_ONE_FIT = ("scores_per_init_", "gain_over_pca_")


class BaseAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Fitting):
    """What the three estimators offer, the same for all but where a family says otherwise.

    Scores are of the reconstruction; a family with a likelihood has its own. How fitting goes,
    and what a family brings to it, is in `Fitting`.
    """

    _loss_slot: ClassVar[str] = "loss"  # the parameter that says which rows make sense

    _doc_link_module = "skae"
    _doc_link_template = (
        "https://skae.readthedocs.io/en/stable/api.html#{estimator_module}.{estimator_name}"
    )

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
        goes_on = self.warm_start and self.__sklearn_is_fitted__()
        if self.n_init == 1 or goes_on:
            self._fit_once(X, X_val)
            return self
        self._checked_recipe(X_val)  # before any of the fits looks at rows
        best, scores = fit_best(self, X, X_val)
        parameters = self.get_params(deep=False)
        with self._draft() as draft:
            for name in [
                name for name in draft.__dict__ if name.endswith("_") or name == "_stream"
            ]:
                del draft.__dict__[name]
            draft.__dict__ |= {**best.__dict__, **parameters, "scores_per_init_": scores}
            draft._fitted_with = {name: kept(parameters[name]) for name in best._fitted_with}
        return self

    def _fit_once(self, X: Any, X_val: Any, *, scored: bool = False) -> float:
        """Fit the network from one start; return what it scores on X_val, or on X without that."""
        with self._draft() as draft:
            if not self.warm_start:
                draft.__dict__.pop("_net", None)
            for name in _OF_ONE_FIT:
                draft.__dict__.pop(name, None)
            compared = draft._fit(X, X_val)
            del draft._recipe, draft._recipes
            draft.__dict__.pop("_wide", None)
        return self._score(compared) if scored else math.nan

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train on X, going on from where the last call left off.

        It trains for one epoch; in a stream that began with `partial_fit`, for as many as make 64
        steps, but no more than 8 or a sixth of the rows; for none with ``max_iter=0``. The first
        call on an unfitted estimator fixes the scaling, the start and ``n_components_`` from its
        rows. Nothing is held out. `sample`, and attributes that describe training rows, describe
        those of all calls since the last `fit`, each encoded by the network as it was after their
        call.

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
            for name in _OF_ONE_FIT:
                draft.__dict__.pop(name, None)
            draft._partial_fit(X)
            del draft._recipe, draft._recipes
        return self

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

    def interpolate(self, A: Any, B: Any, n_steps: int = 10) -> np.ndarray:
        """Return rows on the path from rows A to rows B, straight in the codes.

        Parameters
        ----------
        A, B : array-like or sparse matrix of shape (n_pairs, n_features)
            Where paths begin, and where they end.
        n_steps : int, default=10
            Number of rows on each path, both ends included: these are the reconstructions of a row
            of A and of one of B.

        Returns
        -------
        X : ndarray of shape (n_pairs, n_steps, n_features_in_)
            Rows, in the units of the training data.

        Raises
        ------
        ValueError
            If A and B differ in their number of rows, or `n_steps` is not an int of at least 2.
        """
        A, B = self._known_rows(A), self._known_rows(B)
        if A.shape[0] != B.shape[0]:
            raise ValueError(
                f"A has {A.shape[0]} rows and B has {B.shape[0]}: a path goes from a row of A to "
                "that of B with the same number. Give both as many rows."
            )
        if not integer("[2, inf)").is_satisfied_by(n_steps):
            raise ValueError(f"n_steps must be an int in the range [2, inf). Got {n_steps!r}.")
        start, end = self._encode(A), self._encode(B)
        share = np.linspace(0, 1, n_steps, dtype=start.dtype)[:, None]
        codes = start[:, None] * (1 - share) + end[:, None] * share  # (n_pairs, n_steps, k)
        rows = self._decode(codes.reshape(-1, codes.shape[2]))
        return rows.reshape(A.shape[0], n_steps, -1)

    def sample(
        self, n_samples: int = 1, random_state: Any = None, *, mean: bool = False
    ) -> np.ndarray:
        """Draw rows from the fitted model: codes, and rows around what they stand for.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Source of the draws; None continues NumPy's global generator, as everywhere in
            scikit-learn.
        mean : bool, default=False
            Whether rows are what the codes stand for, without the noise around it.

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
        n_rows = check_n_samples(n_samples)
        return self._draw(n_rows, make_generator(random_state), mean)

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
        return self._score(self._known_rows(X))

    def _score(self, X: Any) -> float:
        unexplained = float(self._squared_errors(X).sum())
        total = self._total(X)
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

    def _with_noise(
        self, rows: np.ndarray, noise: Callable[[], np.ndarray], generator: Generator
    ) -> np.ndarray:
        """Draw rows around what codes stand for: from the loss, or with noise of residuals."""
        loss = self._net.loss
        if hasattr(loss, "sample"):
            return scattered(rows, loss, np.asarray(1.0), self._net.scaling, generator)
        return rows + noise()

    def _total(self, X: Any) -> float:
        return sum_of_squares(X, self.mean_)

    def _squared_errors(self, X: Any) -> np.ndarray:
        return self._net.squared_errors(X, evaluation_device(self.device))

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = takes_no_negatives(getattr(self, self._loss_slot, None))
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
