"""Restarts: several fits from different seeds, side by side on the cores; the best is kept."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed

from .._runtime.device import resolve_device
from .._runtime.warnings import warn
from ..exceptions import ConvergenceError

_LARGEST_SEED = np.iinfo(np.int32).max

Fit = tuple[Any, float, list[warnings.WarningMessage]]


def fit_best(estimator: Any, X: Any, X_val: Any) -> tuple[Any, np.ndarray]:
    """Fit copies of an estimator from ``n_init`` seeds; return the best one, and scores.

    Seeds are ``check_random_state(random_state).randint(2**31 - 1, size=n_init)``. On the CPU the
    fits run in as many processes as there are cores, with one thread each, or as
    ``joblib.parallel_config`` says; on another device one after the other.

    Parameters
    ----------
    estimator : estimator
        An unfitted autoencoder with ``n_init`` of 2 or more.
    X, X_val : array-like
        What `fit` was given.

    Returns
    -------
    best : estimator
        Fitted; ties go to the first.
    scores : ndarray of shape (n_init,)
        What each scores on X_val, or on X where there is none: on the same rows for all, as each
        holds out others. Minus infinity where training diverged.

    Raises
    ------
    ConvergenceError
        If training diverges from all seeds.
    """
    seeds = check_random_state(estimator.random_state).randint(_LARGEST_SEED, size=estimator.n_init)
    fits = [
        clone(estimator, safe=False).set_params(n_init=1, random_state=int(seed)) for seed in seeds
    ]
    n_jobs = -1 if resolve_device(estimator.device).type == "cpu" else 1
    found: list[Fit] = Parallel(n_jobs=n_jobs)(
        delayed(_fit_and_score)(each, X, X_val, os.getpid()) for each in fits
    )
    scores = np.array([score for _, score, _ in found])
    best, _, caught = found[int(scores.argmax())]
    if isinstance(best, ConvergenceError):
        raise best
    for warning in caught:
        warn(str(warning.message), warning.category)
    return best, scores


def _fit_and_score(estimator: Any, X: Any, X_val: Any, parent: int) -> Fit:
    """Fit an estimator; warnings of another process are brought back instead of shown."""
    if os.getpid() == parent:
        return *_outcome(estimator, X, X_val), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return *_outcome(estimator, X, X_val), caught


def _outcome(estimator: Any, X: Any, X_val: Any) -> tuple[Any, float]:
    """Return the fitted estimator and its score, or the error with which training diverged."""
    try:
        return estimator, estimator._fit_once(X, X_val, scored=True)
    except ConvergenceError as error:
        return error, -np.inf
