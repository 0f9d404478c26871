"""Inspection: what the codes of a fitted estimator are worth, PCA's included."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_array

from ._data.rows import sum_of_squares
from ._latent.explained import errors_of_the_first

__all__ = ["cumulative_score"]


def cumulative_score(estimator: Any, X: Any) -> np.ndarray:
    """Return the score of rows when only the first 1, 2, ..., k codes are let through.

    The other codes are held at their mean over X. For PCA the result on training rows is
    ``explained_variance_ratio_.cumsum()``. For a nonlinear model it is what a plot of the number of
    codes wants, and `explained_variance_ratio_` is not: it shares out the score of all codes in
    proportion to their variances, which costs nothing. This decodes rows k times.

    Parameters
    ----------
    estimator : estimator
        Fitted transformer with ``transform`` and ``inverse_transform``, of vectors: PCA,
        `skae.AutoencoderTransformer`, `skae.VAETransformer`, or a pipeline that ends with one.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows.

    Returns
    -------
    ndarray of shape (n_components,)
        Fractions of variance explained, ``1 - SSE / SST`` with the mean of X; the last is that of
        all codes. They need not increase, and may be negative.

    Raises
    ------
    ValueError
        If codes are integers or one-hot, or X does not vary.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae.inspection import cumulative_score
    >>> X, _ = load_digits(return_X_y=True)
    >>> pca = PCA(5).fit(X)
    >>> np.allclose(cumulative_score(pca, X), pca.explained_variance_ratio_.cumsum())
    True
    """
    codes = estimator.transform(X)
    if sparse.issparse(codes) or np.asarray(codes).dtype.kind != "f":
        raise ValueError(
            f"cumulative_score is for codes that are vectors, and {type(estimator).__name__} "
            "returns integers or one-hot codes. Use encode='vectors'."
        )
    codes = np.asarray(codes)
    rows = check_array(X, accept_sparse="csr", dtype=[np.float64, np.float32])
    mean = np.asarray(rows.mean(0), dtype=np.float64).ravel()

    def decode(some: np.ndarray) -> np.ndarray:
        return np.asarray(estimator.inverse_transform(some), dtype=np.float64) - mean

    rest = codes.mean(0, dtype=np.float64)
    errors = errors_of_the_first(rows, codes, mean, lambda: decode, rest)
    total = sum_of_squares(rows, mean)
    if total == 0:
        raise ValueError("X does not vary, so that no fraction of its variance can be explained.")
    return np.asarray(1 - errors / total)
