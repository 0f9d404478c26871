"""Where z comes from: a Gaussian over the codes, code frequencies, the scoring points."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from ._device import threads_for
from ._random import normal

_MOST_PAIRS = 128


def fit_gaussian(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (k,) and covariance (k, k), divided by n_samples, of codes (n_samples, k)."""
    values = torch.from_numpy(codes).double()
    mean = values.mean(0)
    centred = values - mean
    with threads_for(len(codes) * codes.shape[1] ** 2):
        covariance = centred.T @ centred / len(codes)
    return mean.numpy(), covariance.numpy()


def draw_gaussian(
    n_samples: int, mean: np.ndarray, covariance: np.ndarray, generator: Generator
) -> np.ndarray:
    """Draw from N(mean, covariance), which may be singular; float64 (n_samples, len(mean))."""
    with threads_for(len(mean) ** 2):
        values, vectors = torch.linalg.eigh(torch.tensor(covariance, device="cpu"))
        root = vectors * values.clamp(min=0.0).sqrt()
        return mean + (normal((n_samples, len(mean)), generator) @ root.T).numpy()


def draw_codes(n_samples: int, frequencies: np.ndarray, generator: Generator) -> np.ndarray:
    """Draw codes independently by position, int64 of shape (n_samples, n_codes).

    Parameters
    ----------
    n_samples : int
        Number of rows.
    frequencies : ndarray of shape (n_codes, codebook_size)
        How often each code is drawn, up to a factor per position.
    generator : torch.Generator
        Source of the draws, on the CPU.
    """
    weights = torch.tensor(frequencies, device="cpu", dtype=torch.float64)
    return torch.multinomial(weights, n_samples, replacement=True, generator=generator).numpy().T


def whitened_normals(n_points: int, n_components: int) -> Tensor:
    """Return a fixed design of points with mean zero and identity covariance.

    Antithetic pairs of Gaussian draws, whitened: an average over them of any quadratic function
    equals its expectation under N(0, I), up to 128 components. Beyond that 128 pairs in orthogonal
    directions stand for more, and the trace of the covariance is exact.

    Returns
    -------
    torch.Tensor of shape (2 * n_pairs, n_components), float64
        Where n_pairs is `n_components`, at least ``n_points // 2`` and at most 128.
    """
    n_pairs = max(n_points // 2, min(n_components, _MOST_PAIRS))
    draws = normal((n_pairs, n_components), Generator("cpu").manual_seed(0))
    with threads_for(n_components):
        left, _, right = torch.linalg.svd(draws, full_matrices=False)
        half = max(n_pairs, n_components) ** 0.5 * left @ right
    return torch.cat([half, -half])
