"""Where a variational model starts: probabilistic PCA, and its kin for other likelihoods."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .._data.centred import CentredRows
from .._data.rows import as_array
from .._data.scaling import Scaling, fit_scaling
from .._runtime.threads import threads_for
from ..objectives import Likelihood
from .pca import PrincipalAxes, principal_axes, sum_of_products

# Weights are float32, so errors below about a millionth of the rows' size, whose square this is,
# are rounding and not noise.
_LEAST_RELATIVE_NOISE = 1e-12
_LEAST_NOISE = 1e-30  # float32 itself
# In the user's units a feature's variance is taken to be at least this share of the mean.
_LEAST_SHARE = 1e-6
# Training begins with at least this share of the variance as noise.
_LOOSE = 1e-2
# Factor analysis takes an eigendecomposition per iteration: of so many features at most, and until
# an iteration gains fewer nats per feature and row, twice over.
_MOST_FACTORED = 1024
_FACTOR_ITERATIONS = 100
# Of more features than these there are fewer iterations: training goes on from there.
_MANY_FEATURES, _ITERATIONS_OF_MANY = 256, 20
# Noise of each feature's own is compared with shared noise on so many rows, cross-fitted.
_FEWEST_COMPARED, _MOST_COMPARED, _FOLDS = 100, 5000, 5
_LEAST_STEP = 1e-6
_ROWS_AT_ONCE = 1024
# A code that tells nothing keeps a trace of information, from which it can learn; of rows in the
# user's units, where noise is a guess, it keeps a trace of weight too.
_LEAST_INFORMATION = 1e-3
_LEAST_GAIN = 6e-1


def start_probabilistic(
    core: Any, axes: PrincipalAxes | None, scaling: Scaling, rows: CentredRows
) -> np.ndarray | None:
    """Start a variational network at a linear-Gaussian model of the rows.

    With shared Gaussian noise it is the maximum-likelihood solution of probabilistic PCA ([1]_,
    equations 7 and 8), and with noise of each feature's own, of 1024 at most, about that of factor
    analysis ([3]_, algorithm 21.1). With another likelihood the decoder's output is linear in the
    codes and has Gaussian noise all the same, as in [2]_: of rows in the user's units, output and
    noise are those of the natural parameter at the mean, whose derivative and noise variance there
    are one over the rows' variance.

    Parameters
    ----------
    core : VAE
        The network, on the CPU, with linear paths unless `axes` is None.
    axes : PrincipalAxes or None
        Principal axes of the rows in scaled units; None leaves the weights as they are.
    scaling : Scaling
        The map between rows and scaled units.
    rows : CentredRows
        The rows.

    Returns
    -------
    ndarray of shape (n_components,) or None
        What each code tells about a row at the start, in nats on average; None without a start.

    References
    ----------
    .. [1] Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999.
    .. [2] Tipping, "Probabilistic Visualisation of High-Dimensional Binary Data", 1999.
    .. [3] Barber, "Bayesian Reasoning and Machine Learning", 2012.
    """
    likelihood, shift = core.likelihood, scaling.to_scaled(scaling.mean)
    raw = likelihood.raw_target
    offset = likelihood.natural(scaling.mean if raw else shift)
    spread = _noise_variances(likelihood, axes, scaling)
    if axes is None:
        _start_dispersion(core, spread, scaling)
        if raw:
            core.decoder.offset_outputs(torch.from_numpy(offset))
        return None
    gradient, noise = np.ones_like(shift), spread
    if raw:
        rough = likelihood.rough_variance(scaling.variance)
        gradient, noise = scaling.scale / rough, 1 / rough
    loadings = _loadings(axes, gradient, noise, _LEAST_GAIN if raw else 0.0)
    if likelihood.per_feature and not raw:
        loadings, noise = _factors(loadings, noise, rows, _least_noise(scaling))
        spread = noise
    _start_dispersion(core, spread, scaling)
    loadings, encode, information = _posterior(loadings, gradient, noise)
    log_information = np.log(np.maximum(information, _LEAST_INFORMATION)) + float(core.log_noise())
    core.start_linear(
        np.vstack([encode, 0 * encode]),
        loadings,
        shift,
        np.concatenate([0 * information, log_information]),
        offset,
    )
    return 0.5 * np.log1p(information)


def gain_of_noise_per_feature(X: Any, scale: str | None, n_components: int) -> float:
    """Return how many nats per row linear models gain from noise of each feature's own.

    One with it and one with shared noise are fitted to four fifths of the rows in turn, of 5000 at
    most, and compared on the others, which is done once for more than 256 features. Of more than
    1024 features or fewer than 100 rows it is minus infinity.
    """
    X = X[:: -(-X.shape[0] // _MOST_COMPARED)]
    n_samples, n_features = X.shape
    k = min(n_components, n_samples - -(-n_samples // _FOLDS), n_features)
    if n_features > _MOST_FACTORED or n_samples < _FEWEST_COMPARED:
        return -np.inf
    folds, gains = np.arange(n_samples) % _FOLDS, []
    for fold in range(1 if n_features > _MANY_FEATURES else _FOLDS):
        training = X[folds != fold]
        scaling = fit_scaling(training, scale)
        rows = CentredRows(training, scaling)
        axes = principal_axes(rows, k, scaling.constant)
        noise = np.maximum(axes.residual + np.zeros(n_features), _least_noise(scaling))
        loadings = _loadings(axes, np.ones(n_features), noise, 0.0)
        held_out = as_array(X[folds == fold]).astype(np.float64)
        z = scaling.to_scaled(held_out) - scaling.to_scaled(scaling.mean)
        own = _factors(loadings, noise, rows, _least_noise(scaling))
        gains.append(_log_likelihood(z, *own) - _log_likelihood(z, loadings, noise))
    return float(np.concatenate(gains).mean())


def _log_likelihood(z: np.ndarray, loadings: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return each centred row's log-likelihood under loadings and noise, but for a constant."""
    covariance = loadings @ loadings.T + np.diag(noise)
    with threads_for(len(noise) ** 2):
        factor = torch.linalg.cholesky(torch.from_numpy(covariance))
        white = torch.linalg.solve_triangular(factor, torch.from_numpy(z.T.copy()), upper=False)
    return (-0.5 * white.square().sum(0) - factor.diagonal().log().sum()).numpy()


