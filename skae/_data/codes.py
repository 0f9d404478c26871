"""Discrete codes as they are given out and taken in: integers, or one-hot in CSR."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils._set_output import _get_output_config


def check_container(estimator: Any) -> None:
    """Check that the output of `transform` is not asked for as a data frame.

    Raises
    ------
    ValueError
        In the words of scikit-learn's OneHotEncoder, if it is.
    """
    container = _get_output_config("transform", estimator=estimator)["dense"]
    if container != "default":
        raise ValueError(
            f"{container.capitalize()} output does not support sparse data. Set encode='codes' or "
            f"encode='vectors' to output {container} dataframes, or disable "
            f'{container.capitalize()} output via set_output(transform="default").'
        )


def one_hot(codes: np.ndarray, size: int) -> sparse.csr_matrix:
    """Return integer codes (n_rows, n_codes) as zeros and ones, (n_rows, n_codes * size) float64.

    Each code has `size` columns side by side.
    """
    n_rows, n_codes = codes.shape
    columns = codes + size * np.arange(n_codes)
    ends = n_codes * np.arange(n_rows + 1)
    shape = (n_rows, n_codes * size)
    return sparse.csr_matrix((np.ones(codes.size), columns.ravel(), ends), shape=shape)


def codes_of_one_hot(X: Any, n_codes: int, size: int) -> np.ndarray:
    """Return the integer codes that `one_hot` was given.

    Raises
    ------
    ValueError
        If X has another width, or a row does not have a single 1 among the columns of each code.
    """
    X = sparse.csr_matrix(check_array(X, accept_sparse="csr", input_name="X"), copy=True)
    X.sum_duplicates()
    if X.shape[1] != n_codes * size:
        raise ValueError(f"X has {X.shape[1]} columns, but is expected to have {n_codes * size}.")
    X.eliminate_zeros()
    n_rows = X.shape[0]
    found = np.zeros((n_rows, n_codes), dtype=np.int64)
    counts = np.zeros((n_rows, n_codes), dtype=np.int64)
    row, code = np.repeat(np.arange(n_rows), np.diff(X.indptr)), X.indices // size
    np.add.at(counts, (row, code), 1)
    found[row, code] = X.indices % size
    wrong = (counts != 1).any(1)
    wrong[row[X.data != 1]] = True
    if wrong.any():
        raise ValueError(
            f"X is not one-hot: each row must have a single 1 among the {size} columns of each "
            f"of the {n_codes} codes, and row {wrong.argmax()} has not. Give it what transform "
            "returned."
        )
    return found


def count_codes(codes: np.ndarray, size: int) -> np.ndarray:
    """Return how often each code has each value, (n_codes, size)."""
    return np.stack([np.bincount(column, minlength=size) for column in codes.T])


def check_integer_codes(
    codes: np.ndarray, size: int, what: str = "X", advice: str = "Give it what transform returned:"
) -> np.ndarray:
    """Return codes as int64.

    Raises
    ------
    ValueError
        If one is not a whole number from 0 to ``size - 1``.
    """
    wrong = ~((codes == np.rint(codes)) & (codes >= 0) & (codes < size))
    if wrong.any():
        raise ValueError(
            f"{what} holds {codes[wrong][0]}, which is not a code. {advice} whole numbers from 0 "
            f"to {size - 1}."
        )
    return codes.astype(np.int64)
