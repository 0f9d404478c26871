"""Noise around what codes stand for: from a likelihood, or residuals by feature or near codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator

from .._data.scaling import Scaling
from .._runtime.random import numpy_generator
from .._runtime.threads import threads_for

# Where distributions of single features are measured: 65 levels, dense at the tails.
_LEVELS = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, 65))

# What is kept of rows to draw noise near codes: so many of them, or about so many values, at most,
# but so many rows of any width.
_MOST_ROWS_NEAR, _MOST_VALUES_NEAR, _FEWEST_ROWS_NEAR = 4096, 2**17, 64
_ROWS_AT_ONCE = 1024


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


@dataclass(frozen=True)
class NoiseNearCodes:
    """What reconstructions of some rows miss, for draws whose codes are near those of the rows.

    Attributes
    ----------
    codes : ndarray of shape (n_rows, n_codes)
        Codes of the rows over their unit, float32.
    residuals : ndarray of shape (n_rows, n_features)
        Rows minus their reconstructions over their unit, float32.
    units : tuple of float
        The largest magnitude of codes and of residuals, which need not be numbers of float32.
    """

    codes: np.ndarray
    residuals: np.ndarray
    units: tuple[float, float]

    @classmethod
    def of(cls, codes: np.ndarray, residuals: np.ndarray) -> NoiseNearCodes:
        """Keep codes and residuals of rows."""
        units = [float(np.abs(each).max(initial=0.0)) or 1.0 for each in (codes, residuals)]
        kept = [(each / unit) for each, unit in zip((codes, residuals), units, strict=True)]
        return cls(kept[0].astype(np.float32), kept[1].astype(np.float32), (units[0], units[1]))

    def joined(self, before: NoiseNearCodes, share: float) -> NoiseNearCodes:
        """Return the noise of which about a share is as it was before, of no more rows than fit."""
        width = self.codes.shape[1] + self.residuals.shape[1]
        n_kept = min(len(self.codes) + len(before.codes), most_near(width))
        n_old = max(n_kept - len(self.codes), min(round(share * n_kept), len(before.codes)))
        old, new = _spread(len(before.codes), n_old), _spread(len(self.codes), n_kept - n_old)
        parts = (before._taken(old), self._taken(new))
        return NoiseNearCodes.of(*(np.vstack(each) for each in zip(*parts, strict=True)))

    def _taken(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return codes and residuals of some rows, float64."""
        codes, residuals = (each[rows].astype(np.float64) for each in (self.codes, self.residuals))
        return codes * self.units[0], residuals * self.units[1]

    def near(self, codes: np.ndarray) -> np.ndarray:
        """Return the residuals at the codes nearest to each of `codes`, (n_rows, n_features)."""
        known = torch.from_numpy(self.codes.astype(np.float64))
        codes = codes.astype(np.float64) / self.units[0]
        nearest = []
        with threads_for(_ROWS_AT_ONCE * known.numel()):
            for some in torch.from_numpy(codes).split(_ROWS_AT_ONCE):
                exact = "donot_use_mm_for_euclid_dist"
                nearest.append(torch.cdist(some, known, compute_mode=exact).argmin(1))
        return self._taken(torch.cat(nearest).numpy())[1]


def most_near(width: int) -> int:
    """Return of how many rows noise is kept, where these and their codes have `width` values."""
    return max(min(_MOST_ROWS_NEAR, _MOST_VALUES_NEAR // width), _FEWEST_ROWS_NEAR)


def _spread(n_rows: int, n_taken: int) -> np.ndarray:
    """Return the numbers of `n_taken` of `n_rows` rows, as evenly spread as can be."""
    return np.arange(n_taken) * n_rows // max(n_taken, 1)


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