def _noise_variances(
    likelihood: Likelihood, axes: PrincipalAxes | None, scaling: Scaling
) -> np.ndarray:
    """Return the variance of each feature around the model, in the likelihood's units."""
    if likelihood.raw_target:
        least = _LEAST_SHARE * scaling.variance.mean() or 1.0
        return np.maximum(scaling.variance, least)
    variance = scaling.variance / scaling.scale**2
    fixed = likelihood.fixed_dispersion(scaling.scale)
    noise = None if fixed is None else likelihood.variance_at(fixed)
    if noise is None:
        noise = variance.mean() if axes is None else axes.residual
    return np.maximum(noise + 0 * variance, _least_noise(scaling))


def _least_noise(scaling: Scaling) -> float:
    return max(_LEAST_RELATIVE_NOISE * (scaling.second_moment or 1.0), _LEAST_NOISE)


def _loadings(
    axes: PrincipalAxes, gradient: np.ndarray, noise: np.ndarray, least_gain: float
) -> np.ndarray:
    """Return weights (n_features, n_components) from codes to the decoder's output.

    Each code keeps `least_gain` of its axis' variance, whatever the noise along it.
    """
    in_scaled_units = np.square(axes.components) @ (noise / gradient**2)
    signal = np.maximum(axes.variances - in_scaled_units, least_gain * axes.variances)
    return gradient[:, None] * axes.components.T * np.sqrt(signal)


