"""Fixtures of the contract: an estimator of each kind, and the digits' labels."""

import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from tests.contract.checks import MODELS


@pytest.fixture(params=MODELS)
def model(request):
    """Return an unfitted estimator of each kind: small, seeded, with 4 components."""
    return clone(MODELS[request.param])


@pytest.fixture
def fitted(model, blobs):
    """Return the same, fitted to the blobs."""
    return model.fit(blobs)


@pytest.fixture(scope="session")
def labels():
    """Return the labels of the digits."""
    return load_digits().target
