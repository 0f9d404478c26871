"""Rows that come in batches: an autoencoder's linear path and attributes follow all so far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .._data.scaling import Scaling
from .._init.incremental import SeenRows
from .._init.pca import PrincipalAxes
from .._latent.basis import LatentBasis
from ..modules import Core
from .pca_attributes import explained_ratios

# What a sum of squares of earlier rows counts after a call: a memory of about ten calls.
_KEPT = 0.9


@dataclass(frozen=True)
class Stream:
    """What is known of the rows so far, and of the codes that go with them.

    Attributes
    ----------
    seen : SeenRows
        Mean and axes of the rows, in scaled units.
    scaling : Scaling
        Of the first rows, by one number for all features.
    basis : LatentBasis or None
        The codes' basis, before whitening.
    white : bool
        Whether codes are whitened.
    errors, missed_before : float
        Sums of squares that the network, and that the axes alone, left of rows when they came; what
        came before counts nine tenths.
    """

    seen: SeenRows
    scaling: Scaling
    basis: LatentBasis | None = None
    white: bool = False
    errors: float = 0.0
    missed_before: float = 0.0

    @classmethod
    def of_all(cls, n_samples: int, axes: PrincipalAxes, scaling: Scaling) -> Stream:
        """Begin with rows, of which axes and scaling are known."""
        return cls(SeenRows.of_all(n_samples, axes, scaling), scaling)

    @property
    def deviations(self) -> np.ndarray:
        """Standard deviations along the axes, in X's units, (n_components,)."""
        seen = self.seen
        return self.scaling.unit * np.sqrt(seen.squares / max(seen.n_samples - 1, 1))

    @property
    def variance(self) -> np.ndarray:
        """Variance of each feature, divided by the number of rows."""
        return self.scaling.unit**2 * self.seen.variance

    @property
    def basis_given_out(self) -> LatentBasis | None:
        """The codes' basis, whitened if it is to be."""
        if self.basis is None or not self.white:
            return self.basis
        return self.basis.divided_by(self.deviations)

    def with_batch(self, rows: np.ndarray, white: bool) -> Stream:
        """Return what is known after more rows in scaled units; the basis turns to their axes."""
        seen, basis = self.seen.with_batch(rows), self.basis
        if basis is not None:
            basis = basis.turned(seen.rotation.T @ self.seen.rotation)
        return replace(self, seen=seen, basis=basis, white=white)

    def move(self, core: Core, before: Stream) -> None:
        """Move a network's linear path from where it was before."""
        now, then = self.seen, before.seen
        turn, offset = now.directions - then.directions, now.mean - then.mean
        bias = then.directions @ then.mean - now.directions @ now.mean
        core.encoder.add_linear(torch.from_numpy(turn), torch.from_numpy(bias))
        core.decoder.add_linear(torch.from_numpy(turn.T), torch.from_numpy(offset))

    def moved_moments(
        self, before: Stream, mean: np.ndarray, covariance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of the codes before, as they are given out now."""
        ones = np.ones(len(mean))
        old, new = (each.deviations if each.white else ones for each in (before, self))
        inverse = np.divide(1, new, out=0 * new, where=new > 0)
        turn = inverse[:, None] * (self.seen.rotation.T @ before.seen.rotation) * old
        shift = self.scaling.unit * (self.seen.axes @ (before.seen.mean - self.seen.mean))
        return turn @ mean + inverse * shift, turn @ covariance @ turn.T

    def missed(self, rows: np.ndarray) -> float:
        """Return the sum of squares, in X's units, that the axes leave of rows in scaled units."""
        return self.scaling.unit**2 * float(self.seen.errors(rows).sum())

    def with_errors(self, errors: float, missed: float) -> Stream:
        """Count what the network, and the axes alone, left of rows that it is to be trained on."""
        missed += _KEPT * self.missed_before
        return replace(self, errors=_KEPT * self.errors + errors, missed_before=missed)

    def attributes(self) -> dict[str, Any]:
        """Return PCA's attributes: the network leaves a share of what the axes leave."""
        share_left = self.errors / self.missed_before if self.missed_before > 0 else 1.0
        seen, unit, variance = self.seen, self.scaling.unit, self.deviations**2
        n_free = max(seen.n_samples - 1, 1)
        n_left_out = min(seen.n_samples, len(seen.mean)) - len(variance)
        left = unit**2 * seen.unexplained
        total = seen.n_samples * float(self.variance.sum())
        return {
            "explained_variance_": variance,
            "explained_variance_ratio_": explained_ratios(variance, share_left * left, total),
            "singular_values_": np.sqrt(variance * n_free),
            "noise_variance_": left / (n_free * n_left_out) if n_left_out > 0 else 0.0,
        }
