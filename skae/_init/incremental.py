"""Principal axes of rows that come in batches, and how a linear path follows them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from .._data.rows import dense
from .._data.scaling import Scaling
from .._latent.basis import signs_of
from .._runtime.threads import threads_for
from .pca import PrincipalAxes


@dataclass(frozen=True)
class SeenRows:
    """What is kept of rows in scaled units: their mean, and their principal axes.

    Attributes
    ----------
    n_samples : int
        Number of rows.
    mean : ndarray of shape (n_features,)
        Their mean.
    axes : ndarray of shape (n_components, n_features)
        Their principal axes, the largest entry of each positive.
    squares : ndarray of shape (n_components,)
        Sums of squares along these, descending.
    variance : ndarray of shape (n_features,)
        Variance of each feature, divided by n_samples.
    rotation : ndarray of shape (n_components, n_components)
        The linear path of a network that follows the rows has the directions ``rotation @ axes``.
    """

    n_samples: int
    mean: np.ndarray
    axes: np.ndarray
    squares: np.ndarray
    variance: np.ndarray
    rotation: np.ndarray

    @classmethod
    def of_all(cls, n_samples: int, axes: PrincipalAxes, scaling: Scaling) -> SeenRows:
        """Return what is kept of rows, of which the axes and the scaling are known."""
        mean, variance = scaling.to_scaled(scaling.mean), scaling.variance / scaling.scale**2
        squares = n_samples * axes.variances
        return cls(n_samples, mean, axes.components, squares, variance, np.eye(len(squares)))

    @property
    def unexplained(self) -> float:
        """Sum of squares that the axes leave."""
        return max(self.n_samples * float(self.variance.sum()) - float(self.squares.sum()), 0.0)

    @property
    def directions(self) -> np.ndarray:
        """Directions of the linear path, (n_components, n_features)."""
        return self.rotation @ self.axes

    def with_batch(self, rows: np.ndarray) -> SeenRows:
        """Return what is kept of these and of more rows, (n_rows, n_features).

        The axes are those of IncrementalPCA (Ross, Lim, Lin and Yang, "Incremental Learning for
        Robust Visual Tracking", 2008, section 3.1). The linear path turns towards them no more
        than it must: its directions stay as near as can be to what they were.
        """
        n, k = self.n_samples + len(rows), len(self.axes)
        mean = rows.mean(0)
        shift = np.sqrt(self.n_samples * len(rows) / n) * (self.mean - mean)
        centred = rows - mean
        stacked = np.vstack([np.sqrt(self.squares)[:, None] * self.axes, centred, shift])
        with threads_for(stacked.size):
            _, singular, axes = torch.linalg.svd(torch.from_numpy(stacked), full_matrices=False)
        axes, squares = axes[:k].numpy(), np.square(singular[:k].numpy())
        axes = axes * signs_of(axes)[:, None]
        left, _, right = np.linalg.svd(self.directions @ axes.T)
        return replace(
            self,
            n_samples=n,
            mean=self.mean + (mean - self.mean) * (len(rows) / n),
            axes=axes,
            squares=squares,
            variance=(self.n_samples * self.variance + np.square([*centred, shift]).sum(0)) / n,
            rotation=left @ right,
        )

    def errors(self, rows: np.ndarray) -> np.ndarray:
        """Return each row's squared distance from the plane of the axes."""
        centred = rows - self.mean
        return np.square(centred).sum(1) - np.square(centred @ self.axes.T).sum(1)


def scaled_rows(rows: object, scaling: Scaling) -> np.ndarray:
    """Return rows, dense or CSR, in scaled units, float64."""
    return scaling.to_scaled(dense(rows))
