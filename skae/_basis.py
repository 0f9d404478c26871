"""The latent basis: centring, rotation, order and sign of codes; whitening; explained variance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._blocks import in_threads
from ._device import Evaluation, threads_for
from ._input import as_array

Map = Callable[[np.ndarray], np.ndarray]

# Rows decoded at once while codes are described, and about the most values that these may have.
_ROWS_AT_ONCE = 4096
_PIECE_VALUES = 2**18
# Sums over rows are made of so many parts, however many threads there are.
_SHARES = 8
# What the codes explain one by one is estimated from so many rows that about this many are decoded.
_MOST_DECODED = 2**15
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
    row_cross : ndarray of shape (n_features, n_raw)
        Covariance of rows with codes.
    row_mean : ndarray of shape (n_features,)
        Mean of the rows.
    total, unexplained : float
        Sums of squares of rows about their mean, and of what reconstructions miss.
    """

    mean: np.ndarray
    covariance: np.ndarray
    cross: np.ndarray
    row_cross: np.ndarray
    row_mean: np.ndarray
    total: float
    unexplained: float


def code_moments(
    X: Any, codes: np.ndarray, row_mean: np.ndarray, make_decode: Callable[[], Map]
) -> CodeMoments:
    """Decode the codes of rows X, dense or CSR, and return the moments of the result.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Rows.
    codes : ndarray of shape (n_samples, n_raw)
        Their raw codes.
    row_mean : ndarray of shape (n_features,)
        Their mean.
    make_decode : callable
        Makes, for one thread, a map from codes to rows less their mean, float64. What that returns
        may be written to.
    """
    mean = codes.mean(0, dtype=np.float64)

    def moments(share: list[slice]) -> tuple[np.ndarray, float, float]:
        decode, total, unexplained = make_decode(), 0.0, 0.0
        products = np.zeros((len(mean) + 2 * X.shape[1], len(mean)))
        with Evaluation():
            for some, rows in _pieces(X, row_mean, share):
                decoded, centred = decode(codes[some]), codes[some] - mean
                lefts = centred, decoded, rows
                products += np.vstack([_product(left, centred) for left in lefts])
                total += _sum_of_squares(rows)
                decoded -= rows
                unexplained += _sum_of_squares(decoded)
        return products, total, unexplained

    parts = zip(*_of_shares(moments, X.shape, 3 * len(mean)), strict=True)
    products, total, unexplained = (np.sum(part, axis=0) for part in parts)
    ends = len(mean), len(mean) + X.shape[1]
    covariance, cross, row_cross = np.split(products / len(codes), ends)
    return CodeMoments(
        mean, covariance, cross, row_cross, row_mean, float(total), float(unexplained)
    )


def _sum_of_squares(array: np.ndarray) -> float:
    flat = torch.from_numpy(array).view(-1)
    return float(flat.dot(flat))


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (torch.from_numpy(left).T @ torch.from_numpy(right)).numpy()


