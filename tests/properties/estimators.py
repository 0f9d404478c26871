"""What the properties of the three estimators share: small ones, their results, known warnings."""

import warnings
from contextlib import contextmanager

import numpy as np
from hypothesis import settings
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer

ESTIMATORS = [AutoencoderTransformer, VAETransformer, VQVAETransformer]
REFUSALS = (ValueError, TypeError)


def share_of_examples(share):
    """Return settings with a share of the profile's examples, for properties that take long."""
    return settings(max_examples=max(1, int(share * settings.default.max_examples)))


@contextmanager
def expected_warnings():
    """Silence what fits to few rows may warn of: their end, and parts that are of no use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for message in ("codebook_size=", r"\d+ of \d+ co", r"n_components=0\.\d+: the"):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield


def small(kind, n_components=None, **settings):
    """Return an unfitted estimator with a small network and few codes."""
    settings = dict(hidden_layer_sizes=(4,), max_iter=1, random_state=0) | settings
    if kind is VQVAETransformer:
        settings = dict(codebook_size=4, n_codes=1) | settings
    return kind(n_components, **settings)


def results(model, X):
    """Return what the methods of a fitted model compute from rows X, by name."""
    codes = model.transform(X)
    return {
        "transform": codes,
        "inverse_transform": model.inverse_transform(codes),
        "score": model.score(X),
        "score_samples": model.score_samples(X),
        "sample": model.sample(3, random_state=0),
    }


def assert_finite(results):
    """Assert that no result holds NaN or infinity."""
    assert [name for name, value in results.items() if not np.isfinite(value).all()] == []


def assert_same(found, expected):
    """Assert that two sets of results agree in dtype and to the last bit."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.asarray(found[name]).dtype == np.asarray(value).dtype, name
        assert np.array_equal(found[name], value), name


def is_fitted(model):
    """Return whether a model is fitted, as scikit-learn sees it."""
    try:
        check_is_fitted(model)
    except NotFittedError:
        return False
    return True
