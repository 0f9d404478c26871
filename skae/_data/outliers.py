"""Outliers: which rows lie further away than nearly all others, and what to centre rows at."""

from __future__ import annotations

from typing import Any

import numpy as np

from .rows import dense

# Rows are outliers beyond the median distance plus so many standard deviations, which are taken
# from the median deviation as for a Gaussian. Of one Gaussian feature it is one row in a million.
_REACH = 7.0
_DEVIATIONS_PER_MEDIAN = 1.4826
# Medians are those of so many numbers at most, and of so many rows at least.
_MOST_NUMBERS, _FEWEST_ROWS = 2**22, 64


def within_reach(distances: np.ndarray) -> np.ndarray:
    """Return which rows are no outliers: a mask of at least half of them.

    These are the rows whose distance is at most the median plus seven times the scaled median
    absolute deviation. Where the latter is zero, as more than half of the distances are equal, the
    median itself takes its place; and where that is zero too, no row is an outlier.

    Parameters
    ----------
    distances : ndarray of shape (n_rows,)
        How far each row is from where it should be, or what it costs.

    Returns
    -------
    ndarray of bool of shape (n_rows,)
        True for rows that are kept.
    """
    median = np.median(distances)
    if median == 0:
        return np.ones(len(distances), dtype=bool)
    spread = _DEVIATIONS_PER_MEDIAN * np.median(np.abs(distances - median))
    return np.asarray(distances <= median + _REACH * (spread or abs(median)))


def evenly_spaced(X: Any) -> np.ndarray:
    """Return rows of X, dense or CSR, as float64, few enough to take medians of."""
    most = max(_MOST_NUMBERS // X.shape[1], _FEWEST_ROWS)
    return dense(X[:: -(-X.shape[0] // most)])


def deviation(values: np.ndarray) -> np.ndarray:
    """Return the scaled median absolute value of each column: a Gaussian's standard deviation."""
    return np.asarray(_DEVIATIONS_PER_MEDIAN * np.median(np.abs(values), axis=0))
