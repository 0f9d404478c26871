"""How much of the rows the first codes explain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._runtime.modes import Evaluation
from .._runtime.threads import threads_for
from .basis import LatentBasis
from .moments import CodeMoments, Map, _of_shares, _pieces, _product, _slices, _sum_of_squares

# What the codes explain one by one is estimated from so many rows that about this many are decoded.
_MOST_DECODED = 2**15


def step_through(n_decoded: int) -> int:
    """Return the step in which to go through rows, so that not too many are decoded."""
    return -(-n_decoded // _MOST_DECODED)


def errors_of_the_first(
    X: Any,
    codes: np.ndarray,
    row_mean: np.ndarray,
    make_decode: Callable[[], Map],
    rest: np.ndarray,
) -> np.ndarray:
    """Return sums of squared errors of rows X when only the first 1, ..., k codes are let through.

    The others are held at `rest`; for the rest see `code_moments`. The result has shape (k,).
    """

    def squares(share: list[slice]) -> np.ndarray:
        decode, errors = make_decode(), np.zeros(codes.shape[1])
        with Evaluation():
            for some, rows in _pieces(X, row_mean, share):
                kept = np.zeros_like(codes[some]) + rest.astype(codes.dtype)
                for j in range(len(errors)):
                    kept[:, j] = codes[some, j]
                    decoded = decode(kept)
                    decoded -= rows
                    errors[j] += _sum_of_squares(decoded)
        return errors

    return np.sum(list(_of_shares(squares, X.shape, codes.shape[1] ** 2)), axis=0)


def explained_ratios(
    X: Any,
    codes: np.ndarray,
    make_decode: Callable[[], Map],
    loadings: np.ndarray,
    basis: LatentBasis,
    moments: CodeMoments,
    unexplained: float,
) -> np.ndarray:
    """Return the score of the first code, then the gain as each next one is let through.

    Of many rows only some are decoded once per code. What holds for these and not for all is
    corrected for by the decoder's linear part, of which it is known for all.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Training rows.
    codes : ndarray of shape (n_samples, n_components)
        Their codes, not whitened.
    make_decode : callable
        Makes, for one thread, a map from codes to rows less their mean.
    loadings : ndarray of shape (n_components, n_features)
        Jacobian of that at the mean code.
    basis : LatentBasis
        The map from raw codes to `codes`, which says where those are held that are not let through.
    moments : CodeMoments
        Of raw codes and the rows.
    unexplained : float
        Sum of squared errors with all codes.

    Returns
    -------
    ndarray of shape (n_components,)
        Zeros where X does not vary.
    """
    total, rest = moments.total, basis.rest
    if total == 0:
        return np.zeros(codes.shape[1])
    every = step_through(codes.size)
    some, some_codes = X[::every], codes[::every]
    errors = errors_of_the_first(some, some_codes, moments.row_mean, make_decode, rest)
    if every > 1:
        with Evaluation():
            center = make_decode()(rest[None])[0].copy()
        linear = _linear_errors(moments, basis, len(codes), center, loadings)
        linear_of_some = _linear_errors_of(
            some, moments.row_mean + center, some_codes - rest, loadings
        )
        correction = errors - linear_of_some
        errors = linear + correction * (len(codes) / len(some_codes))
        errors[-1] = unexplained
    return -np.diff(errors, prepend=total) / total


def _linear_errors(
    moments: CodeMoments, basis: LatentBasis, n_rows: int, center: np.ndarray, loadings: np.ndarray
) -> np.ndarray:
    """Return `errors_of_the_first` of all rows for the decoder ``center + codes @ loadings``.

    The center is counted from the rows' mean, and codes from where they rest. Exact where the
    loadings are orthonormal.
    """
    shift, mean = -center, basis.forward @ (moments.mean - basis.origin)
    mean = mean - basis.rest
    along = ((moments.row_cross @ basis.forward.T) * loadings.T).sum(0) + (loadings @ shift) * mean
    squares = ((basis.forward @ moments.covariance) * basis.forward).sum(1) + mean**2
    return moments.total + n_rows * (shift @ shift - np.cumsum(2 * along - squares))


def _linear_errors_of(
    X: Any, center: np.ndarray, codes: np.ndarray, loadings: np.ndarray
) -> np.ndarray:
    """Return `_linear_errors` of some rows, whose codes from where they rest are given."""
    total, gains = 0.0, np.zeros(codes.shape[1])
    for some, centred in _pieces(X, center, _slices(X.shape)):
        y = codes[some]
        with threads_for(centred.shape[0] * loadings.size):
            along = _product(centred.T, loadings.T)
        gains += (2 * along * y - y**2).sum(0)
        total += _sum_of_squares(centred)
    return total - np.cumsum(gains)