def _slices(shape: tuple[int, int]) -> list[slice]:
    """Return slices of rows that are not too much when dense."""
    n_rows, n_features = shape
    at_once = min(_ROWS_AT_ONCE, max(1, _PIECE_VALUES // n_features))
    return [slice(start, start + at_once) for start in range(0, n_rows, at_once)]


def _of_shares(
    function: Callable[[list[slice]], Any], shape: tuple[int, int], work_per_value: int
) -> Iterator[Any]:
    """Yield what a function makes of each share of the rows' slices; threads take shares.

    `work_per_value` are the multiply-adds for each value of the rows.
    """
    slices, (n_rows, n_features) = _slices(shape), shape
    shares = [slices[i::_SHARES] for i in range(min(_SHARES, len(slices)))]
    work_per_row = n_features * work_per_value
    return in_threads(function, shares, slices[0].stop * work_per_row, n_rows * work_per_row)


def _pieces(X: Any, origin: np.ndarray, slices: list[slice]) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield each slice with its rows of X less `origin`, float64, in one place after the other."""
    place = np.empty((slices[0].stop - slices[0].start, X.shape[1]))
    for some in slices:
        rows = as_array(X[some])
        yield some, np.subtract(rows, origin, out=place[: len(rows)])


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


def errors_of_the_first(
    X: Any,
    codes: np.ndarray,
    row_mean: np.ndarray,
    make_decode: Callable[[], Map],
    rest: np.ndarray,
) -> np.ndarray:
    """Return sums of squared errors of rows X when only the first 1, ..., k codes are let through.

    The others are held at `rest`; for the rest see `code_moments`. The result has shape (k,).
    """

    def squares(share: list[slice]) -> np.ndarray:
        decode, errors = make_decode(), np.zeros(codes.shape[1])
        with Evaluation():
            for some, rows in _pieces(X, row_mean, share):
                kept = np.zeros_like(codes[some]) + rest.astype(codes.dtype)
                for j in range(len(errors)):
                    kept[:, j] = codes[some, j]
                    decoded = decode(kept)
                    decoded -= rows
                    errors[j] += _sum_of_squares(decoded)
        return errors

    return np.sum(list(_of_shares(squares, X.shape, codes.shape[1] ** 2)), axis=0)


def explained_ratios(
    X: Any,
    codes: np.ndarray,
    make_decode: Callable[[], Map],
    loadings: np.ndarray,
    basis: LatentBasis,
    moments: CodeMoments,
    unexplained: float,
) -> np.ndarray:
    """Return the score of the first code, then the gain as each next one is let through.

    Of many rows only some are decoded once per code. What holds for these and not for all is
    corrected for by the decoder's linear part, of which it is known for all.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Training rows.
    codes : ndarray of shape (n_samples, n_components)
        Their codes, not whitened.
    make_decode : callable
        Makes, for one thread, a map from codes to rows less their mean.
    loadings : ndarray of shape (n_components, n_features)
        Jacobian of that at the mean code.
    basis : LatentBasis
        The map from raw codes to `codes`, which says where those are held that are not let through.
    moments : CodeMoments
        Of raw codes and the rows.
    unexplained : float
        Sum of squared errors with all codes.

    Returns
    -------
    ndarray of shape (n_components,)
        Zeros where X does not vary.
    """
    total, rest = moments.total, basis.rest
    if total == 0:
        return np.zeros(codes.shape[1])
    every = step_through(codes.size)
    some, some_codes = X[::every], codes[::every]
    errors = errors_of_the_first(some, some_codes, moments.row_mean, make_decode, rest)
    if every > 1:
        with Evaluation():
            center = make_decode()(rest[None])[0].copy()
        linear = _linear_errors(moments, basis, len(codes), center, loadings)
        linear_of_some = _linear_errors_of(
            some, moments.row_mean + center, some_codes - rest, loadings
        )
        correction = errors - linear_of_some
        errors = linear + correction * (len(codes) / len(some_codes))
        errors[-1] = unexplained
    return -np.diff(errors, prepend=total) / total


def _linear_errors(
    moments: CodeMoments, basis: LatentBasis, n_rows: int, center: np.ndarray, loadings: np.ndarray
) -> np.ndarray:
    """Return `errors_of_the_first` of all rows for the decoder ``center + codes @ loadings``.

    The center is counted from the rows' mean, and codes from where they rest. Exact where the
    loadings are orthonormal.
    """
    shift, mean = -center, basis.forward @ (moments.mean - basis.origin)
    mean = mean - basis.rest
    along = ((moments.row_cross @ basis.forward.T) * loadings.T).sum(0) + (loadings @ shift) * mean
    squares = ((basis.forward @ moments.covariance) * basis.forward).sum(1) + mean**2
    return moments.total + n_rows * (shift @ shift - np.cumsum(2 * along - squares))


def _linear_errors_of(
    X: Any, center: np.ndarray, codes: np.ndarray, loadings: np.ndarray
) -> np.ndarray:
    """Return `_linear_errors` of some rows, whose codes from where they rest are given."""
    total, gains = 0.0, np.zeros(codes.shape[1])
    for some, centred in _pieces(X, center, _slices(X.shape)):
        y = codes[some]
        with threads_for(centred.shape[0] * loadings.size):
            along = _product(centred.T, loadings.T)
        gains += (2 * along * y - y**2).sum(0)
        total += _sum_of_squares(centred)
    return total - np.cumsum(gains)
