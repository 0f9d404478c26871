"""What the tests of the contract share: small models, their results, and how these are compared."""

import contextlib

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer

CALM = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Some tests have fewer rows than the 16 vectors that their codebooks ask for.
    pytest.mark.filterwarnings("ignore:codebook_size=16 is larger:UserWarning"),
]

SMALL = {
    "hidden_layer_sizes": (8,),
    "max_iter": 3,
    "early_stopping": True,
    "random_state": 0,
}
MODELS = {
    "autoencoder": AutoencoderTransformer(4, **SMALL),
    # One kind of noise: to choose among two, networks of five folds are trained with both.
    "vae": VAETransformer(4, likelihood="gaussian", prior="normal", **SMALL),
    "vqvae": VQVAETransformer(4, codebook_size=16, n_codes=2, **SMALL),
}
RECONSTRUCTING = ["autoencoder", "vqvae"]  # those scored by the fraction of variance explained
each_reconstructing = pytest.mark.parametrize("model", RECONSTRUCTING, indirect=True)


def outputs(model, X):
    """Return what every method of a fitted model computes from rows X, by name."""
    codes = model.transform(X)
    return {
        "transform": codes,
        "inverse_transform": model.inverse_transform(codes),
        "score_samples": model.score_samples(X),
        "score": model.score(X),
        "sample": model.sample(3, random_state=1),
    }


def assert_same(got, expected):
    """Assert that two results of `outputs` agree in type and to the last bit."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert type(got[name]) is type(value), name
        assert np.asarray(got[name]).dtype == np.asarray(value).dtype, name
        assert np.array_equal(got[name], value), name


def assert_unfitted(model):
    """Assert that a model has learned nothing."""
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    assert [name for name in vars(model) if name.endswith("_")] == []


@contextlib.contextmanager
def default_dtype(dtype):
    """Set torch's default dtype for a block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def num_threads(n_threads):
    """Set torch's number of threads for a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
