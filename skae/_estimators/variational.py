"""What a variational model offers: a bound in nats, log p(x), posteriors, draws, diagnostics."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .._data.rows import ColumnSummary, check_whole_numbers, summarize
from .._data.scaling import Scaling
from .._inference.elbo import importance_weighted, lower_bounds
from .._inference.fitted import FittedNet
from .._latent.basis import LatentBasis, signs_of
from .._latent.density import fit_gaussian, whitened_normals
from .._latent.moments import divergence_per_code
from .._latent.noise import scattered
from .._runtime.device import evaluation_device
from .._runtime.random import make_generator, normal
from .._sklearn.params import check_n_samples
from ..objectives import Likelihood, Loss, Schedule
from ..objectives._losses import for_scaled_rows
from ..objectives._schedules import value_at
from .base import GenerativeAutoencoder

_SCORING_POINTS = 64
# `lower_bound_` is estimated from as many rows as this many decoded codes allow.
_CODES_BOUNDED = 2**14
# A code is inactive where the variance of its posterior means is not above this: Burda, Grosse and
# Salakhutdinov, "Importance Weighted Autoencoders", 2016, appendix C.
_LEAST_ACTIVITY = 0.01


class VariationalModel(GenerativeAutoencoder):
    """An autoencoder whose codes have a prior and posteriors, and whose rows have a likelihood.

    A family says what the likelihood is (`_likelihood`).
    """

    beta: float | Schedule
    n_importance_samples: int

    kl_per_component_: np.ndarray
    _code_mean: np.ndarray
    _code_covariance: np.ndarray

    @abstractmethod
    def _likelihood(self) -> Likelihood:
        """Return the distribution of rows given their codes."""

    def _link(self) -> Loss | None:
        return self._likelihood()

    def _fitted_likelihood(self) -> Any:
        return self._net.link

    def _check_values(self, X: Any, scaling: Scaling, summary: ColumnSummary) -> None:
        super()._check_values(X, scaling, summary)
        if (likelihood := self._likelihood()).discrete:
            check_whole_numbers(X, type(likelihood).__name__)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean evidence lower bound, in nats per row of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored; present by convention.

        Returns
        -------
        float
            Mean of `score_samples`.
        """
        return super().score(X)

    def _score(self, X: Any) -> float:
        return float(self._lower_bounds(X).mean())

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the evidence lower bound of each row, in nats, at beta 1.

        The expectation over the posterior is an average over fixed antithetic points with
        identity covariance, shared by all rows: exact where the decoder is linear, else an
        estimate, and the same at every call. There are 64 points, or twice the number of
        components if that is more.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Lower bounds of log p(x), or estimates of these, float64.
        """
        return self._lower_bounds(self._known_rows(X))

    def log_likelihood(self, X: Any, n_samples: int = 128, random_state: Any = None) -> np.ndarray:
        """Return estimates of log p(x) of each row, in nats, by importance sampling.

        Codes are drawn from each row's posterior ([1]_, equation 8). On average over draws the
        estimate is too low, by less the more codes are drawn, and by no more than the evidence
        lower bound. A row's draws depend on its position in X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_rows, n_features)
            Rows.
        n_samples : int, default=128
            Number of codes drawn for each row.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.

        Returns
        -------
        ndarray of shape (n_rows,)
            Log-likelihoods in the units of X, float64.

        Raises
        ------
        ValueError
            If `n_samples` is not a positive integer.

        References
        ----------
        .. [1] Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016.
        """
        X, n_draws = self._known_rows(X), check_n_samples(n_samples)
        generator = make_generator(random_state)
        bound = partial(importance_weighted, n_draws=n_draws, generator=generator)
        return self._in_nats(bound, X, in_order=True)

    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of each row's posterior, a diagonal Gaussian.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_components_)
            What `transform` returns, in X's floating dtype.
        std : ndarray of shape (n_samples, n_components_)
            Standard deviations; those of the prior are 1.
        """
        return self._posterior(self._known_rows(X))

    def sample_like(self, X: Any, random_state: Any = None, *, mean: bool = False) -> np.ndarray:
        """Draw a row around each row of X: a code from its posterior, a row from the likelihood.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.
        mean : bool, default=False
            Whether rows are the likelihood's means, without its noise.

        Returns
        -------
        X_drawn : ndarray of shape (n_samples, n_features_in_)
            Float64 rows, in the units of the training data.
        """
        means, deviations = self._posterior(self._known_rows(X))
        generator = make_generator(random_state)
        codes = means + deviations * normal(means.shape, generator).numpy()
        return self._rows_like(codes, generator, mean)

    def _lower_bounds(self, X: Any) -> np.ndarray:
        points = whitened_normals(_SCORING_POINTS, self.n_components_)
        return self._in_nats(partial(lower_bounds, points=points), X)

    def _in_nats(
        self, bound: Callable[..., Tensor], X: Any, *, in_order: bool = False
    ) -> np.ndarray:
        """Return ``bound(core, x, likelihood=...)`` of each row in the units of X."""
        # In float64 whatever X is: errors are divided by a noise variance that can be small.
        likelihood, scaling = self._fitted_likelihood(), self._net.scaling
        if likelihood.raw_target:
            likelihood.check_support(*summarize(X)[1:])
        if likelihood.discrete:
            check_whole_numbers(X, type(likelihood).__name__)
        device = evaluation_device(self.device)
        term = for_scaled_rows(likelihood, scaling.center, scaling.scale, device)
        rows_bound = partial(bound, likelihood=term)
        how = {"known": False, "in_order": in_order}
        bounds = self._net.map_rows(rows_bound, X, device, np.float64, **how)
        return bounds if likelihood.raw_target else bounds - scaling.log_volume

    def _posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        net, basis = self._net, self._net.basis
        device = evaluation_device(self.device)
        both = net.map_rows(lambda core, x: torch.cat(core.posterior(x), 1), X, device)
        mean, log_variance = np.split(both, 2, axis=1)
        std = np.exp(0.5 * log_variance)
        if basis is None:
            return mean, std
        order = abs(basis.forward).argmax(1)  # a permutation, up to signs
        return mean[:, order] * basis.forward.sum(1).astype(X.dtype), std[:, order]

    def _draw(self, n_samples: int, generator: Generator, mean: bool = False) -> np.ndarray:
        codes = normal((n_samples, self.n_components_), generator).numpy()
        return self._rows_like(codes, generator, mean)

    def _rows_like(self, codes: np.ndarray, generator: Generator, mean: bool) -> np.ndarray:
        rows = self._decode(codes.astype(np.float64))
        if mean:
            return rows
        likelihood, scaling = self._fitted_likelihood(), self._net.scaling
        return scattered(rows, likelihood, self._dispersion(), scaling, generator)

    def _dispersion(self) -> np.ndarray:
        """Return what the likelihood has beside the network, in its units."""
        likelihood, scaling = self._fitted_likelihood(), self._net.scaling
        fixed = likelihood.fixed_dispersion(1.0 if likelihood.raw_target else scaling.scale)
        if fixed is not None:
            return np.asarray(fixed)
        core: Any = self._net.core(torch.float64, torch.device("cpu"))
        return core.dispersion.detach().numpy()

    def _describe(
        self, X: Any, held_out: Any, start: FittedNet | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sort the codes by their divergence from the prior, with PCA's rule for signs.

        Returns the posteriors of X.
        """
        self._net.basis = None
        means, deviations = self._posterior(X)
        divergences = divergence_per_code(means, deviations)
        origin, device = np.zeros(self.n_components_), evaluation_device(self.device)
        signs = signs_of(self._net.loadings(origin, device) / self._net.scaling.scale)
        order = np.argsort(-divergences, kind="stable")
        forward = np.diag(signs)[order]
        self._net.basis = LatentBasis(origin, forward, forward.T, origin)
        return means[:, order] * signs[order].astype(means.dtype), deviations[:, order]

    def _publish(self, X: Any, n_before: int, known: Any = None) -> None:
        self._publish_dispersion()
        n_rows = max(1, _CODES_BOUNDED // max(_SCORING_POINTS, 2 * self.n_components_))
        some = X[:: -(-X.shape[0] // n_rows)]
        self.lower_bound_ = float(self._lower_bounds(some).mean())
        means, deviations = self._posterior(X) if known is None else known
        divergences = divergence_per_code(means, deviations)
        before = None
        if n_before:
            before = (n_before, self._code_mean, self._code_covariance)
            share = n_before / (n_before + len(means))
            divergences = share * self.kl_per_component_ + (1 - share) * divergences
        self.kl_per_component_ = divergences
        self._code_mean, self._code_covariance = fit_gaussian(means, before)
        self.active_components_ = np.diag(self._code_covariance) > _LEAST_ACTIVITY
        if not n_before:
            n_varying = int((~self._net.scaling.constant).sum())
            self._warn_of_inactive(min(self.n_components_, n_varying, X.shape[0] - 1))

    def _publish_dispersion(self) -> None:
        for name in ("noise_variance_", "dispersion_"):
            self.__dict__.pop(name, None)
        likelihood, dispersion = self._fitted_likelihood(), self._dispersion()
        fixed = likelihood.fixed_dispersion(1.0)
        variance = likelihood.variance_at(dispersion if fixed is None else fixed)
        if variance is not None and not likelihood.raw_target:
            scaling = self._net.scaling
            unit = scaling.scale[0] if scaling.is_uniform else scaling.scale
            self.noise_variance_ = _plain(variance * unit**2 if fixed is None else variance)
        elif fixed is not None or likelihood.learns_dispersion:
            self.dispersion_ = _plain(dispersion if fixed is None else fixed)

    def _warn_of_inactive(self, n_possible: int) -> None:
        """Warn if most of the components that can be active are not."""
        n_active = int(self.active_components_.sum())
        if 2 * n_active >= n_possible:
            return
        if (beta := max(value_at(self.beta, progress) for progress in np.linspace(0, 1, 101))) > 1:
            remedies = [f"Lower beta, which reaches {beta}"]
        else:
            remedies = ["Lower n_components"]
            if self._starts_at_pca() and self._likelihood().raw_target:
                remedies.append("use init='random'")
            elif self.init == "random" and self.encoder is None and self.decoder is None:
                remedies.append("use init='pca'")
            if self.n_importance_samples == 1:
                remedies.append("set free_bits")
        warnings.warn(
            f"{n_active} of {self.n_components_} components are active: the posterior means of "
            f"the others hardly vary over the training rows. {', or '.join(remedies)}.",
            UserWarning,
            stacklevel=6,
        )


def _plain(values: Any) -> float | np.ndarray:
    """Return an array, or a float where it is one number."""
    return float(values) if np.ndim(values) == 0 else values
