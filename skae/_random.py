"""Randomness: from scikit-learn's random_state to torch, leaving every global generator alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Generator, Tensor


def make_generator(random_state: Any) -> Generator:
    """Return a CPU generator seeded from an int, a ``RandomState`` or None (NumPy's global).

    Raises
    ------
    ValueError
        If `random_state` cannot seed a ``numpy.random.RandomState``.
    """
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    return Generator("cpu").manual_seed(int(seed))


def normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw float64 standard normals on the CPU."""
    return torch.randn(shape, generator=generator, device="cpu", dtype=torch.float64)


def whitened_normals(n_points: int, n_components: int) -> Tensor:
    """Return a fixed design of points with mean zero and identity covariance, exactly.

    Antithetic pairs of Gaussian draws, whitened: an average over them of any quadratic function
    equals its expectation under N(0, I).

    Returns
    -------
    torch.Tensor of shape (2 * max(n_points // 2, n_components), n_components), float64
    """
    n_pairs = max(n_points // 2, n_components)
    draws = normal((n_pairs, n_components), Generator("cpu").manual_seed(0))
    left, _, right = torch.linalg.svd(draws, full_matrices=False)
    half = n_pairs**0.5 * left @ right
    return torch.cat([half, -half])
