"""PCA's attributes of every family: the linear-Gaussian model that describes its codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import pinvh
from sklearn.utils.validation import check_is_fitted

from .._data.rows import sum_of_squares
from .._inference.jacobian import loadings
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
    _dtype: np.dtype

    def _central_code(self) -> np.ndarray:
        """Return the code at which components are derivatives of decoding."""
        return self._code_mean

    def _as_components(self, derivatives: np.ndarray) -> np.ndarray:
        """Return derivatives (n_components, n_features) in the units of components."""
        return derivatives

    def _signal_variance(self) -> np.ndarray:
        """Return the variance along each component that is not noise."""
        return self.explained_variance_

    def _noise(self) -> Any:
        """Return the variance of noise, one number or one of each feature."""
        return self.noise_variance_

    @property
    def components_(self) -> np.ndarray:
        """Directions that codes stand for: derivatives of decoding."""
        check_is_fitted(self)
        return self._net.remembered("components", self._find_components)

    def _find_components(self) -> np.ndarray:
        with own_modes(gradients=True), OneThread():
            found = loadings(self._net, self._central_code(), evaluation_device(self.device))
        components = self._as_components(found).astype(self._dtype)
        components.flags.writeable = False
        return components

    def _publish_variances(self, variance: np.ndarray, X: Any, unexplained: float) -> None:
        """Set the attributes that go with variances along components, of rows X."""
        self.explained_variance_ = variance
        self.singular_values_ = np.sqrt(variance * max(self.n_samples_ - 1, 1))
        total = sum_of_squares(X, self.mean_)
        self.explained_variance_ratio_ = explained_ratios(variance, unexplained, total)

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
        return pinvh(self.get_covariance())
