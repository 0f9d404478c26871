"""The caller's state: no method changes it, and no result depends on it."""

import contextlib
import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.objectives import Laplace, TopK
from tests.contract.checks import (
    CALM,
    MODELS,
    assert_same,
    default_dtype,
    num_threads,
    outputs,
)

pytestmark = CALM


def ambient_state():
    """Return the caller's state that no method may change."""
    return {
        "torch generator": torch.random.get_rng_state().numpy().tobytes(),
        "numpy generator": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "random": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.empty(0).device,
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float errors": np.geterr(),
        "warnings": list(warnings.filters),
    }


def refuse_to_fit(model, X):
    """Let a fit fail."""
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X * np.nan)


METHODS = {
    "fit": lambda model, X: clone(model).fit(X),
    "fit, own network": lambda model, X: clone(model).set_params(encoder=torch.nn.Linear).fit(X),
    "fit, X_val": lambda model, X: clone(model).fit(X, X_val=X[:9]),
    "fit, refused": refuse_to_fit,
    "fit_transform": lambda model, X: clone(model).fit_transform(X),
    "partial_fit": lambda model, X: clone(model).partial_fit(X),
    "transform": lambda model, X: model.transform(X),
    "inverse_transform": lambda model, X: model.inverse_transform(X[:, :4]),
    "score": lambda model, X: model.score(X),
    "score_samples": lambda model, X: model.score_samples(X),
    "sample": lambda model, X: model.sample(3, random_state=0),
    "get_feature_names_out": lambda model, X: model.get_feature_names_out(),
    "pickle": lambda model, X: pickle.loads(pickle.dumps(model)).transform(X),
    "repr": lambda model, X: (repr(model), model._repr_html_()),
}


@pytest.mark.parametrize("method", METHODS)
def test_ambient_state_is_untouched(fitted, blobs, method):
    """No method draws from a global generator or leaves a global setting changed."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        unusual = torch.autocast("cpu", dtype=torch.float16)
        for mode in (contextlib.nullcontext(), torch.no_grad(), torch.inference_mode(), unusual):
            with mode:
                before = ambient_state()
                METHODS[method](fitted, blobs)
                assert ambient_state() == before
    finally:
        torch.set_num_threads(threads)


AMBIENT = {
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "meta by default": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "one thread": lambda: num_threads(1),
    "two threads": lambda: num_threads(2),
    "strict NumPy": lambda: np.errstate(all="raise"),
}


OWN = {"encoder": torch.nn.Linear, "decoder": torch.nn.Linear}


@pytest.fixture(scope="module")
def expected(blobs):
    """Return what each kind gives in no special state, by class and by whether networks are own."""
    return {
        (type(model), own): outputs_after_parts(clone(model).set_params(**networks), blobs)
        for model in MODELS.values()
        for own, networks in ((False, {}), (True, OWN))
    }


def outputs_after_parts(model, X):
    """Return all results of a fit that has gone on with the same rows."""
    return outputs(model.fit(X).partial_fit(X), X)


@pytest.mark.parametrize("own", [False, True], ids=["", "own network"])
@pytest.mark.parametrize("ambient", AMBIENT)
def test_results_do_not_depend_on_ambient_state(model, blobs, expected, ambient, own):
    """Whatever torch is set to around them, fit and all methods give the same bits."""
    model.set_params(**(OWN if own else {}))
    with AMBIENT[ambient]():
        got = outputs_after_parts(model, blobs)
    assert_same(got, expected[type(model), own])


VARIANTS = [
    AutoencoderTransformer(3, ordered=True, dropout=0.1),
    AutoencoderTransformer(3, code_activation="logistic", penalty=["kl_sparsity", "l1"]),
    AutoencoderTransformer(3, loss="huber", corruption="swap", code_activation=TopK(2)),
    VAETransformer(3, likelihood=Laplace("per_feature"), free_bits=0.1),
    VQVAETransformer(4, quantizer="residual", codebook_size=8, codebook_update="gradient"),
    VQVAETransformer(4, quantizer="finite_scalar", codebook_size=16),
]


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
@pytest.mark.parametrize("ambient", ["float64 by default", "meta by default", "inference mode"])
def test_no_variant_depends_on_ambient_state(variant, blobs, ambient):
    """Each makes its tensors where and as the fit needs them."""
    model = clone(variant).set_params(max_iter=2, random_state=0, early_stopping=False)
    expected = clone(model).fit(blobs).transform(blobs)
    with AMBIENT[ambient]():
        assert np.array_equal(clone(model).fit(blobs).transform(blobs), expected)
