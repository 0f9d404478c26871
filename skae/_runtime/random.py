"""Randomness: from scikit-learn's random_state to torch, leaving every global generator alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Generator, Tensor


def draw_seed(random_state: Any) -> int:
    """Draw a seed from an int, a ``RandomState`` or None (NumPy's global)."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def make_generator(random_state: Any) -> Generator:
    """Return a CPU generator seeded from an int, a ``RandomState`` or None (NumPy's global).

    Raises
    ------
    ValueError
        If `random_state` cannot seed a ``numpy.random.RandomState``.
    """
    return Generator("cpu").manual_seed(draw_seed(random_state))


def normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw float64 standard normals on the CPU."""
    return torch.randn(shape, generator=generator, device="cpu", dtype=torch.float64)


def numpy_generator(generator: Generator) -> np.random.Generator:
    """Return a NumPy generator seeded from one of torch's."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device="cpu")))
