"""Centred and scaled rows as a matrix that is never formed as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import sparse

from .rows import dense, dense_blocks
from .scaling import Scaling

_COLUMN_BYTES = 2**25
_ROWS_AT_ONCE = 256


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

    def gram_times(self, matrix: np.ndarray) -> np.ndarray:
        """Multiply X'X by a matrix of shape (n_features, k) in one pass of the rows."""
        if self.sparse:
            scaled = matrix / self.scale[:, None]
            along = self.X @ scaled - self.mean @ scaled
            back = self.X.T @ along - np.outer(self.mean, along.sum(0))
            return np.asarray(back / self.scale[:, None])
        factor, product = (
            torch.from_numpy(matrix),
            torch.zeros(matrix.shape, dtype=torch.float64, device="cpu"),
        )
        for rows in dense_blocks(self.X, _ROWS_AT_ONCE):
            block = torch.from_numpy((rows - self.mean) / self.scale)
            product.addmm_(block.T, block @ factor)
        return product.numpy()
