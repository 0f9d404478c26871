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
    kept : ndarray of bool of shape (n_samples,), default=None
        Which rows count: the others are rows of zeros. None is for all.

    Attributes
    ----------
    n_kept : int
        Number of rows that count.
    sum_of_squares : float
        Sum of all squared entries.
    """

    def __init__(self, X: Any, scaling: Scaling, kept: np.ndarray | None = None) -> None:
        self.X, self.mean, self.scale = X, scaling.mean, scaling.scale
        self.shape: tuple[int, int] = X.shape
        self.sparse: bool = sparse.issparse(X)
        self.n_kept, self.kept = X.shape[0], kept
        variances = scaling.variance / scaling.scale**2
        self.sum_of_squares = float(X.shape[0] * variances.sum())
        if kept is not None:
            self.n_kept = int(np.count_nonzero(kept))
            self.sum_of_squares = sum(float(np.square(block).sum()) for block in self.blocks())

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield consecutive rows as dense float64 blocks."""
        return self._blocks(None)

    def _blocks(self, n_rows: int | None) -> Iterator[np.ndarray]:
        start = 0
        for rows in dense_blocks(self.X, n_rows):
            block = (rows - self.mean) / self.scale
            if self.kept is not None:
                block *= self.kept[start : start + len(block), None]
            start += len(block)
            yield block

    def _counted(self, along: np.ndarray) -> np.ndarray:
        """Set entries (n_samples, ...) of rows that do not count to zero."""
        return along if self.kept is None else (along.T * self.kept).T

    def column_blocks(self) -> Iterator[np.ndarray]:
        """Yield consecutive columns as dense float64 blocks of all rows."""
        columns = self.X.tocsc() if self.sparse else self.X
        width = max(1, _COLUMN_BYTES // (8 * self.shape[0]))
        for start in range(0, self.shape[1], width):
            some = slice(start, start + width)
            yield self._counted((dense(columns[:, some]) - self.mean[some]) / self.scale[some])

    def times(self, vector: np.ndarray) -> np.ndarray:
        """Multiply by a vector of shape (n_features,); CSR rows are not densified."""
        vector = vector.ravel()
        if self.sparse:
            vector = vector / self.scale
            return self._counted(self.X @ vector - self.mean @ vector)
        return np.concatenate([block @ vector for block in self.blocks()])

    def transposed_times(self, vector: np.ndarray) -> np.ndarray:
        """Multiply the transpose by a vector of shape (n_samples,); CSR is not densified."""
        vector = self._counted(vector.ravel())
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
            along = self._counted(self.X @ scaled - self.mean @ scaled)
            back = self.X.T @ along - np.outer(self.mean, along.sum(0))
            return np.asarray(back / self.scale[:, None])
        factor, product = (
            torch.from_numpy(matrix),
            torch.zeros(matrix.shape, dtype=torch.float64, device="cpu"),
        )
        for block in map(torch.from_numpy, self._blocks(_ROWS_AT_ONCE)):
            product.addmm_(block.T, block @ factor)
        return product.numpy()
