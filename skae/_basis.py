"""The latent basis: centring, rotation, order and sign of codes; whitening; explained variance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._device import threads_for
from ._input import dense, sum_of_squares

Map = Callable[[np.ndarray], np.ndarray]

# Rows decoded at once while codes are described, and the most values that these may have.
_ROWS_AT_ONCE = 1024
_PIECE_VALUES = 2**22
# What the codes explain one by one is estimated from so many rows that about this many are decoded.
_MOST_DECODED = 2**17
# A direction of the codes that hardly moves the reconstruction linearly keeps this share of the
# largest one's scale, so that the map stays invertible for what the decoder does with it.
_SMALLEST_SCALE = 1e-6


@dataclass(frozen=True)
class LatentBasis:
    """An affine map from a network's raw codes to those of `transform`, and back.

    Attributes
    ----------
    origin : ndarray of shape (n_raw,)
        Raw code whose image is zero.
    forward : ndarray of shape (n_components, n_raw)
        ``codes = (raw - origin) @ forward.T``.
    backward : ndarray of shape (n_raw, n_components)
        ``raw = origin + codes @ backward.T``.
    rest : ndarray of shape (n_components,)
        Where codes are held that are not let through.
    """

    origin: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    rest: np.ndarray

    def enter(self, raw: Tensor) -> Tensor:
        """Map raw codes (n_rows, n_raw) to codes (n_rows, n_components)."""
        return (raw - _like(raw, self.origin)) @ _like(raw, self.forward).T

    def leave(self, codes: Tensor) -> Tensor:
        """Map codes (n_rows, n_components) to raw codes (n_rows, n_raw)."""
        return _like(codes, self.origin) + codes @ _like(codes, self.backward).T

    def first(self, n_components: int) -> LatentBasis:
        """Return the basis of the first codes; the others stay at rest."""
        kept, left = slice(n_components), slice(n_components, None)
        origin = self.origin + self.backward[:, left] @ self.rest[left]
        return LatentBasis(origin, self.forward[kept], self.backward[:, kept], self.rest[kept])

    def divided_by(self, deviations: np.ndarray) -> LatentBasis:
        """Return the basis of the codes divided by `deviations`; zero where one is zero."""
        inverse = np.divide(1, deviations, out=np.zeros_like(deviations), where=deviations > 0)
        return LatentBasis(
            self.origin,
            self.forward * inverse[:, None],
            self.backward * deviations,
            self.rest * inverse,
        )


def _like(codes: Tensor, array: np.ndarray) -> Tensor:
    return torch.tensor(array, device=codes.device, dtype=codes.dtype)


@dataclass(frozen=True)
class CodeMoments:
    """How raw codes and reconstructions of rows vary together.

    Attributes
    ----------
    mean : ndarray of shape (n_raw,)
        Mean of the codes.
    covariance : ndarray of shape (n_raw, n_raw)
        Theirs, divided by n_samples.
    cross : ndarray of shape (n_features, n_raw)
        Covariance of reconstructions with codes.
    """

    mean: np.ndarray
    covariance: np.ndarray
    cross: np.ndarray


def code_moments(X: Any, encode: Map, decode: Map) -> CodeMoments:
    """Encode and decode rows X, dense or CSR, and return the moments of the result."""
    codes = encode(X)
    mean = codes.mean(0, dtype=np.float64)
    centred = codes - mean
    cross = np.zeros((X.shape[1], len(mean)))
    with threads_for(_ROWS_AT_ONCE * len(mean) ** 2):
        covariance = _product(centred, centred) / len(codes)
    for rows in _pieces(X):
        decoded = decode(codes[rows]).astype(np.float64)
        with threads_for(_ROWS_AT_ONCE * cross.shape[1]):
            cross += _product(decoded, centred[rows])
    return CodeMoments(mean, covariance, cross / len(codes))


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (torch.from_numpy(left).T @ torch.from_numpy(right)).numpy()


def _pieces(X: Any) -> Iterator[slice]:
    """Yield slices of rows that are not too much when dense."""
    n_rows, n_features = X.shape
    at_once = min(_ROWS_AT_ONCE, max(1, _PIECE_VALUES // n_features))
    return (slice(start, start + at_once) for start in range(0, n_rows, at_once))


def step_through(n_decoded: int) -> int:
    """Return the step in which to go through rows, so that not too many are decoded."""
    return -(-n_decoded // _MOST_DECODED)


def basis_with_unit(n_components: int, unit: float) -> LatentBasis:
    """Return the basis that multiplies codes by `unit`, at rest at zero."""
    identity, zeros = np.eye(n_components), np.zeros(n_components)
    return LatentBasis(zeros, unit * identity, identity / unit, zeros)


def untouched_basis(moments: CodeMoments, unit: float) -> tuple[LatentBasis, np.ndarray]:
    """Return the basis that gives codes a unit, at rest at zero, and their variances."""
    return basis_with_unit(len(moments.mean), unit), unit**2 * np.diag(moments.covariance)


def permuted_basis(moments: CodeMoments, unit: float) -> tuple[LatentBasis, np.ndarray]:
    """Return the basis that sorts codes and gives them a unit, at rest at their means.

    The order is that of what each code, by itself and linearly, explains of the reconstructions.
    The codes' variances are returned too.
    """
    n_raw, variances = len(moments.mean), np.diag(moments.covariance)
    shared = np.square(moments.cross).sum(0)
    explained = np.divide(shared, variances, out=np.zeros(n_raw), where=variances > 0)
    order = np.argsort(-explained, kind="stable")
    chosen = np.eye(n_raw)[order]
    rest = unit * moments.mean[order]
    basis = LatentBasis(np.zeros(n_raw), unit * chosen, chosen.T / unit, rest)
    return basis, unit**2 * variances[order]


def rotated_basis(moments: CodeMoments) -> tuple[LatentBasis, np.ndarray]:
    """Return the basis in which codes are like principal components, and their variances.

    With B the least-squares map from centred codes to reconstructions and S the codes' covariance,
    the singular value decomposition of B S^(1/2) gives the directions in which reconstructions
    vary and how much: its singular values are the standard deviations of the new codes, in the
    units of X. A linear network gives PCA exactly, in whatever basis it codes.

    Returns
    -------
    basis : LatentBasis
        Square; codes beyond the rank of S are zero.
    variances : ndarray of shape (n_raw,)
        Variances of the new codes, divided by n_samples, in descending order.
    """
    n_raw = len(moments.mean)
    values, vectors = (
        part.numpy() for part in torch.linalg.eigh(torch.from_numpy(moments.covariance))
    )
    varies = values > n_raw * np.finfo(np.float64).eps * max(values.max(initial=0.0), 0.0)
    deviations, vectors = np.sqrt(values[varies]), vectors[:, varies]
    moved = moments.cross @ (vectors / deviations)  # B S^(1/2) in the eigenvectors of S
    triangle = torch.linalg.qr(torch.from_numpy(moved)).R
    _, singular, turn = (part.numpy() for part in torch.linalg.svd(triangle, full_matrices=True))
    scale = np.zeros(len(turn))
    scale[: len(singular)] = singular
    scale = np.maximum(scale, _SMALLEST_SCALE * scale.max(initial=0.0) or 1.0)
    turn = turn * signs_of(turn @ moved.T)[:, None]

    rank = len(turn)
    forward, backward = np.zeros((n_raw, n_raw)), np.zeros((n_raw, n_raw))
    forward[:rank] = scale[:, None] * turn @ (vectors / deviations).T
    backward[:, :rank] = (vectors * deviations) @ turn.T / scale
    variances = np.zeros(n_raw)
    variances[:rank] = scale**2
    return LatentBasis(moments.mean, forward, backward, np.zeros(n_raw)), variances


def signs_of(directions: np.ndarray) -> np.ndarray:
    """Return the signs that make each row's largest entry positive."""
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    return np.where(largest[:, 0] < 0, -1.0, 1.0)


