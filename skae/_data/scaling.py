"""Scaling: the map between rows and scaled units, and back."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from .outliers import deviation, evenly_spaced, within_reach
from .rows import ColumnSummary, dense_blocks, summarize

# Variances below are cut short by underflow.
_SMALLEST_VARIANCE = 1e-290
# Squares of larger values overflow float32, in which training runs.
_LARGEST_SCALED = 1e15
# Quotients by smaller numbers are taken in float64.
_SMALLEST_SINGLE_SCALE = 1e-30
# Rows that differ by a smaller share of a feature's range are equal there.
_ROUNDING = 1e-14


@dataclass(frozen=True)
class Scaling:
    """The map between rows and scaled units: ``net = (row - center) / scale``.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
        Mean of the rows it was fitted to, without outliers where it is robust; the exact value
        where a feature is constant.
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
        """Mask, shape (n_features,), of features that are zero in scaled units on every row."""
        return self.variance == 0

    @property
    def log_volume(self) -> float:
        """Sum of log(scale): what a density of rows has less than that of scaled rows, in nats."""
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
        """Mean square of an entry of the rows in scaled units."""
        squares = self.variance + np.square(self.mean - self.center)
        return float((squares / self.scale**2).mean())

    def check_reach(self, summary: ColumnSummary) -> None:
        """Refuse rows that are too large for float32 in scaled units.

        Raises
        ------
        ValueError
            Naming the feature and how far it reaches.
        """
        ends = np.abs([summary.low - self.center, summary.high - self.center])
        reach = ends.max(0) / self.scale
        if reach.max() > _LARGEST_SCALED:
            raise ValueError(
                f"Feature {reach.argmax()} of X reaches {reach.max():.1e} times the scale that the "
                "network works in, too large for float32. Divide X by a constant, use another "
                "scale, or drop the rows that differ from those the scale was fitted to."
            )

    def to_scaled(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Map rows to scaled units, float32 rows in float32 and others in float64, into `out`.

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

    def from_scaled(self, rows: np.ndarray) -> np.ndarray:
        """Map rows in scaled units back, in float64."""
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


def fit_scaling(X: Any, kind: str | None, *, robust: bool = False) -> Scaling:
    """Compute the scaling of rows, in a few passes of dense float64 blocks.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        The rows.
    kind : {"global", "standard"} or None
        "global" centres and divides by the root of the mean variance of the features that vary,
        "standard" divides each feature by its standard deviation, None leaves features that vary
        alone.
    robust : bool, default=False
        Whether mean and variance leave out rows that are further from the median than nearly all
        others, see `inlying_rows`.

    Raises
    ------
    ValueError
        If X holds NaN or infinity, or all variances underflow.
    """
    n_features = X.shape[1]
    mean, low, high = summarize(X)
    varies = low < high
    variance = np.where(varies, _moments(X, mean)[1], 0.0)
    if varies.any() and variance.max() < _SMALLEST_VARIANCE:
        raise ValueError(
            f"X varies by no more than {(high - low).max():.1e}, too small: squares underflow. "
            "Multiply X by a constant."
        )
    if robust and not (kept := inlying_rows(X, by_feature=kind == "standard")).all():
        mean = np.where(varies, mean + _moments(X, mean, kept)[0], mean)
        inner = _moments(X, mean, kept)[1]
        varies_inside = inner > np.square(_ROUNDING * (high - low))
        # A feature that only varies among outliers is not constant for all that.
        least = variance if kind == "standard" else inner[varies_inside].min(initial=np.inf)
        variance = np.where(varies_inside, inner, np.minimum(variance, least))

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


def inlying_rows(X: Any, *, by_feature: bool) -> np.ndarray:
    """Return which rows are about as far from the features' medians as most rows are.

    Distances are of features as they are, or `by_feature` in units of the median deviation of
    each. Medians of large X are those of rows that are evenly spaced in it.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        The rows.
    by_feature : bool
        Whether each feature has a unit of its own.

    Returns
    -------
    ndarray of bool of shape (n_samples,)
        See `within_reach`.
    """
    some = evenly_spaced(X)
    median = np.median(some, axis=0)
    unit = deviation(some - median) if by_feature else np.ones(len(median))
    # A feature that hardly ever differs from its median has no deviation; the others decide.
    weight = np.divide(1.0, unit, out=np.zeros_like(unit), where=unit > 0)
    blocks = (np.square((block - median) * weight).sum(1) for block in dense_blocks(X))
    return within_reach(np.sqrt(np.concatenate(list(blocks))))


def _moments(
    X: Any, center: np.ndarray, kept: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return means of rows minus a centre, and of their squares, of all rows or those kept."""
    total, squares, start = np.zeros_like(center), np.zeros_like(center), 0
    for block in dense_blocks(X):
        end = start + len(block)
        rows = (block if kept is None else block[kept[start:end]]) - center
        total += rows.sum(0)
        squares += np.square(rows).sum(0)
        start = end
    n_rows = X.shape[0] if kept is None else np.count_nonzero(kept)
    return total / n_rows, squares / n_rows
