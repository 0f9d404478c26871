"""What may enter: arrays, frames, CSR, memmaps, tensors; scaling to and from net units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

# Rows per dense float64 block in which statistics are computed; a constant, so that sums round
# alike for dense, sparse and memory-mapped input.
_BLOCK_BYTES = 2**21
_COLUMN_BYTES = 2**25
# Squares of larger values overflow float64.
_LARGEST = 1e150
# Variances below are cut short by underflow.
_SMALLEST_VARIANCE = 1e-290
# Whole numbers that went through a scaler may be off by a rounding.
_ROUNDING = 1e-6
# Squares of larger values overflow float32, in which training runs.
_LARGEST_NET = 1e15
# Quotients by smaller numbers are taken in float64.
_SMALLEST_SINGLE_SCALE = 1e-30


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
        In scikit-learn's words for everything it refuses; for masked arrays, whose mask it would
        drop; and for values whose squares overflow.
    """
    if type(X) is not np.ndarray or X.dtype.kind in "mM":
        _refuse_masks_and_dates(X)
        X = _without_torch(X)
    X = validate_data(
        estimator,
        X,
        accept_sparse="csr",
        dtype=[np.float64, np.float32],
        reset=reset,
    )
    if X.dtype == np.float32:
        return X
    values = X.data if sparse.issparse(X) else X
    largest = max(float(values.max(initial=0)), -float(values.min(initial=0)))
    if largest > _LARGEST:
        raise ValueError(
            f"Input X contains values as large as {largest:.1e}, whose squares overflow. Divide "
            f"X by a constant so that all values are below {_LARGEST:.0e}."
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


def _without_torch(X: Any) -> Any:
    """Turn a tensor, wherever it is, into an array; leave anything else alone."""
    if not isinstance(X, torch.Tensor):
        return X
    X = X.detach().cpu()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()


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


@dataclass(frozen=True)
class Scaling:
    """The map between rows and net units: ``net = (row - center) / scale``.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
        Mean of the rows it was fitted to; the exact value where a feature is constant.
    variance : ndarray of shape (n_features,)
        Their variance, divided by n_samples.
    center : ndarray of shape (n_features,)
        What is subtracted: the mean, or zeros where a feature is left alone.
    scale : ndarray of shape (n_features,)
        What is divided by.
    low, high : ndarray of shape (n_features,)
        Smallest and largest value.
    """

    mean: np.ndarray
    variance: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def constant(self) -> np.ndarray:
        """Mask, shape (n_features,), of features that are zero in net units on every row."""
        return self.variance == 0

    @property
    def log_volume(self) -> float:
        """Sum of log(scale): what a density of the rows has less than one in net units, in nats."""
        return float(np.log(self.scale).sum())

    @property
    def is_uniform(self) -> bool:
        """Whether all features were divided by one number."""
        return bool(np.all(self.scale == self.scale[0]))

    @property
    def unit(self) -> float:
        """What rows were divided by, if by one number, and else 1: the unit of codes."""
        return float(self.scale[0]) if self.is_uniform else 1.0

    @property
    def second_moment(self) -> float:
        """Mean square of an entry of the rows in net units."""
        squares = self.variance + np.square(self.mean - self.center)
        return float((squares / self.scale**2).mean())

    def check_reach(self, summary: ColumnSummary) -> None:
        """Refuse rows that are too large for float32 in net units.

        Raises
        ------
        ValueError
            Naming the feature and how far it reaches.
        """
        ends = np.abs([summary.low - self.center, summary.high - self.center])
        reach = ends.max(0) / self.scale
        if reach.max() > _LARGEST_NET:
            raise ValueError(
                f"Feature {reach.argmax()} of X reaches {reach.max():.1e} times the scale that the "
                "network works in, too large for float32. Divide X by a constant, use another "
                "scale, or drop the rows that differ from those the scale was fitted to."
            )

    def to_net(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Map rows to net units, into `out` if it is given: float32 rows in float32, else float64.

        What is subtracted from float32 rows is as exact as in float64, as its remainder beyond
        float32 is subtracted too.
        """
        if rows.dtype == np.float32 and self._single is not None:
            *subtracted, scale = self._single
            net = out
            if net is None:
                net = rows.copy()
            elif net is not rows:
                net[...] = rows
            for part in subtracted:
                if part is not None:
                    net -= part
            if scale is not None:
                net /= scale
            return net
        net = rows - self.center
        net /= self.scale
        if out is None:
            return net
        out[...] = net
        return out

    def from_net(self, rows: np.ndarray) -> np.ndarray:
        """Map rows in net units back, in float64."""
        raw = rows * self.scale
        raw += self.center
        return raw

    @cached_property
    def _single(self) -> tuple[np.ndarray | None, ...] | None:
        """Center, its remainder beyond float32, and scale, in float32; None if that is too small.

        Of these, zeros that are subtracted and ones that are divided by are None.
        """
        if self.scale.min() < _SMALLEST_SINGLE_SCALE:
            return None
        center, scale = self.center.astype(np.float32), self.scale.astype(np.float32)
        remainder = (self.center - center).astype(np.float32)
        neutral = (center, 0), (remainder, 0), (scale, 1)
        return tuple(each if (each != value).any() else None for each, value in neutral)

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


def fit_scaling(X: Any, kind: str | None) -> Scaling:
    """Compute the scaling of rows, in two passes of dense float64 blocks.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        The rows.
    kind : {"global", "standard"} or None
        "global" centres and divides by the root of the mean variance of the features that vary,
        "standard" divides each feature by its standard deviation, None leaves features that vary
        alone.

    Raises
    ------
    ValueError
        If X holds NaN or infinity, or all variances underflow.
    """
    n_samples, n_features = X.shape
    mean, low, high = summarize(X)
    varies = low < high
    squares = sum((np.square(block - mean).sum(0) for block in dense_blocks(X)), np.zeros(1))
    variance = np.where(varies, squares / n_samples, 0.0)
    if varies.any() and variance.max() < _SMALLEST_VARIANCE:
        raise ValueError(
            f"X varies by no more than {(high - low).max():.1e}, too small: squares underflow. "
            "Multiply X by a constant."
        )

    scale = np.ones(n_features)
    if kind == "global" and variance.any():
        scale *= np.sqrt(variance.sum() / np.count_nonzero(variance))
    elif kind == "standard":
        spread = np.sqrt(variance)
        # Below this a feature's spread is rounding error of its mean.
        real = spread > 10 * np.finfo(np.float64).eps * np.abs(mean)
        scale = np.where(real & (spread > 0), spread, 1.0)
    center = np.where(varies, 0.0, mean) if kind is None else mean
    return Scaling(mean, variance, center, scale, low, high)


class CentredRows:
    """The matrix ``(X - mean) / scale``, never formed as a whole.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        The rows.
    scaling : Scaling
        Their mean and scale.
    """

    def __init__(self, X: Any, scaling: Scaling) -> None:
        self.X, self.mean, self.scale = X, scaling.mean, scaling.scale
        self.shape: tuple[int, int] = X.shape
        self.sparse: bool = sparse.issparse(X)
        variances = scaling.variance / scaling.scale**2
        self.sum_of_squares = float(X.shape[0] * variances.sum())

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield consecutive rows as dense float64 blocks."""
        return ((block - self.mean) / self.scale for block in dense_blocks(self.X))

    def column_blocks(self) -> Iterator[np.ndarray]:
        """Yield consecutive columns as dense float64 blocks of all rows."""
        columns = self.X.tocsc() if self.sparse else self.X
        width = max(1, _COLUMN_BYTES // (8 * self.shape[0]))
        for start in range(0, self.shape[1], width):
            some = slice(start, start + width)
            yield (dense(columns[:, some]) - self.mean[some]) / self.scale[some]

    def times(self, vector: np.ndarray) -> np.ndarray:
        """Multiply by a vector of shape (n_features,); CSR rows are not densified."""
        vector = vector.ravel()
        if self.sparse:
            vector = vector / self.scale
            return self.X @ vector - self.mean @ vector
        return np.concatenate([block @ vector for block in self.blocks()])

    def transposed_times(self, vector: np.ndarray) -> np.ndarray:
        """Multiply the transpose by a vector of shape (n_samples,); CSR is not densified."""
        vector = vector.ravel()
        if self.sparse:
            return (self.X.T @ vector - self.mean * vector.sum()) / self.scale
        product, start = np.zeros(self.shape[1]), 0
        for block in self.blocks():
            product += vector[start : start + len(block)] @ block
            start += len(block)
        return product
