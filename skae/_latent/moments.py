"""How codes and reconstructions of rows vary together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .._data.rows import as_array
from .._runtime.modes import Evaluation
from .._runtime.pool import in_threads

Map = Callable[[np.ndarray], np.ndarray]

# Rows decoded at once while codes are described, and about the most values that these may have.
_ROWS_AT_ONCE = 4096
_PIECE_VALUES = 2**18
# Sums over rows are made of so many parts, however many threads there are.
_SHARES = 8


@dataclass(frozen=True)
class CodeMoments:
    """How raw codes and reconstructions of rows vary together.

    Attributes
    ----------
    mean : ndarray of shape (n_raw,)
        Mean of the codes.
    variances : ndarray of shape (n_raw,)
        Theirs, divided by n_samples.
    covariance : ndarray of shape (n_raw, n_raw) or None
        Theirs, divided by n_samples; None if it was not asked for.
    cross : ndarray of shape (n_features, n_raw)
        Covariance of reconstructions with codes.
    total, unexplained : float
        Sums of squares of rows about their mean, and of what reconstructions miss.
    rounding : float
        Relative rounding error of a raw code.
    """

    mean: np.ndarray
    variances: np.ndarray
    covariance: np.ndarray | None
    cross: np.ndarray
    total: float
    unexplained: float
    rounding: float


def code_moments(
    X: Any,
    codes: np.ndarray,
    row_mean: np.ndarray,
    make_decode: Callable[[], Map],
    *,
    jointly: bool = True,
) -> CodeMoments:
    """Decode the codes of rows X, dense or CSR, and return the moments of the result.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Rows.
    codes : ndarray of shape (n_samples, n_raw)
        Their raw codes.
    row_mean : ndarray of shape (n_features,)
        Their mean.
    make_decode : callable
        Makes, for one thread, a map from codes to rows less their mean, float64. What that returns
        may be written to.
    jointly : bool, default=True
        Whether the covariance of the codes is asked for, and not only their variances.
    """
    first = codes[0].astype(np.float64)
    mean = first + (codes - first).mean(0)  # exact where a code is constant

    def moments(share: list[slice]) -> tuple[np.ndarray, np.ndarray, float, float]:
        decode, total, unexplained = make_decode(), 0.0, 0.0
        n_raw, n_features = len(mean), X.shape[1]
        within = np.zeros((n_raw, n_raw) if jointly else n_raw)
        cross = np.zeros((n_features, n_raw))
        with Evaluation():
            for some, rows in _pieces(X, row_mean, share):
                decoded, centred = decode(codes[some]), codes[some] - mean
                within += _product(centred, centred) if jointly else np.square(centred).sum(0)
                cross += _product(decoded, centred)
                total += _sum_of_squares(rows)
                decoded -= rows
                unexplained += _sum_of_squares(decoded)
        return within, cross, total, unexplained

    parts = zip(*_of_shares(moments, X.shape, 2 * len(mean)), strict=True)
    within, cross, total, unexplained = (np.sum(part, axis=0) for part in parts)
    within, cross = within / len(codes), cross / len(codes)
    return CodeMoments(
        mean,
        np.diag(within) if jointly else within,
        within if jointly else None,
        cross,
        float(total),
        float(unexplained),
        float(np.finfo(codes.dtype).eps),
    )


def _sum_of_squares(array: np.ndarray) -> float:
    flat = torch.from_numpy(array).view(-1)
    return float(flat.dot(flat))


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (torch.from_numpy(left).T @ torch.from_numpy(right)).numpy()


def _slices(shape: tuple[int, int]) -> list[slice]:
    """Return slices of rows that are not too much when dense."""
    n_rows, n_features = shape
    at_once = min(_ROWS_AT_ONCE, max(1, _PIECE_VALUES // n_features))
    return [slice(start, start + at_once) for start in range(0, n_rows, at_once)]


def _of_shares(
    function: Callable[[list[slice]], Any], shape: tuple[int, int], work_per_value: int
) -> Iterator[Any]:
    """Yield what a function makes of each share of the rows' slices; threads take shares.

    `work_per_value` are the multiply-adds for each value of the rows.
    """
    slices, (n_rows, n_features) = _slices(shape), shape
    shares = [slices[i::_SHARES] for i in range(min(_SHARES, len(slices)))]
    work_per_row = n_features * work_per_value
    return in_threads(function, shares, slices[0].stop * work_per_row, n_rows * work_per_row)


def _pieces(X: Any, origin: np.ndarray, slices: list[slice]) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield each slice with its rows of X less `origin`, float64, all in one buffer."""
    buffer = np.empty((slices[0].stop - slices[0].start, X.shape[1]))
    for some in slices:
        rows = as_array(X[some])
        yield some, np.subtract(rows, origin, out=buffer[: len(rows)])


def divergence_per_code(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return each code's mean divergence from N(0, 1) in nats, from posteriors (n_rows, k)."""
    variance = np.square(std, dtype=np.float64)
    return 0.5 * (np.square(mean, dtype=np.float64) + variance - 1 - np.log(variance)).mean(0)
