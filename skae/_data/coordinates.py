"""Coordinates: wide rows in a few orthonormal directions, and how far they are from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse

from .._runtime.threads import threads_for
from .rows import dense_blocks
from .scaling import Scaling


@dataclass(frozen=True)
class Coordinates:
    """Orthonormal directions in which a network can be trained instead of among all features.

    A row has a coordinate along each direction, and a last one: the length of what they leave of
    it. Squared distances of such rows, and from rows in the span of the directions, are those of
    the rows themselves.

    Attributes
    ----------
    axes : ndarray of shape (n_axes, n_features)
        Orthonormal rows.
    scaling : Scaling
        That of the rows, by one number for all features.
    """

    axes: np.ndarray
    scaling: Scaling

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.axes.shape[1]

    @property
    def origin(self) -> np.ndarray:
        """What has coordinates of zero, in scaled units, (n_features,)."""
        return self.scaling.to_scaled(self.scaling.mean)

    def matrix(self) -> np.ndarray:
        """Return the map to coordinates, (n_axes + 1, n_features); its last row is zero."""
        return np.vstack([self.axes, np.zeros((1, self.n_features))])

    def of(self, X: Any) -> np.ndarray:
        """Return the coordinates of rows X, dense or CSR, in their units and dtype."""
        axes, mean = torch.from_numpy(self.axes.T), self.scaling.mean
        with threads_for(self.axes.size):
            if sparse.issparse(X):
                along = X @ self.axes.T - mean @ self.axes.T
                squares = X.multiply(X).sum(1) - 2 * (X @ mean) + mean @ mean
                squares = np.asarray(squares).ravel()
            else:
                blocks = (torch.from_numpy(block - mean) for block in dense_blocks(X))
                pairs = [(block @ axes, block.square().sum(1)) for block in blocks]
                along, squares = (torch.cat(part).numpy() for part in zip(*pairs, strict=True))
        beyond = np.sqrt(np.maximum(squares - np.square(along).sum(1), 0.0))
        return np.column_stack([along, beyond]).astype(X.dtype, copy=False)

    def scaling_of(self, rows: np.ndarray) -> Scaling:
        """Return the scaling of rows in coordinates: the same number, and nothing subtracted."""
        zeros, squares = np.zeros(rows.shape[1]), np.square(rows, dtype=np.float64)
        scale = zeros + self.scaling.unit
        return Scaling(zeros, squares.mean(0), zeros, scale, rows.min(0), rows.max(0))
