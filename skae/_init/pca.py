"""The principal axes that training starts from (PCA, probabilistic PCA), of rows of any shape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, svds
from torch import Tensor

from .._data.centred import CentredRows
from .._data.scaling import Scaling
from .._latent.basis import signs_of
from .._runtime.random import normal
from .._runtime.threads import threads_for
from ..modules import Core
from ..objectives import Loss

# Up to this many rows or columns the eigenvalues of the smaller Gram matrix are computed exactly;
# beyond it an iteration finds the leading ones without forming that matrix.
_LARGEST_GRAM = 4096
# Products of CSR rows are cheap: a Lanczos iteration finds so few axes in no time.
_LARGEST_SPARSE_GRAM, _MOST_BY_LANCZOS = 512, 128
_KRYLOV_BLOCKS, _NARROWEST_BLOCK, _OVERSAMPLED = 8, 30, 10
_ROUNDING = 1e-15
# Products of rows this narrow are too small to share among threads, however many rows there are.
_ROWS_PER_PRODUCT = 128
# Columns of a strip of a Gram matrix: of four strips, products take 5/8 of those of the whole.
_STRIP = 192


@dataclass(frozen=True)
class PrincipalAxes:
    """Principal axes of centred rows.

    Attributes
    ----------
    components : ndarray of shape (n_components, n_features)
        Orthonormal rows in descending order of variance, the largest entry of each positive;
        zeros beyond the rank.
    variances : ndarray of shape (n_components,)
        Variance along each, divided by n_samples.
    residual : float
        Mean variance of the directions left out; 0 when none is.
    """

    components: np.ndarray
    variances: np.ndarray
    residual: float

    def maps(
        self, unit_codes: bool, tied: bool, silent: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return linear maps to codes and back, and the code of the mean.

        With `unit_codes` codes go through the logistic function on the way, and are standardised
        first: there it is about ``1 / 2 + t / 4``. With `tied` the way back is the transpose; else
        with `silent` it is zero.
        """
        encode, decode, code = self.components, self.components.T, np.zeros(len(self.components))
        if unit_codes:
            spread = np.sqrt(self.variances) + (self.variances == 0)
            encode, decode, code = encode / spread[:, None], 4 * decode * spread, code + 0.5
        if tied:
            return encode, encode.T, code
        return encode, 0 * decode if silent else decode, code

    def shared_out(self, n_parts: int) -> PrincipalAxes:
        """Return the axes in the order in which parts of equal length carry about as much.

        Each axis, in descending order of variance, goes to the part whose product of variances is
        smallest so far (Ge et al., "Optimized Product Quantization", 2013, 3.2).
        """
        logs = np.log(np.maximum(self.variances, np.finfo(np.float64).tiny))
        logs -= logs.min()
        parts: list[list[int]] = [[] for _ in range(n_parts)]
        for axis in range(len(logs)):
            with_room = [part for part in parts if len(part) < len(logs) // n_parts]
            min(with_room, key=lambda part: logs[part].sum()).append(axis)
        order = np.concatenate(parts)
        return PrincipalAxes(self.components[order], self.variances[order], self.residual)

    def reaching(self, fraction: float) -> PrincipalAxes:
        """Return the fewest leading axes with more than `fraction` of all variance, as PCA does."""
        n_axes, n_features = self.components.shape
        explained = np.cumsum(self.variances)
        wanted = fraction * (explained[-1] + self.residual * (n_features - n_axes))
        wanted *= 1 + _ROUNDING * n_axes  # a fraction that was read off these variances is not more
        k = int(np.searchsorted(explained, wanted, side="right")) + 1
        return self.first(min(k, n_axes))

    def first(self, k: int) -> PrincipalAxes:
        """Return the k leading axes."""
        n_axes, n_features = self.components.shape
        beyond = self.residual * (n_features - n_axes) + self.variances[k:].sum()
        residual = beyond / (n_features - k) if k < n_features else 0.0
        return PrincipalAxes(self.components[:k], self.variances[:k], float(residual))


def start_at_axes(
    core: Core,
    axes: PrincipalAxes | None,
    loss: Loss,
    scaling: Scaling,
    *,
    unit_codes: bool = False,
    tied: bool = False,
) -> None:
    """Start a network at principal axes, or where there are none with outputs around the mean.

    For a loss on raw rows the output is the mean's natural parameter at first.
    """
    mean = scaling.to_scaled(scaling.mean)
    offset = loss.natural(scaling.mean) if loss.raw_target else mean
    if axes is not None:
        encode, decode, code = axes.maps(unit_codes, tied, loss.raw_target)
        core.start_linear(encode, decode, mean, offset=offset - decode @ code)
    elif loss.raw_target:
        core.decoder.offset_outputs(torch.from_numpy(offset))


def principal_axes(rows: CentredRows, n_components: int, constant: np.ndarray) -> PrincipalAxes:
    """Compute the principal axes of centred rows.

    Parameters
    ----------
    rows : CentredRows of shape (n_samples, n_features)
        The rows.
    n_components : int
        Number of axes wanted; more than the rank are filled up with zeros.
    constant : ndarray of shape (n_features,)
        Mask of features whose loadings are exactly zero.
    """
    n_samples, n_features = rows.shape
    k = min(n_components, n_samples, n_features)
    total = rows.sum_of_squares
    squares, axes = np.zeros(k), np.zeros((k, n_features))
    if total > 0:
        with threads_for(_ROWS_PER_PRODUCT * n_features * min(rows.shape)):
            squares, axes = _decompose(rows, k)
    squares = np.maximum(squares, 0.0)
    rounding_error = max(rows.shape) * np.finfo(np.float64).eps * squares.max(initial=0.0)
    axes[squares <= rounding_error] = 0.0
    squares[squares <= rounding_error] = 0.0
    axes[:, constant] = 0.0
    axes *= signs_of(axes)[:, None]

    components, variances = np.zeros((n_components, n_features)), np.zeros(n_components)
    components[:k], variances[:k] = axes, squares / rows.n_kept
    left_out = n_features - k
    residual = max(total / rows.n_kept - variances.sum(), 0.0) / left_out if left_out else 0.0
    return PrincipalAxes(components, variances, residual)


def patch_axes(rows: CentredRows, patches: Sequence[np.ndarray], n_each: int) -> PrincipalAxes:
    """Compute principal axes of parts of the features, those of the first part first.

    Parameters
    ----------
    rows : CentredRows of shape (n_samples, n_features)
        The rows.
    patches : sequence of ndarray of int
        The features of each part.
    n_each : int
        Number of axes for each; more than there are features are filled up with zeros.
    """
    shape = len(patches), n_each
    components, variances = np.zeros((*shape, rows.shape[1])), np.zeros(shape)
    products = [np.zeros((len(patch), len(patch))) for patch in patches]
    for block in rows.blocks():
        for patch, product in zip(patches, products, strict=True):
            product += block[:, patch].T @ block[:, patch]
    for i, (patch, product) in enumerate(zip(patches, products, strict=True)):
        squares, axes = _leading(torch.from_numpy(product), min(n_each, len(patch)))
        varies = (squares > len(product) * np.finfo(np.float64).eps * squares.max()).numpy()
        axes = axes.numpy() * varies[:, None]
        axes = axes * signs_of(axes)[:, None]
        components[i, : len(axes), patch] = axes.T
        variances[i, : len(axes)] = squares.numpy() * varies / rows.n_kept
    left_out = rows.sum_of_squares / rows.n_kept - variances.sum()
    n_left = max(rows.shape[1] - len(patches) * n_each, 1)
    residual = max(left_out, 0.0) / n_left
    return PrincipalAxes(components.reshape(-1, rows.shape[1]), variances.ravel(), float(residual))


def _decompose(rows: CentredRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest squared singular values, descending, and their axes as rows."""
    smaller = min(rows.shape)
    if rows.sparse and smaller > _LARGEST_SPARSE_GRAM and k <= _MOST_BY_LANCZOS:
        try:
            return _lanczos(rows, k)
        except ArpackError:
            pass  # It did not converge: other ways are slower and always work.
    if smaller > max(_LARGEST_GRAM, 4 * k):
        return _krylov(rows, k)
    wide = rows.shape[0] < rows.shape[1]
    return _from_row_products(rows, k) if wide else _from_column_products(rows, k)


def sum_of_products(blocks: Iterable[np.ndarray], width: int) -> Tensor:
    """Return the sum of B'B over blocks of so many columns.

    As it is symmetric, it is multiplied in strips that start at the diagonal.
    """
    gram = torch.zeros((width, width), dtype=torch.float64, device="cpu")
    for block in map(torch.from_numpy, blocks):
        for i in range(0, width, _STRIP):
            gram[i : i + _STRIP, i:].addmm_(block[:, i : i + _STRIP].T, block[:, i:])
    return gram.triu() + gram.triu(1).T


def _leading(gram: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest eigenvalues, descending, and their eigenvectors as rows."""
    values, vectors = torch.linalg.eigh(gram)
    return values.flip(0)[:k], vectors.T.flip(0)[:k]


def _from_column_products(rows: CentredRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values and axes from X'X."""
    squares, axes = _leading(sum_of_products(rows.blocks(), rows.shape[1]), k)
    return squares.numpy(), axes.numpy().copy()


def _from_row_products(rows: CentredRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values and axes from XX', for fewer rows than columns."""
    blocks = (block.T for block in rows.column_blocks())
    squares, vectors = _leading(sum_of_products(blocks, rows.shape[0]), k)
    axes = torch.cat([vectors @ torch.from_numpy(block) for block in rows.column_blocks()], dim=1)
    # Orthogonal again where a small eigenvalue left an axis contaminated by the large ones.
    return squares.numpy(), torch.linalg.qr(axes.T).Q.T.numpy().copy()


def _lanczos(rows: CentredRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values and axes of a matrix too large for either Gram matrix."""
    operator = LinearOperator(
        rows.shape, matvec=rows.times, rmatvec=rows.transposed_times, dtype=np.float64
    )
    # Random, because a vector of ones is in the null space of centred rows.
    start = normal((min(rows.shape),), torch.Generator("cpu").manual_seed(0)).numpy()
    _, values, axes = svds(operator, k, v0=start, return_singular_vectors="vh")
    order = np.argsort(values)[::-1]
    return np.square(values[order]), axes[order]


def _krylov(rows: CentredRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values and axes, the leading ones most exact, from a few passes.

    Rayleigh-Ritz in a block Krylov space that starts at random (Musco and Musco, "Randomized Block
    Krylov Methods for Stronger and Faster Approximate Singular Value Decomposition", 2015,
    algorithm 2).
    """
    width = max(_NARROWEST_BLOCK, -(-(k + _OVERSAMPLED) // _KRYLOV_BLOCKS))
    block = normal((rows.shape[1], width), torch.Generator("cpu").manual_seed(0))
    blocks = []
    for _ in range(_KRYLOV_BLOCKS):
        block = torch.linalg.qr(torch.from_numpy(rows.gram_times(block.numpy()))).Q
        blocks.append(block)
    basis = torch.linalg.qr(torch.cat(blocks, 1)).Q
    projected = basis.T @ torch.from_numpy(rows.gram_times(basis.numpy()))
    squares, turned = _leading((projected + projected.T) / 2, k)
    return squares.numpy(), (turned @ basis.T).numpy()
