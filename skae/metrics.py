"""Scorers: reconstruction quality of any transformer with inverse_transform, PCA included."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.metrics import mean_absolute_error, mean_squared_error

__all__ = [
    "explained_variance_scorer",
    "neg_mean_absolute_error_scorer",
    "neg_mean_squared_error_scorer",
]


def _original_and_reconstruction(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    reconstruction = estimator.inverse_transform(estimator.transform(X))
    return _dense(X), _dense(reconstruction)


def _dense(X: Any) -> np.ndarray:
    return X.toarray() if sparse.issparse(X) else np.asarray(X, dtype=float)


def explained_variance_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score the fraction of X's variance that a reconstruction explains, 1 - SSE / SST.

    It works for everything that has ``transform`` and ``inverse_transform``: PCA, KernelPCA, NMF,
    TruncatedSVD, the estimators of skae, and pipelines of these, in the pipeline's input units.

    Parameters
    ----------
    estimator : estimator
        Fitted transformer.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows.
    y : None
        Ignored; present by convention.

    Returns
    -------
    float
        At most 1. SST is about the mean of X, which for rows other than the training rows differs
        a little from the training mean that the estimators' own ``score`` uses. Where X does not
        vary, 1.0 if it is reproduced and else 0.0.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skae.metrics import explained_variance_scorer
    >>> X, _ = load_iris(return_X_y=True)
    >>> pca = PCA(n_components=2).fit(X)
    >>> bool(abs(explained_variance_scorer(pca, X) - pca.explained_variance_ratio_.sum()) < 1e-9)
    True
    """
    original, reconstruction = _original_and_reconstruction(estimator, X)
    total = np.square(original - original.mean(0)).sum()
    unexplained = np.square(original - reconstruction).sum()
    if total == 0:
        return 1.0 if unexplained == 0 else 0.0
    return float(1 - unexplained / total)


def neg_mean_squared_error_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score minus the mean squared error of the reconstruction, per entry of X.

    Parameters
    ----------
    estimator : estimator
        Fitted transformer with ``inverse_transform``.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows.
    y : None
        Ignored; present by convention.

    Returns
    -------
    float
        At most 0, in X's units squared.
    """
    return -float(mean_squared_error(*_original_and_reconstruction(estimator, X)))


def neg_mean_absolute_error_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score minus the mean absolute error of the reconstruction, per entry of X.

    Parameters
    ----------
    estimator : estimator
        Fitted transformer with ``inverse_transform``.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows.
    y : None
        Ignored; present by convention.

    Returns
    -------
    float
        At most 0, in X's units.
    """
    return -float(mean_absolute_error(*_original_and_reconstruction(estimator, X)))
