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

    def through(self, jacobian: Tensor) -> Tensor:
        """Return derivatives in codes of what has derivatives (n, n_raw) in raw codes."""
        return jacobian @ self._like(jacobian)[2].T

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

    def turned(self, rotation: np.ndarray) -> LatentBasis:
        """Return the basis of the codes multiplied by an orthogonal matrix."""
        forward, backward = rotation @ self.forward, self.backward @ rotation.T
        return LatentBasis(self.origin, forward, backward, rotation @ self.rest)

    def divided_by(self, deviations: np.ndarray) -> LatentBasis:
        """Return the basis of the codes divided by `deviations`; zero where one is zero."""
        inverse = np.divide(1, deviations, out=np.zeros_like(deviations), where=deviations > 0)
        return LatentBasis(
            self.origin,
            self.forward * inverse[:, None],
            self.backward * deviations,
            self.rest * inverse,
        )


@dataclass(frozen=True)
class SortedBasis:
    """A map from a network's raw codes to the same ones in another order and unit, and back.

    Attributes
    ----------
    order : ndarray of int, shape (n_components,)
        Which raw code each code is.
    factor, divisor : ndarray of shape (n_components,)
        ``codes = raw[:, order] * factor``, and ``raw[:, order] = codes / divisor``.
    origin : ndarray of shape (n_raw,)
        Where raw codes are that are not in `order`.
    rest : ndarray of shape (n_components,)
        Where codes are held that are not let through.
    """

    order: np.ndarray
    factor: np.ndarray
    divisor: np.ndarray
    origin: np.ndarray
    rest: np.ndarray

    def enter(self, raw: Tensor) -> Tensor:
        """Map raw codes (n_rows, n_raw) to codes (n_rows, n_components)."""
        return self.of_each(raw) * self._like(self.factor, raw)

    def of_each(self, raw: Tensor) -> Tensor:
        """Return what belongs to each raw code, (n_rows, n_raw), in the order of the codes."""
        return raw.index_select(1, torch.tensor(self.order, device=raw.device))

    def leave(self, codes: Tensor) -> Tensor:
        """Map codes (n_rows, n_components) to raw codes (n_rows, n_raw)."""
        raw = self._like(self.origin, codes).expand(len(codes), -1)
        order = torch.tensor(self.order, device=codes.device)
        return raw.index_copy(1, order, codes / self._like(self.divisor, codes))

    def through(self, jacobian: Tensor) -> Tensor:
        """Return derivatives in codes of what has derivatives (n, n_raw) in raw codes."""
        return self.of_each(jacobian) / self._like(self.divisor, jacobian)

    @staticmethod
    def _like(values: np.ndarray, codes: Tensor) -> Tensor:
        return torch.tensor(values, dtype=codes.dtype, device=codes.device)

    def first(self, n_components: int) -> SortedBasis:
        """Return the basis of the first codes; the others stay at rest."""
        kept, left = slice(n_components), slice(n_components, None)
        origin = self.origin.copy()
        origin[self.order[left]] = self.rest[left] / self.divisor[left]
        order, factor, divisor, rest = (
            part[kept] for part in (self.order, self.factor, self.divisor, self.rest)
        )
        return SortedBasis(order, factor, divisor, origin, rest)

    def divided_by(self, deviations: np.ndarray) -> SortedBasis:
        """Return the basis of the codes divided by `deviations`; zero where one is zero."""
        varies = deviations > 0
        inverse = np.divide(1, deviations, out=np.zeros_like(deviations), where=varies)
        divisor = self.divisor * np.where(varies, inverse, 1.0)
        return SortedBasis(
            self.order, self.factor * inverse, divisor, self.origin, self.rest * inverse
        )


Basis = LatentBasis | SortedBasis


def sorted_basis(
    order: np.ndarray, factor: np.ndarray | float, rest: np.ndarray | float = 0.0
) -> SortedBasis:
    """Return the basis that brings all raw codes in an order and multiplies them by a factor."""
    zeros = np.zeros(len(order))
    return SortedBasis(order, zeros + factor, zeros + factor, zeros, zeros + rest)


def untouched_basis(moments: CodeMoments, unit: float) -> tuple[SortedBasis, np.ndarray]:
    """Return the basis that gives codes a unit, at rest at zero, and their variances."""
    return sorted_basis(np.arange(len(moments.mean)), unit), unit**2 * moments.variances


def permuted_basis(moments: CodeMoments, unit: float) -> tuple[SortedBasis, np.ndarray]:
    """Return the basis that sorts codes and gives them a unit, at rest at their means.

    The order is that of what each code, by itself and linearly, explains of the reconstructions.
    The codes' variances are returned too.
    """
    variances, shared = moments.variances, np.square(moments.cross).sum(0)
    explained = np.divide(shared, variances, out=np.zeros_like(shared), where=variances > 0)
    order = np.argsort(-explained, kind="stable")
    return sorted_basis(order, unit, unit * moments.mean[order]), unit**2 * variances[order]


def axes_basis(moments: CodeMoments, unit: float) -> tuple[LatentBasis, np.ndarray]:
    """Return the basis of codes that are along principal axes already, and their variances."""
    identity, zeros = np.eye(len(moments.mean)), np.zeros(len(moments.mean))
    return LatentBasis(zeros, unit * identity, identity / unit, zeros), unit**2 * moments.variances


def rotated_basis(
    moments: CodeMoments, axes: np.ndarray | None = None
) -> tuple[LatentBasis, np.ndarray]:
    """Return the basis in which codes are like principal components, and their variances.

    With B the least-squares map from centred codes to reconstructions and S the codes' covariance,
    the singular value decomposition of B S^(1/2) gives the directions in which reconstructions
    vary and how much: its singular values are the standard deviations of the new codes, in the
    units of X. A linear network gives PCA exactly, in whatever basis it codes. A code has the sign
    of the row of `axes` (k, n_features) that its direction is nearest to; without axes, the largest
    entry of its direction is positive.

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
    directions = rotation @ moved.T
    rotation = rotation * signs_of(directions if axes is None else directions @ axes.T)[:, None]

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
    assert moments.covariance is not None
    deviations, mean = np.sqrt(moments.variances), abs(moments.mean)
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
