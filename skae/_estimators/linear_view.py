"""PCA's attributes of every family: the linear-Gaussian model that describes its codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import pinvh
from sklearn.utils.validation import check_is_fitted

from .._inference.jacobian import loadings
from .._latent.moments import CodeMoments, code_moments
from .._runtime.device import evaluation_device
from .._runtime.modes import own_modes
from .._runtime.threads import OneThread
from .base import BaseAutoencoder
from .pca_attributes import explained_ratios


class LinearView(BaseAutoencoder):
    """An autoencoder's components, and the covariance of rows that they stand for."""

    explained_variance_: np.ndarray
    explained_variance_ratio_: np.ndarray
    singular_values_: np.ndarray
    _code_mean: np.ndarray
    _code_variances: np.ndarray
    _directions: np.ndarray | None
    _dtype: np.dtype

    def _signal_variance(self) -> np.ndarray:
        """Return the variance along each component that is not noise."""
        return self.explained_variance_

    def _noise(self) -> Any:
        """Return the variance of noise, one number or one of each feature."""
        return self.noise_variance_

    @property
    def components_(self) -> np.ndarray:
        """What a unit of each code adds to reconstructions on average."""
        check_is_fitted(self)
        return self._net.remembered("components", self._find_components)

    def _find_components(self) -> np.ndarray:
        found = self._directions
        if found is None:
            found = self._derivatives()
        found = found.view()
        found.flags.writeable = False
        return found

    def _derivatives(self) -> np.ndarray:
        """Return the Jacobian of decoding at the mean code, where directions are not published."""
        with own_modes(gradients=True), OneThread():
            found = loadings(self._net, self._code_mean, evaluation_device(self.device))
        return found.astype(self._dtype)

    def _publish_variances(self, variance: np.ndarray, moments: CodeMoments) -> None:
        """Set the attributes that go with variances along components."""
        self.explained_variance_ = variance
        self.singular_values_ = np.sqrt(variance * max(self.n_samples_ - 1, 1))
        ratios = explained_ratios(variance, moments.unexplained, moments.total)
        self.explained_variance_ratio_ = ratios

    def _moments(self, X: Any, codes: np.ndarray) -> CodeMoments:
        """Return how codes of rows and their reconstructions vary together, among all features."""
        device = evaluation_device(self.device)
        moments = code_moments(X, codes, self.mean_, lambda: self._net.decoder(device, self.mean_))
        return moments if self._wide is None else self._wide.moments_by_feature(moments)

    def get_covariance(self) -> np.ndarray:
        """Return the covariance of the linear-Gaussian model that the attributes describe.

        It is that of what components stand for, plus noise: PCA's for a linear net.

        Returns
        -------
        ndarray of shape (n_features_in_, n_features_in_)
            In squared units of X.
        """
        check_is_fitted(self)
        components = self.components_.astype(np.float64)
        covariance = (components.T * self._signal_variance()) @ components
        covariance[np.diag_indices_from(covariance)] += self._noise()
        return covariance

    def get_precision(self) -> np.ndarray:
        """Return the inverse of `get_covariance`.

        Returns
        -------
        ndarray of shape (n_features_in_, n_features_in_)
            Its pseudo-inverse where it is singular.
        """
        check_is_fitted(self)
        noise, signal = self._noise(), np.maximum(self._signal_variance(), 0.0)
        if np.min(noise) <= 0:
            return pinvh(self.get_covariance())
        noise = np.broadcast_to(noise, self.mean_.shape)
        roots = np.sqrt(signal)[:, None] * self.components_.astype(np.float64)
        weighted = roots / noise  # the rest is Woodbury's identity
        inner = weighted @ roots.T
        inner[np.diag_indices_from(inner)] += 1
        precision: np.ndarray = -weighted.T @ np.linalg.solve(inner, weighted)
        precision[np.diag_indices_from(precision)] += 1 / noise
        return precision