def _factors(
    loadings: np.ndarray, noise: np.ndarray, rows: CentredRows, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return loadings of factor analysis and each feature's noise variance, in scaled units.

    It starts at `loadings` and shared `noise`, than which the result is not less likely, and for up
    to 256 features also where all variance is noise: the likelihood has more than one maximum.
    """
    n_features = len(loadings)
    if n_features > _MOST_FACTORED:
        return loadings, noise
    with threads_for(_ROWS_AT_ONCE * n_features**2):
        covariance = (sum_of_products(rows.blocks(), rows.shape[1]) / rows.n_kept).numpy()
    many = n_features > _MANY_FEATURES
    starts = [noise] if many else [noise, np.maximum(np.diag(covariance), least)]
    n_iterations = _ITERATIONS_OF_MANY if many else _FACTOR_ITERATIONS
    found = [_climb(covariance, start, loadings, least, n_iterations) for start in starts]
    return max(found, key=lambda outcome: outcome[0])[1:]


def _climb(
    covariance: np.ndarray, noise: np.ndarray, loadings: np.ndarray, least: float, n_iterations: int
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return likelihood, loadings and noise of factor analysis from where `noise` is.

    In turn, the loadings are those of probabilistic PCA of features divided by their noise, and the
    noise is what the loadings leave of each feature's variance.
    """
    n_features, k = loadings.shape
    variance, best, most = np.diag(covariance), (loadings, noise), -np.inf
    for _ in range(n_iterations):
        root = np.sqrt(noise)
        with threads_for(n_features**2):
            scaled = torch.from_numpy(covariance / np.outer(root, root))
            values, vectors = (each.flip(-1).numpy() for each in torch.linalg.eigh(scaled))
        loadings = np.zeros((n_features, k))  # codes beyond the features stay at zero
        loadings[:, :n_features] = (
            root[:, None] * vectors[:, :k] * np.sqrt(np.maximum(values[:k] - 1, 0.0))
        )
        explained = np.maximum(values[:k], 1.0)
        likelihood = -np.log(noise).sum() - (np.log(explained) - explained).sum() - values.sum()
        if not likelihood > most:
            break
        gain, most, best = likelihood - most, likelihood, (loadings, noise)
        if gain < _LEAST_STEP * n_features:
            break
        noise = np.maximum(variance - np.square(loadings).sum(1), least)
    return most, *best


def _posterior(
    loadings: np.ndarray, gradient: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotate the codes so that they are independent given a row.

    Returns
    -------
    loadings : ndarray of shape (n_features, n_components)
        Those of the rotated codes.
    encode : ndarray of shape (n_components, n_features)
        From rows in scaled units to means of codes.
    information : ndarray of shape (n_components,)
        What a row adds to each code's precision.
    """
    weighted = torch.from_numpy(loadings / noise[:, None])
    with threads_for(loadings.size):
        information, rotation = torch.linalg.eigh(torch.from_numpy(loadings).T @ weighted)
    information, rotation = information.flip(0).clamp(min=0.0).numpy(), rotation.flip(1).numpy()
    loadings = loadings @ rotation
    encode = (loadings * (gradient / noise)[:, None] / (1 + information)).T
    return loadings, encode, information


def _start_dispersion(core: Any, noise: np.ndarray, scaling: Scaling) -> None:
    """Set the dispersion to what gives each feature a noise variance, and its lower bound."""
    likelihood = core.likelihood
    start = likelihood.fixed_dispersion(1.0 if likelihood.raw_target else scaling.scale)
    least, loose = 0.0, 0.0
    if start is None:
        start = likelihood.dispersion_for(noise, scaling.mean)
        loose = _LOOSE * scaling.variance / scaling.scale**2
        floors = [_least_noise(scaling) + 0 * noise, loose]
        least, loose = (likelihood.dispersion_for(each, scaling.mean) for each in floors)
    shared = core.dispersion.ndim == 0
    core.start_dispersion(*(np.mean(each) if shared else each for each in (start, least, loose)))
