"""Fixtures of the contract: an estimator of each kind, and the digits' labels."""

import copy

import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from tests.contract.checks import MODELS


@pytest.fixture(params=MODELS)
def model(request):
    """Return an unfitted estimator of each kind: small, seeded, with 4 components."""
    return clone(MODELS[request.param])


@pytest.fixture(scope="session")
def fits(blobs):
    """Return one of each kind fitted to the blobs, by class; tests have copies of their own."""
    return {type(model): clone(model).fit(blobs) for model in MODELS.values()}


@pytest.fixture
def fitted(model, fits):
    """Return the same, fitted to the blobs."""
    return copy.deepcopy(fits[type(model)])


@pytest.fixture(scope="session")
def labels():
    """Return the labels of the digits."""
    return load_digits().target
