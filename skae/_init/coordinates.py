"""Coordinates: wide rows in a few orthonormal directions, and how far they are from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse

from .._data.rows import dense_blocks
from .._data.scaling import Scaling
from .._runtime.random import normal
from .._runtime.threads import threads_for

_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Coordinates:
    """Orthonormal directions in which a network is trained instead of among all features.

    A row has a coordinate along each direction, and a last one: the length of what the directions
    leave of it. Distances between rows and reconstructions that lie in the span of the directions
    are those of the rows themselves.

    Attributes
    ----------
    axes : ndarray of shape (n_axes, n_features)
        Orthonormal rows.
    scaling : Scaling
        That of the rows, by one number for all features.
    """

    axes: np.ndarray
    scaling: Scaling

    @classmethod
    def spread(cls, axes: np.ndarray, scaling: Scaling) -> Coordinates:
        """Return coordinates in the span of axes along which rows vary about alike, as by feature.

        They are a random rotation. Adam has a step size for each weight, and takes worse steps
        where a few coordinates have nearly all of the variance.
        """
        with threads_for(_ROWS_AT_ONCE * axes.size):
            drawn = normal((len(axes), len(axes)), torch.Generator("cpu").manual_seed(0))
            rotated = torch.linalg.qr(drawn).Q @ torch.from_numpy(axes)
        return cls(rotated.numpy(), scaling)

    def of(self, X: Any) -> np.ndarray:
        """Return the coordinates of rows X, dense or CSR, in their unit and dtype."""
        with threads_for(_ROWS_AT_ONCE * self.axes.size):
            along, squares = self._products(X)
        beyond = np.sqrt(np.maximum(squares - np.square(along).sum(1), 0.0))
        return np.column_stack([along, beyond]).astype(X.dtype, copy=False)

    def _products(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return products of centred rows with the axes, and the rows' sums of squares."""
        mean = self.scaling.mean
        if sparse.issparse(X):
            along = X @ self.axes.T - self.axes @ mean
            centred = (block - mean for block in dense_blocks(X))  # exact whatever the mean
            return along, np.concatenate([np.square(block).sum(1) for block in centred])
        axes = torch.from_numpy(self.axes).T
        centred = (torch.from_numpy(block - mean) for block in dense_blocks(X, _ROWS_AT_ONCE))
        pairs = [(block @ axes, block.square().sum(1)) for block in centred]
        along, squares = (torch.cat(parts).numpy() for parts in zip(*pairs, strict=True))
        return along, squares

    def scaling_of(self, rows: np.ndarray) -> Scaling:
        """Return the scaling of rows in coordinates: the same number, and nothing subtracted."""
        zeros, squares = np.zeros(rows.shape[1]), np.square(rows, dtype=np.float64)
        scale = zeros + self.scaling.unit
        return Scaling(zeros, squares.mean(0), zeros, scale, rows.min(0), rows.max(0))
