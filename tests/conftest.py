"""Data and markers that the tests share."""

import os

# SciPy reads it when it is imported: with it scikit-learn's array-API checks run.
os.environ["SCIPY_ARRAY_API"] = "1"
# Tests that run side by side have a core each. OpenMP and MKL read it when they are loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

pytest.register_assert_rewrite("tests.contract.checks")


def pytest_runtest_setup(item):
    """Skip the tests marked `gpu` where there is no CUDA device."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture
def two_threads():
    """Let torch use two threads, however many tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits():
    """Return the digits, 1797 rows of 64 pixels in [0, 1], float64, read-only."""
    return _read_only(load_digits().data / 16.0)


@pytest.fixture(scope="session")
def blobs():
    """Return 200 rows of 6 correlated features around a mean far from zero, float64, read-only."""
    rng = np.random.default_rng(0)
    return _read_only(5.0 + rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)))


def _read_only(X):
    X.flags.writeable = False
    return X
