"""Noise around what codes stand for: drawn from a likelihood, or from residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Generator

from .._data.scaling import Scaling
from .._runtime.random import numpy_generator

# Where distributions of single features are measured: 65 levels, dense at the tails.
_LEVELS = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, 65))


def scattered(
    rows: np.ndarray,
    likelihood: Any,
    dispersion: np.ndarray,
    scaling: Scaling,
    generator: Generator,
) -> np.ndarray:
    """Draw rows from a likelihood around `rows`, in the user's units.

    `dispersion` is in the likelihood's: scaled units, unless it has ``raw_target``.

    Raises
    ------
    ValueError
        If the likelihood returns another shape.
    """
    raw = likelihood.raw_target
    mean = rows if raw else scaling.to_scaled(rows)
    drawn = likelihood.sample(mean, dispersion, numpy_generator(generator))
    if np.shape(drawn) != rows.shape:
        raise ValueError(
            f"{type(likelihood).__name__}.sample must return rows of shape {rows.shape}, but "
            f"returned shape {np.shape(drawn)}."
        )
    return drawn if raw else scaling.from_scaled(drawn)


@dataclass(frozen=True)
class ResidualNoise:
    """What reconstructions miss, feature by feature.

    Attributes
    ----------
    variance : ndarray of shape (n_features,)
        Mean square.
    quantiles : ndarray of shape (n_levels, n_features)
        Quantiles in units of its root, float32.
    """

    variance: np.ndarray
    quantiles: np.ndarray

    @classmethod
    def of(cls, residuals: np.ndarray) -> ResidualNoise:
        """Measure residuals, (n_rows, n_features)."""
        variance = np.square(residuals).mean(0)
        quantiles = quantiles_of(residuals) / np.sqrt(variance + (variance == 0))
        return cls(variance, quantiles.astype(np.float32))

    def mixed(self, before: ResidualNoise, share: float) -> ResidualNoise:
        """Return the noise of which a share is as it was before."""
        pairs = (before.variance, self.variance), (before.quantiles, self.quantiles)
        variance, quantiles = (share * old + (1 - share) * new for old, new in pairs)
        return ResidualNoise(variance, quantiles.astype(np.float32))

    def draw(self, n_rows: int, generator: Generator) -> np.ndarray:
        """Draw noise for rows, float64 (n_rows, n_features)."""
        return draw_from_quantiles(n_rows, self.quantiles, generator) * np.sqrt(self.variance)


def quantiles_of(values: np.ndarray) -> np.ndarray:
    """Return quantiles of each column of values (n_rows, d), (n_levels, d), closer at the ends.

    They are moved and stretched so that what is drawn straight between them has the columns' means
    and variances, however few values there are or far out.
    """
    ordered, last = np.sort(np.ascontiguousarray(values.T)), len(values) - 1
    at = np.floor(_LEVELS * last).astype(int)
    below, above = ordered[:, at], ordered[:, np.minimum(at + 1, last)]
    quantiles = (below + (_LEVELS * last - at) * (above - below)).T
    low, high, share = quantiles[:-1], quantiles[1:], np.diff(_LEVELS)[:, None]
    mean = (share * (low + high) / 2).sum(0)
    square = (share * (low**2 + low * high + high**2) / 3).sum(0)
    spread = np.sqrt(np.maximum(square - mean**2, 0.0))
    stretch = np.divide(values.std(0), spread, out=np.ones_like(spread), where=spread > 0)
    return values.mean(0) + (quantiles - mean) * stretch


def draw_from_quantiles(n_rows: int, quantiles: np.ndarray, generator: Generator) -> np.ndarray:
    """Draw (n_rows, d) values whose columns have quantiles (n_levels, d), straight between them."""
    shape = (n_rows, quantiles.shape[1])
    drawn = numpy_generator(generator).random(shape)
    above = np.searchsorted(_LEVELS[1:-1], drawn) + 1
    share = (drawn - _LEVELS[above - 1]) / (_LEVELS[above] - _LEVELS[above - 1])
    low, high = (np.take_along_axis(quantiles, index, axis=0) for index in (above - 1, above))
    return low + share * (high - low)
