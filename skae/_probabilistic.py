"""Where a variational model starts: probabilistic PCA, and its kin for other likelihoods."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ._axes import PrincipalAxes
from ._batches import Rows
from ._device import threads_for
from ._input import Scaling
from .modules import MLP, MirroredMLP
from .objectives import Likelihood

# Weights are float32, so errors below about a millionth of the rows' size, whose square this is,
# are rounding and not noise.
_LEAST_RELATIVE_NOISE = 1e-12
_LEAST_NOISE = 1e-30  # float32 itself
# A feature that the components explain keeps this share of its variance as noise at the start.
_LEAST_SHARE = 1e-2
# Factor analysis takes an eigendecomposition per iteration: of so many features at most, and until
# an iteration gains fewer nats per feature and row.
_MOST_FACTORED = 1024
_FACTOR_ITERATIONS = 100
_LEAST_GAIN = 1e-6
_ROWS_AT_ONCE = 1024
# A code that tells nothing keeps a trace of information, from which it can learn.
_LEAST_INFORMATION = 1e-3


def start_probabilistic(
    core: Any, axes: PrincipalAxes | None, scaling: Scaling, rows: Rows
) -> None:
    """Start a variational network at a linear-Gaussian model of the rows.

    With shared Gaussian noise it is the maximum-likelihood solution of probabilistic PCA ([1]_,
    equations 7 and 8), and with noise of each feature's own about that of factor analysis ([3]_,
    algorithm 21.1). With another likelihood the decoder's output is linear in the codes and
    has Gaussian noise all the same, as in [2]_: of rows in the user's units, output and noise are
    those of the natural parameter at the mean, whose slope and noise variance there are one over
    the rows' variance.

    Parameters
    ----------
    core : VAE
        The network, on the CPU, with linear paths unless `axes` is None.
    axes : PrincipalAxes or None
        Principal axes of the rows in net units; None leaves the weights as they are.
    scaling : Scaling
        The map between rows and net units.
    rows : Rows
        Training rows.

    References
    ----------
    .. [1] Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999.
    .. [2] Tipping, "Probabilistic Visualisation of High-Dimensional Binary Data", 1999.
    .. [3] Barber, "Bayesian Reasoning and Machine Learning", 2012.
    """
    likelihood, shift = core.likelihood, scaling.to_net(scaling.mean)
    raw = likelihood.raw_target
    offset = likelihood.natural(scaling.mean if raw else shift)
    noise = _noise_variances(likelihood, axes, scaling)
    if axes is None:
        _start_dispersion(core, noise, scaling)
        if raw and isinstance(core.decoder, MLP | MirroredMLP):
            core.decoder.offset_outputs(torch.from_numpy(offset))
        return
    if raw:
        rough = likelihood.rough_variance(scaling.variance)
        loadings, slope = _loadings(axes, scaling.scale / rough, 1 / rough), scaling.scale / rough
        _start_dispersion(core, noise, scaling)
        noise = 1 / rough
    else:
        slope = np.ones_like(shift)
        loadings = _loadings(axes, slope, noise)
        if likelihood.per_feature:
            loadings, noise = _factors(loadings, rows, scaling)
        _start_dispersion(core, noise, scaling)
    loadings, encode, information = _posterior(loadings, slope, noise)
    log_information = np.log(np.maximum(information, _LEAST_INFORMATION)) + float(core.log_noise())
    core.start_linear(
        np.vstack([encode, 0 * encode]),
        loadings,
        shift,
        np.concatenate([0 * information, log_information]),
        offset,
    )


def _noise_variances(
    likelihood: Likelihood, axes: PrincipalAxes | None, scaling: Scaling
) -> np.ndarray:
    """Return the variance of each feature around the model, in the likelihood's units."""
    if likelihood.raw_target:
        return scaling.variance
    variance = scaling.variance / scaling.scale**2
    fixed = likelihood.fixed_dispersion(scaling.scale)
    noise = None if fixed is None else likelihood.variance_at(fixed)
    if noise is None:
        noise = variance.mean() if axes is None else axes.residual
    return np.maximum(noise + 0 * variance, _least_noise(scaling))


