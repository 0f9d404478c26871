"""The latent basis: centring, rotation, order and sign of codes; whitening."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .moments import CodeMoments

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
        matrix, offset, _, _ = self._like(raw)
        return torch.addmm(offset, raw, matrix)

    def leave(self, codes: Tensor) -> Tensor:
        """Map codes (n_rows, n_components) to raw codes (n_rows, n_raw)."""
        _, _, matrix, offset = self._like(codes)
        return torch.addmm(offset, codes, matrix)

    def _like(self, codes: Tensor) -> tuple[Tensor, ...]:
        """Return matrices and offsets of both maps in the dtype and on the device of codes."""
        key = codes.dtype, codes.device
        if key not in self._tensors:
            there, back = self.forward.T, self.backward.T
            arrays = there, -self.origin @ there, back, self.origin
            with torch.inference_mode(False):  # loadings are derivatives
                self._tensors[key] = tuple(
                    torch.tensor(each, device=codes.device, dtype=codes.dtype) for each in arrays
                )
        return self._tensors[key]

    @cached_property
    def _tensors(self) -> dict[tuple[torch.dtype, torch.device], tuple[Tensor, ...]]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

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
    n_raw, there, back = len(moments.mean), *_whitening(moments)
    moved = moments.cross @ there.T  # B S^(1/2)
    triangle = torch.linalg.qr(torch.from_numpy(moved)).R
    _, singular, rotation = (
        part.numpy() for part in torch.linalg.svd(triangle, full_matrices=True)
    )
    scale = np.zeros(len(rotation))
    scale[: len(singular)] = singular
    scale = np.maximum(scale, _SMALLEST_SCALE * scale.max(initial=0.0) or 1.0)
    rotation = rotation * signs_of(rotation @ moved.T)[:, None]

    rank = len(rotation)
    forward, backward = np.zeros((n_raw, n_raw)), np.zeros((n_raw, n_raw))
    forward[:rank] = scale[:, None] * rotation @ there
    backward[:, :rank] = back @ rotation.T / scale
    variances = np.zeros(n_raw)
    variances[:rank] = scale**2
    return LatentBasis(moments.mean, forward, backward, np.zeros(n_raw)), variances


def _whitening(moments: CodeMoments) -> tuple[np.ndarray, np.ndarray]:
    """Return maps from centred codes to uncorrelated ones of variance 1, and back.

    There are as many of these as the rank of the codes' correlations, which do not depend on
    units. A direction in which codes vary no more than their rounding does is none.
    """
    deviations, mean = np.sqrt(np.diag(moments.covariance)), abs(moments.mean)
    varies = deviations > 10 * moments.rounding * mean
    inverse = np.divide(1, deviations, out=np.zeros_like(deviations), where=varies)
    correlations = (moments.covariance * inverse).T * inverse
    values, vectors = (part.numpy() for part in torch.linalg.eigh(torch.from_numpy(correlations)))
    sizes = 1 + (mean * inverse).max()  # of codes that have been divided by their deviations
    least = len(values) * np.finfo(np.float64).eps * values.max()
    kept = values > max(least, (10 * moments.rounding * sizes) ** 2 * len(values))
    roots, vectors = np.sqrt(values[kept]), vectors[:, kept]
    return (vectors / roots).T * inverse, deviations[:, None] * (vectors * roots)


def signs_of(directions: np.ndarray) -> np.ndarray:
    """Return the signs that make each row's largest entry positive."""
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    return np.where(largest[:, 0] < 0, -1.0, 1.0)
