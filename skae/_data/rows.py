"""Rows of X, dense or CSR: blocks of them, and statistics of their columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

# Rows per dense float64 block in which statistics are computed; a constant, so that sums round
# alike for dense, sparse and memory-mapped input.
_BLOCK_BYTES = 2**21
# Whole numbers that went through a scaler may be off by a rounding.
_ROUNDING = 1e-6


def dense_blocks(X: Any, n_rows: int | None = None) -> Iterator[np.ndarray]:
    """Yield consecutive rows of X, dense or CSR, as dense float64 blocks."""
    n_rows = n_rows or max(1, _BLOCK_BYTES // (8 * X.shape[1]))
    for start in range(0, X.shape[0], n_rows):
        yield dense(X[start : start + n_rows])


def dense(X: Any) -> np.ndarray:
    """Return rows as float64 in C order, in which sums round alike whatever the order was."""
    return np.ascontiguousarray(as_array(X), dtype=np.float64)


def as_array(X: Any) -> np.ndarray:
    """Return rows, dense or CSR, as an array of their dtype."""
    return X.toarray() if sparse.issparse(X) else X


class ColumnSummary(NamedTuple):
    """Mean, smallest and largest value of each feature, each of shape (n_features,)."""

    mean: np.ndarray  # the exact value where a feature is constant
    low: np.ndarray
    high: np.ndarray


def summarize(X: Any) -> ColumnSummary:
    """Summarize the columns of X, dense or CSR, in one pass.

    Raises
    ------
    ValueError
        If X holds NaN or infinity, which ``assume_finite=True`` lets through.
    """
    total = np.zeros(X.shape[1])
    low, high = np.full(X.shape[1], np.inf), np.full(X.shape[1], -np.inf)
    for block in dense_blocks(X):
        total += block.sum(0)
        np.minimum(low, block.min(0), out=low)
        np.maximum(high, block.max(0), out=high)
    if not np.isfinite(total).all():
        raise ValueError("Input X contains NaN or infinity.")
    return ColumnSummary(np.where(low < high, total / X.shape[0], low), low, high)


def count_distinct(X: Any, index: np.ndarray, most: int) -> int:
    """Return the number of distinct rows of X among those at `index`, counting up to `most`."""
    seen: set[bytes] = set()
    for start in range(0, len(index), most):
        rows = dense(X[index[start : start + most]]) + 0.0  # -0.0 is 0.0
        seen.update(row.tobytes() for row in rows)
        if len(seen) >= most:
            return most
    return len(seen)


def check_whole_numbers(X: Any, likelihood: str) -> None:
    """Check that X holds whole numbers only, as a discrete likelihood needs.

    Raises
    ------
    ValueError
        Naming the first feature with another value.
    """
    for block in dense_blocks(X):
        offenders = np.argwhere(abs(block - np.rint(block)) > _ROUNDING)
        if len(offenders):
            row, feature = offenders[0]
            raise ValueError(
                f"The {likelihood} likelihood is defined for whole numbers, and feature {feature} "
                f"of X has the value {block[row, feature]}. Make X whole, for example with "
                "sklearn.preprocessing.Binarizer or KBinsDiscretizer, or choose a likelihood for "
                "any real numbers, such as 'gaussian'."
            )


def sum_of_squares(X: Any, center: np.ndarray) -> float:
    """Return the sum of squared distances of rows of X from `center`."""
    return sum(float(np.square(block - center).sum()) for block in dense_blocks(X))