def divergence_per_code(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return each code's mean divergence from N(0, 1) in nats, from posteriors (n_rows, k)."""
    variance = np.square(std, dtype=np.float64)
    return 0.5 * (np.square(mean, dtype=np.float64) + variance - 1 - np.log(variance)).mean(0)


def errors_of_the_first(X: Any, codes: np.ndarray, decode: Map, rest: np.ndarray) -> np.ndarray:
    """Return sums of squared errors of rows X when only the first 1, ..., k codes are let through.

    The others are held at `rest`. The result has shape (k,).
    """
    errors = np.zeros(codes.shape[1])
    for rows in _pieces(X):
        x, kept = dense(X[rows]), np.zeros_like(codes[rows]) + rest.astype(codes.dtype)
        for j in range(len(errors)):
            kept[:, j] = codes[rows, j]
            errors[j] += np.square(x - decode(kept)).sum()
    return errors


def explained_ratios(
    X: Any,
    codes: np.ndarray,
    decode: Map,
    loadings: np.ndarray,
    rest: np.ndarray,
    mean: np.ndarray,
    unexplained: float,
) -> np.ndarray:
    """Return the score of the first code, then the gain as each next one is let through.

    Of many rows only some are decoded once per code. What holds for these and not for all is
    corrected for by the decoder's linear part, which is computed for all.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Training rows.
    codes : ndarray of shape (n_samples, n_components)
        Their codes, not whitened.
    decode : callable
        From codes to rows.
    loadings : ndarray of shape (n_components, n_features)
        Jacobian of `decode` at the mean code.
    rest : ndarray of shape (n_components,)
        Where codes are held that are not let through.
    mean : ndarray of shape (n_features,)
        Mean of X.
    unexplained : float
        Sum of squared errors with all codes.

    Returns
    -------
    ndarray of shape (n_components,)
        Zeros where X does not vary.
    """
    total = sum_of_squares(X, mean)
    if total == 0:
        return np.zeros(codes.shape[1])
    every = step_through(codes.size)
    some, some_codes = X[::every], codes[::every]
    errors = errors_of_the_first(some, some_codes, decode, rest)
    if every > 1:
        center = decode(rest[None])
        linear = _errors_of_the_linear_part(X, codes - rest, center, loadings)
        correction = errors - _errors_of_the_linear_part(some, some_codes - rest, center, loadings)
        errors = linear + correction * (len(codes) / len(some_codes))
        errors[-1] = unexplained
    return -np.diff(errors, prepend=total) / total


def _errors_of_the_linear_part(
    X: Any, codes: np.ndarray, center: np.ndarray, loadings: np.ndarray
) -> np.ndarray:
    """Return `errors_of_the_first` for the decoder ``center + codes @ loadings``."""
    total, gains = 0.0, np.zeros(codes.shape[1])
    for rows in _pieces(X):
        centred, y = dense(X[rows]) - center, codes[rows]
        with threads_for(_ROWS_AT_ONCE * loadings.size):
            along = (torch.from_numpy(centred) @ torch.from_numpy(loadings.T)).numpy()
        gains += (2 * along * y - y**2).sum(0)  # exact where the loadings are orthonormal
        total += float(np.square(centred).sum())
    return total - np.cumsum(gains)
