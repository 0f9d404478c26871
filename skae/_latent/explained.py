"""How much of the rows the first codes explain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._runtime.modes import Evaluation
from .moments import Map, _of_shares, _pieces, _sum_of_squares

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
