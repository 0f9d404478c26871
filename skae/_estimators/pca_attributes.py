"""What the codes of a fitted network mean: their basis and number, and PCA's attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.linalg import pinvh

from .._data.rows import sum_of_squares
from .._inference.fitted import FittedNet
from .._latent.basis import Basis
from .._latent.explained import errors_of_the_first, step_through
from .._latent.moments import CodeMoments, code_moments
from .._runtime.warnings import warn


def explained_ratios(variances: np.ndarray, unexplained: float, total: float) -> np.ndarray:
    """Return the score of the training rows, shared out in proportion to the codes' variances.

    A score below zero is shared out as zero.
    """
    score = max(1 - unexplained / total, 0.0) if total else 0.0
    return score * variances / (variances.sum() or 1.0)


def directions_of(moments: CodeMoments) -> np.ndarray:
    """Return what a unit of each code adds to reconstructions, (n_codes, n_features), on average.

    It is the least-squares map from codes to reconstructions.
    """
    assert moments.covariance is not None
    return np.asarray(pinvh(moments.covariance) @ moments.cross.T)


class Description:
    """What the codes of a network mean for the rows that it was fitted to.

    It gives the network its basis: `choose_basis` of the codes' moments, cut down to the first
    codes by `truncate`, and whitened by `whiten`, in this order.

    Parameters
    ----------
    net : FittedNet
        The network, without a basis.
    X : ndarray or CSR of shape (n_samples, n_features)
        Training rows.
    mean : ndarray of shape (n_features,)
        Their mean.
    choose_basis : callable
        ``moments -> (basis, variances)``.
    device : torch.device
        Where the network is evaluated.
    jointly : bool
        Whether `choose_basis` needs the codes' covariance, and not only their variances.
    n_directions : int
        Number of directions in which so many rows of so many features vary at most.
    by_feature : callable or None
        From moments of which reconstructions are among the columns of X to such among features,
        where these are not the same.
    """

    def __init__(
        self,
        net: FittedNet,
        X: Any,
        mean: np.ndarray,
        choose_basis: Callable[[CodeMoments], tuple[Basis, np.ndarray]],
        device: torch.device,
        *,
        jointly: bool,
        n_directions: int,
        by_feature: Callable[[CodeMoments], CodeMoments] | None,
    ) -> None:
        self.net, self.X, self.mean, self.device = net, X, mean, device
        self._n_directions = n_directions
        self._raw = self._encode(X)
        moments = code_moments(X, self._raw, mean, self._make_decode, jointly=jointly)
        if by_feature is not None:
            moments = by_feature(moments)
        self._moments = moments
        net.basis, self._variances = choose_basis(moments)

    @property
    def basis(self) -> Basis:
        """The network's basis."""
        assert self.net.basis is not None
        return self.net.basis

    def _encode(self, X: Any) -> np.ndarray:
        return self.net.encode(X, self.device)

    def _make_decode(self) -> Callable[[np.ndarray], np.ndarray]:
        return self.net.decoder(self.device, self.mean)

    def truncate(self, fraction: float, rows: Any) -> None:
        """Keep the fewest codes with which `rows` score `fraction`, or all with a warning."""
        rows = rows[:: step_through(rows.shape[0] * len(self.basis.rest))]
        errors = errors_of_the_first(
            rows, self._encode(rows), self.mean, self._make_decode, self.basis.rest
        )
        total = sum_of_squares(rows, self.mean)
        scores = 1 - errors / total if total else np.ones_like(errors)
        reached = np.flatnonzero(scores >= fraction)
        if len(reached):
            self.net.basis = self.basis.first(int(reached[0]) + 1)
            return
        warn(
            f"n_components={fraction}: the {len(scores)} components with which PCA explains that "
            f"fraction of X reach a score of {scores[-1]:.4f} on held-out rows. All are kept; give "
            "an integer for more.",
            UserWarning,
        )

    def attributes(self) -> dict[str, Any]:
        """Return PCA's attributes, by name, but for components."""
        X, moments = self.X, self._moments
        n_samples, k = X.shape[0], len(self.basis.rest)
        unexplained = moments.unexplained
        if k < self._raw.shape[1]:
            unexplained = float(self.net.squared_errors(X, self.device).sum())
        n_free, n_left_out = max(n_samples - 1, 1), self._n_directions - k
        variance, noise = self._variances[:k] * n_samples / n_free, unexplained
        if moments.covariance is not None:  # rotated: what the linear-Gaussian model leaves
            noise = max(moments.total - n_samples * float(self._variances[:k].sum()), 0.0)
        return {
            "n_components_": k,
            "explained_variance_": variance,
            "explained_variance_ratio_": explained_ratios(variance, unexplained, moments.total),
            "singular_values_": np.sqrt(variance * n_free),
            "noise_variance_": noise / (n_free * n_left_out) if n_left_out > 0 else 0.0,
            "_directions": self._directions(k),
        }

    def _directions(self, k: int) -> np.ndarray | None:
        """Return directions of the codes, of unit length if they vary; None if not rotated."""
        basis: Any = self.basis
        if self._moments.covariance is None:
            return None
        along, variances = basis.forward @ self._moments.cross.T, self._variances[:k, None]
        found = np.divide(along, variances, out=np.zeros_like(along), where=variances > 0)
        return found.astype(self.X.dtype)

    def codes(self) -> np.ndarray:
        """Return the codes of the training rows in the present basis, (n_samples, k)."""
        return self.basis.enter(torch.from_numpy(self._raw)).numpy()

    def whiten(self, deviations: np.ndarray) -> None:
        """Divide the codes by their deviations."""
        self.net.basis = self.basis.divided_by(deviations)
