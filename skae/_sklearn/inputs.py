"""What may enter (arrays, frames, CSR, memmaps, tensors), checked in scikit-learn's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

# Squares of larger values overflow float64; sums of larger ones float32, which is squared scaled.
_LARGEST = {np.dtype("float64"): 1e150, np.dtype("float32"): 1e36}

_NO_NUMBER = "could not convert string to float"  # NumPy's words


def check_rows(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Validate rows as scikit-learn does: float32 or float64, dense or CSR, finite.

    Parameters
    ----------
    estimator : object
        Receives ``n_features_in_`` and ``feature_names_in_`` where `reset` is true, and is held
        against them otherwise.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The rows.
    reset : bool
        Whether X defines the features.

    Returns
    -------
    ndarray or CSR of shape (n_samples, n_features), float32 or float64

    Raises
    ------
    ValueError, TypeError
        In scikit-learn's words for everything it refuses, with advice on images, series, strings
        and categories; for masked arrays, whose mask it would drop; and for values whose squares
        overflow.
    """
    if not reset and _needs_no_check(estimator, X):
        return X
    if type(X) is not np.ndarray or X.dtype.kind in "mM":
        _refuse_masks_and_dates(X)
        X = _without_torch(X)
    with _advice_on(X):
        X = validate_data(
            estimator,
            X,
            accept_sparse="csr",
            dtype=np.float32 if _is_single_frame(X) else [np.float64, np.float32],
            reset=reset,
        )
    largest = _largest(X.data if sparse.issparse(X) else X)
    if largest > (limit := _LARGEST[X.dtype]):
        what = "squares" if X.dtype == np.float64 else "sums"
        raise ValueError(
            f"Input X contains values as large as {largest:.1e}, whose {what} overflow {X.dtype}. "
            f"Divide X by a constant so that all values are below {limit:.0e}."
        )
    return X


def check_codes(estimator: Any, X: Any, n_components: int) -> np.ndarray:
    """Validate the codes given to ``inverse_transform``.

    Raises
    ------
    ValueError
        If X does not have `n_components` columns, or holds NaN or infinity.
    """
    _refuse_masks_and_dates(X)
    X = check_array(_without_torch(X), dtype=[np.float64, np.float32], input_name="X")
    if X.shape[1] != n_components:
        raise ValueError(
            f"X has {X.shape[1]} components, but {type(estimator).__name__}.inverse_transform "
            f"is expecting {n_components} components as input."
        )
    return X


def _needs_no_check(estimator: Any, X: Any) -> bool:
    """Return whether X is an array in which scikit-learn would find nothing to say or to change.

    Its checks take most of the time of a call for one row.
    """
    return (
        type(X) is np.ndarray
        and X.dtype in _LARGEST
        and X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == estimator.n_features_in_
        and not hasattr(estimator, "feature_names_in_")
        and _largest(X) <= _LARGEST[X.dtype]  # false for NaN
    )


def _largest(values: np.ndarray) -> float:
    """Return the largest magnitude, NaN if there is one."""
    return max(float(values.max(initial=0)), -float(values.min(initial=0)))


def _is_single_frame(X: Any) -> bool:
    """Return whether X is a frame of float32 columns of which scikit-learn would make float64."""
    dtypes = getattr(X, "dtypes", None)
    return isinstance(dtypes, list) and {str(each) for each in dtypes} == {"Float32"}  # polars


def _refuse_masks_and_dates(X: Any) -> None:
    if np.ma.isMaskedArray(X):
        raise ValueError(
            "Masked arrays are not supported: the mask would be ignored. Fill the masked entries, "
            "for example with sklearn.impute.SimpleImputer on X.filled(np.nan)."
        )
    dtypes: Any = getattr(X, "dtypes", [getattr(X, "dtype", None)])
    for dtype in dtypes if getattr(X, "ndim", 2) == 2 else ():
        temporal = getattr(dtype, "is_temporal", lambda: False)  # polars
        if getattr(dtype, "kind", None) in ("M", "m") or temporal():
            raise TypeError(
                f"Input X has dtype {dtype}: dates and durations are not numbers. Convert them, "
                "for example with X.astype('int64')."
            )


@contextmanager
def _advice_on(X: Any) -> Iterator[None]:
    """Add to scikit-learn's errors what to do about images and series, strings and categories."""
    try:
        yield
    except ValueError as error:
        if advice := _advice(X, str(error)):
            raise ValueError(f"{str(error).rstrip('.')}. {advice}") from error
        raise


def _advice(X: Any, message: str) -> str | None:
    if "Found array with dim" in message or _NO_NUMBER in message:
        shape = np.shape(X)
        if len(shape) > 2:
            return (
                f"X has the shape {shape}. Images and series are given as flat rows, which "
                "X.reshape(len(X), -1) makes of them. Networks for them, such as convolutions, are "
                "taken by encoder and decoder of AutoencoderTransformer; torch.nn.Unflatten "
                "reshapes back."
            )
    if _NO_NUMBER in message:
        return (
            f"Strings and categories in {_first_text(X)} must become numbers before: by "
            "sklearn.preprocessing.OneHotEncoder, or by OrdinalEncoder where they have an order, "
            "for some of the columns with sklearn.compose.make_column_transformer."
        )
    return None


def _first_text(X: Any) -> str:
    """Return the name of the first column with strings that are no numbers."""
    table = np.asarray(X)
    names = list(getattr(X, "columns", range(table.shape[1] if table.ndim == 2 else 0)))
    texts = (f"column {name!r} of X" for i, name in enumerate(names) if _is_text(table[:, i]))
    return next(texts, "X")


def _is_text(column: np.ndarray) -> bool:
    try:
        column.astype(np.float64)
    except (TypeError, ValueError) as error:
        return _NO_NUMBER in str(error)
    return False


def _without_torch(X: Any) -> Any:
    """Turn a tensor, wherever it is, into an array; leave anything else alone."""
    if not isinstance(X, torch.Tensor):
        return X
    X = X.detach().cpu()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()