def _least_noise(scaling: Scaling) -> float:
    return max(_LEAST_RELATIVE_NOISE * (scaling.second_moment or 1.0), _LEAST_NOISE)


def _factors(loadings: np.ndarray, rows: Rows, scaling: Scaling) -> tuple[np.ndarray, np.ndarray]:
    """Return loadings of factor analysis and each feature's noise variance, in net units.

    In turn, the noise is what the loadings leave of each feature's variance, and the loadings are
    those of probabilistic PCA of features divided by their noise.
    """
    variance = scaling.variance / scaling.scale**2
    left, least = variance - np.square(loadings).sum(1), _least_noise(scaling)
    noise = np.maximum(left, np.maximum(_LEAST_SHARE * variance, least))
    n_features, k = loadings.shape
    if n_features > _MOST_FACTORED:
        return loadings, noise
    covariance, before = _covariance(rows, scaling.to_net(scaling.mean)), -np.inf
    for _ in range(_FACTOR_ITERATIONS):
        root = np.sqrt(noise)
        with threads_for(n_features**2):
            scaled = torch.from_numpy(covariance / np.outer(root, root))
            values, vectors = (each.flip(-1).numpy() for each in torch.linalg.eigh(scaled))
        gains = np.sqrt(np.maximum(values[:k] - 1, 0.0))
        loadings = root[:, None] * vectors[:, :k] * gains
        explained = np.maximum(values[:k], 1.0)
        likelihood = -np.log(noise).sum() - (np.log(explained) - explained).sum() - values.sum()
        noise = np.maximum(variance - np.square(loadings).sum(1), least)
        if likelihood - before < _LEAST_GAIN * n_features:
            break
        before = likelihood
    return loadings, noise


def _covariance(rows: Rows, mean: np.ndarray) -> np.ndarray:
    center = torch.from_numpy(mean)
    total = center.new_zeros(len(mean), len(mean))
    with threads_for(_ROWS_AT_ONCE * len(mean) ** 2):
        for x in rows.in_order(_ROWS_AT_ONCE):
            centred = x.double() - center
            total += centred.T @ centred
    return (total / rows.n_rows).numpy()


def _loadings(axes: PrincipalAxes, slope: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return weights (n_features, n_components) from codes to the decoder's output."""
    in_net_units = np.square(axes.components) @ (noise / slope**2)
    gains = np.sqrt(np.maximum(axes.variances - in_net_units, 0.0))
    return slope[:, None] * axes.components.T * gains


def _posterior(
    loadings: np.ndarray, slope: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn the codes so that they are independent given a row.

    Returns
    -------
    loadings : ndarray of shape (n_features, n_components)
        Those of the turned codes.
    encode : ndarray of shape (n_components, n_features)
        From rows in net units to means of codes.
    information : ndarray of shape (n_components,)
        What a row adds to each code's precision.
    """
    weighted = torch.from_numpy(loadings / noise[:, None])
    with threads_for(loadings.size):
        information, turn = torch.linalg.eigh(torch.from_numpy(loadings).T @ weighted)
    information, turn = information.flip(0).clamp(min=0.0).numpy(), turn.flip(1).numpy()
    loadings = loadings @ turn
    encode = (loadings * (slope / noise)[:, None] / (1 + information)).T
    return loadings, encode, information


def _start_dispersion(core: Any, noise: np.ndarray, scaling: Scaling) -> None:
    """Set the dispersion to what gives each feature a noise variance, and its lower bound."""
    likelihood = core.likelihood
    start = likelihood.fixed_dispersion(1.0 if likelihood.raw_target else scaling.scale)
    if start is None:
        start = likelihood.dispersion_for(noise, scaling.mean)
    least = likelihood.dispersion_for(_least_noise(scaling) + 0 * noise, scaling.mean)
    shared = core.dispersion.ndim == 0
    core.start_dispersion(*(np.mean(each) if shared else each for each in (start, least)))
