"""Where draws come from: codes from a Gaussian, a mixture or a density; scoring points."""

from __future__ import annotations

import warnings
from copy import copy
from functools import cached_property
from inspect import signature
from math import log, pi
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn import config_context
from sklearn.base import clone
from torch import Generator, Tensor

from .._runtime.distributed import agreed
from .._runtime.random import draw_seed, normal
from .._runtime.threads import OneThread, threads_for
from ..exceptions import ConvergenceWarning

_ROWS_AT_ONCE = 8192
# A mixture is fitted to so many codes, and has so many components, at most; and to no fewer codes.
_MOST_CODES, _MOST_COMPONENTS, _FEWEST_CODES = 4096, 64, 100
# It has so many distinct codes, and so many times the number of columns, per component at least.
_CODES_PER_COMPONENT, _CODES_PER_COLUMN = 10, 2
# Numbers of components that are tried without success before no larger one is; up to the second
# they all are: a ring has nothing for two.
_MOST_FAILURES, _ALWAYS_TRIED = 2, 8


def fit_gaussian(
    codes: np.ndarray,
    before: tuple[int, np.ndarray, np.ndarray] | None = None,
    *,
    jointly: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (k,) and covariance (k, k), divided by n_samples, of codes (n_samples, k).

    `before` is the number, mean and covariance of codes to be counted in. If not `jointly`, the
    codes' variances (k,) stand for the covariance.
    """
    mean = codes.mean(0, dtype=np.float64)
    if not jointly:
        return _pool((len(codes), mean, np.square(codes - mean).mean(0)), before)
    covariance = np.zeros((codes.shape[1], codes.shape[1]))
    with threads_for(_ROWS_AT_ONCE * codes.shape[1] ** 2):
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            centred = torch.from_numpy(codes[start : start + _ROWS_AT_ONCE] - mean)
            covariance += (centred.T @ centred).numpy() / len(codes)
    return _pool((len(codes), mean, covariance), before)


def _pool(
    new: tuple[int, np.ndarray, np.ndarray], before: tuple[int, np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of two samples together, each given with its size."""
    n, mean, covariance = new
    if before is None:
        return mean, covariance
    n_before, mean_before, covariance_before = before
    share, shift = n / (n + n_before), mean - mean_before
    between = share * (1 - share) * (np.outer(shift, shift) if covariance.ndim > 1 else shift**2)
    within = share * covariance + (1 - share) * covariance_before
    return mean_before + share * shift, within + between


def draw_gaussian(
    n_samples: int, mean: np.ndarray, covariance: np.ndarray, generator: Generator
) -> np.ndarray:
    """Draw from N(mean, covariance), which may be singular; float64 (n_samples, len(mean)).

    Where the covariance is a vector, it is of variances.
    """
    if covariance.ndim == 1:
        return mean + normal((n_samples, len(mean)), generator).numpy() * np.sqrt(covariance)
    with threads_for(len(mean) ** 2):
        values, vectors = torch.linalg.eigh(torch.tensor(covariance, device="cpu"))
        # The symmetric root: unlike others it does not turn when rounding turns eigenvectors.
        root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
        return mean + (normal((n_samples, len(mean)), generator) @ root).numpy()


def completed(density: Any, random_state: Any, **known: Any) -> Any:
    """Return a clone of an object with `fit` and `sample`, parameters that are None filled in.

    These are its ``random_state``, seeded from `random_state`, and the `known` ones.
    """
    density = clone(density, safe=False)
    parameters = density.get_params() if hasattr(density, "get_params") else {}
    if parameters.get("random_state", 0) is None:
        known["random_state"] = agreed(draw_seed(random_state))
    missing = {name: value for name, value in known.items() if parameters.get(name, 0) is None}
    return density.set_params(**missing) if missing else density


def fit_mixture(
    n_components: int, codes: np.ndarray, random_state: int, *, beside_normal: bool = False
) -> Any:
    """Fit scikit-learn's GaussianMixture to codes (n_samples, k), of which 4096 are taken.

    Its covariances are full, and fitted in units of the codes' standard deviations, so that its
    ``reg_covar`` is a millionth of each code's variance.
    If `beside_normal`, a last component is N(0, I), with the weight of one more code: so none is
    less probable than there, but for the logarithm of the number of codes.
    """
    from sklearn.mixture import GaussianMixture  # which takes a tenth of a second to import

    some = _some(codes, random_state)
    some = np.repeat(some, 2 if len(some) == 1 else 1, axis=0)  # scikit-learn wants two
    unit = some.std(0)
    unit = np.maximum(unit, 1e-6 * unit.max() or 1.0)
    how = {"tol": 1e-2, "reg_covar": 1e-6, "random_state": random_state}
    mixture = GaussianMixture(n_components, **how)
    with OneThread(), config_context(array_api_dispatch=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # held-out codes say what it is worth
        mixture.fit(some / unit)
    mixture.means_ *= unit
    mixture.covariances_ *= np.outer(unit, unit)
    mixture.precisions_ /= np.outer(unit, unit)
    mixture.precisions_cholesky_ /= unit[:, None]
    mixture.lower_bound_ -= np.log(unit).sum()
    if beside_normal:
        _add_normal(mixture, 1 / (len(codes[:_MOST_CODES]) + 1))
    return mixture


def _add_normal(mixture: Any, weight: float) -> None:
    """Give a fitted mixture a component N(0, I) beside its own, whose weights shrink."""
    identity = np.eye(mixture.means_.shape[1])
    mixture.weights_ = np.append((1 - weight) * mixture.weights_, weight)
    mixture.means_ = np.vstack([mixture.means_, np.zeros(len(identity))])
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        setattr(mixture, name, np.concatenate([getattr(mixture, name), identity[None]]))
    mixture.n_components += 1


def count_mixed(codes: np.ndarray, random_state: int, *, beside_normal: bool = False) -> int:
    """Return how many components a Gaussian mixture of codes (n_samples, k) should have.

    Numbers from 1 on are doubled. One is taken where it makes held-out codes, a quarter, more
    probable than what was taken before by more than a standard error of the paired difference;
    after two numbers that do not, no more than 8 are tried.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, k)
        Codes.
    random_state : int
        Chooses those that are held out.
    beside_normal : bool, default=False
        Whether codes are N(0, I) without a mixture, which one has to surpass, and has beside its
        own components; see `fit_mixture`.

    Returns
    -------
    int
        0 where there is no such mixture, or where codes are fewer than 100.
    """
    if len(codes) < _FEWEST_CODES:
        return 0
    some = _some(codes, random_state)
    per_component = max(_CODES_PER_COMPONENT, _CODES_PER_COLUMN * codes.shape[1])
    n_distinct = len(np.unique(some, axis=0))
    most = min(_MOST_COMPONENTS, 3 * n_distinct // 4 // per_component)
    held_out, others = np.split(some, [len(some) // 4])
    best = log_standard_normal(held_out) if beside_normal else None
    chosen, tried, failures = 0, 1, 0
    while 1 < most >= tried and (tried <= _ALWAYS_TRIED or failures < _MOST_FAILURES):
        mixture = fit_mixture(tried, others, random_state, beside_normal=beside_normal)
        with config_context(array_api_dispatch=False):
            found = mixture.score_samples(held_out)
        if best is None or _is_higher(found, best):
            best, chosen, failures = found, tried, 0
        else:
            failures += 1
        tried *= 2
    return chosen


def _some(codes: np.ndarray, random_state: int) -> np.ndarray:
    """Return as many codes as a mixture is fitted to, in random order, in float64."""
    order = np.random.default_rng(random_state).permutation(len(codes))
    return codes[order[:_MOST_CODES]].astype(np.float64)


def _is_higher(found: np.ndarray, before: np.ndarray) -> bool:
    """Return whether numbers are higher on average, beyond a standard error of the difference."""
    gain = found - before
    return bool(gain.mean() > gain.std() / len(gain) ** 0.5)


class MixtureOnDemand:
    """A Gaussian mixture of codes, learned when it is first asked for: not every fit needs draws.

    It keeps 4096 codes at most. Pickles leave the mixture out, which is the same each time.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, k)
        Codes.
    random_state : int
        Chooses those that are kept and held out, and seeds the mixture.
    beside_normal : bool, default=False
        Whether codes are N(0, I) without a mixture, see `count_mixed`. Otherwise they are one
        Gaussian, so that a mixture has two components at least.
    least : int, default=0
        Number of components that it has at least.
    """

    def __init__(
        self, codes: np.ndarray, random_state: int, *, beside_normal: bool = False, least: int = 0
    ) -> None:
        codes = _some(codes, random_state)
        self.unit = float(np.abs(codes).max(initial=0.0)) or 1.0
        self.codes = (codes / self.unit).astype(np.float32)
        self.random_state, self.beside_normal, self.least = random_state, beside_normal, least

    @cached_property
    def found(self) -> Any:
        """The mixture, or None where held-out codes do not ask for one."""
        codes = self.codes.astype(np.float64) * self.unit
        normal, seed = self.beside_normal, self.random_state
        n_mixed = max(count_mixed(codes, seed, beside_normal=normal), self.least)
        if n_mixed < (1 if normal else 2):
            return None
        return fit_mixture(n_mixed, codes, seed, beside_normal=normal)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "found"}


class Fitted(NamedTuple):
    """A density that has been fitted to codes already."""

    found: Any


Learned = MixtureOnDemand | Fitted | None


def density_of(learned: Learned, name: str) -> Any:
    """Return what an estimator publishes under a name: a density, or a mixture on demand.

    Raises
    ------
    AttributeError
        If there is none, so that the estimator has no such attribute.
    """
    found = None if learned is None else learned.found
    if found is None:
        raise AttributeError(f"Codes are drawn from a Gaussian; {name} is not set.")
    return found


def log_standard_normal(codes: np.ndarray) -> np.ndarray:
    """Return the log-density of each row of codes (n_rows, k) under N(0, I)."""
    return np.asarray(-0.5 * (np.square(codes) + log(2 * pi)).sum(1))


def log_ratio_to_normal(density: Any, codes: np.ndarray) -> np.ndarray:
    """Return the log-density of each row of codes (n_rows, k), minus that under N(0, I).

    Raises
    ------
    ValueError
        If codes have no density.
    """
    found = np.asarray(density.score_samples(codes))
    if not np.isfinite(found).all():
        raise ValueError(
            f"The prior {density!r} gives codes of some rows no density, so these have no score. "
            "Use one that is positive everywhere, as a mixture of Gaussians is."
        )
    return found - log_standard_normal(codes)


def draw_from_density(n_samples: int, density: Any, generator: Generator) -> np.ndarray:
    """Draw from a fitted object with `sample`, float64 (n_samples, n_components).

    Its draws follow the generator, whether `sample` has a ``random_state`` (KernelDensity) or the
    estimator itself has one (GaussianMixture).
    """
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device="cpu"))
    if "random_state" in signature(density.sample).parameters:
        drawn = density.sample(n_samples, random_state=seed)
    else:
        density = copy(density)
        if "random_state" in getattr(density, "get_params", dict)():
            density.set_params(random_state=seed)
        drawn = density.sample(n_samples)
    codes = drawn[0] if isinstance(drawn, tuple) else drawn
    return np.ascontiguousarray(codes, dtype=np.float64)


def whitened_normals(n_points: int, n_components: int) -> Tensor:
    """Return a fixed design of points with mean zero and identity covariance.

    Antithetic pairs of Gaussian draws, whitened: an average over them of any quadratic function
    equals its expectation under N(0, I).

    Returns
    -------
    torch.Tensor of shape (2 * n_pairs, n_components), float64
        Where n_pairs is `n_components`, at least ``n_points // 2``.
    """
    n_pairs = max(n_points // 2, n_components)
    draws = normal((n_pairs, n_components), Generator("cpu").manual_seed(0))
    with threads_for(n_components):
        left, _, right = torch.linalg.svd(draws, full_matrices=False)
        half = n_pairs**0.5 * left @ right
    return torch.cat([half, -half])
