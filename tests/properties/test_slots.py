"""Random combinations of slots and parameters: refused before rows are read, or a valid fit."""

import numpy as np
import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.mixture import GaussianMixture

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae import objectives as terms
from skae.priors import AutoregressivePrior, IndependentPrior
from skae.quantization import FiniteScalarQuantization, VectorQuantization

from .estimators import assert_finite, expected_warnings, results

# Ones and zeros are in the support of every loss.
X = (np.random.default_rng(0).random((40, 6)) < [0.2, 0.4, 0.5, 0.5, 0.6, 0.8]).astype(float)


class Read(Exception):
    """Somebody has looked at the rows."""


class Unreadable:
    """Rows that say when somebody looks at them."""

    def __getattribute__(self, name):
        if name == "__class__":
            return object.__getattribute__(self, name)
        raise Read(name)


SCHEDULES = st.builds(terms.LinearWarmup, end=st.sampled_from([0.5, 1.0, -1.0]))
WEIGHTS = st.sampled_from([0.0, 0.5, 1.0, -1.0]) | SCHEDULES
SHARED = {
    "hidden_layer_sizes": st.sampled_from(["auto", (), (5,), (4, 3), (0,), 7]),
    "activation": st.sampled_from(["relu", "gelu", "identity", "step"]),
    "encoder": st.sampled_from([None, None, torch.nn.Linear]),
    "decoder": st.sampled_from([None, None, torch.nn.Linear]),
    "init": st.sampled_from(["pca", "random", "zeros"]),
    "scale": st.sampled_from(["global", "standard", None]),
    "batch_size": st.sampled_from(["auto", 1, 7, 100, 0]),
    "max_iter": st.sampled_from([0, 1, 2]),
    "learning_rate": st.sampled_from([1e-3, 0.0]) | st.builds(terms.CosineDecay),
    "dropout": st.sampled_from([0.0, 0.5, 1.0]) | SCHEDULES,
    "weight_decay": st.sampled_from([0.0, 0.1, -0.1]) | SCHEDULES,
    "max_grad_norm": st.sampled_from([None, 1.0, 0.0]),
    "early_stopping": st.sampled_from(["auto", True, False]),
    "precision": st.sampled_from(["float32", "float32", "bfloat16"]),
}
LOSSES = st.sampled_from(["squared_error", "absolute_error", "huber", "bernoulli", "poisson"])
LOSSES |= st.builds(terms.SquaredError, WEIGHTS) | st.builds(terms.Huber, st.floats(-1, 2))
PENALTIES = st.sampled_from([None, "l1", "l2", "kl_sparsity", "contractive", "acai", "l0"])
PENALTIES |= st.builds(terms.L1, WEIGHTS) | st.just(terms.KLDivergence())
LIKELIHOODS = st.sampled_from(["gaussian", "laplace", "bernoulli", "poisson", "negative_binomial"])
LIKELIHOODS |= st.builds(terms.Gaussian, st.sampled_from(["per_feature", 0.5, -1.0]))
OWN = {
    AutoencoderTransformer: {
        "n_components": st.sampled_from([None, 1, 2, 6, 7, 0.5, 1.5]),
        "tied_weights": st.booleans(),
        "loss": LOSSES | st.just(terms.Gaussian()),
        "corruption": st.sampled_from([None, "gaussian", "masking", "salt_and_pepper", "swap"])
        | st.builds(terms.MaskingNoise, st.sampled_from([0.3, 2.0])),
        "code_activation": st.sampled_from(["identity", "logistic"])
        | st.builds(terms.TopK, st.integers(0, 8)),
        "penalty": PENALTIES | st.lists(PENALTIES, max_size=2),
        "pretraining": st.sampled_from([None, "greedy"]),
        "ordered": st.booleans(),
        "whiten": st.booleans(),
        "latent_density": st.sampled_from(["auto", "gaussian", GaussianMixture(2), "mixture"]),
    },
    VAETransformer: {
        "n_components": st.sampled_from([None, 1, 2, 6, 7, 0.5]),
        "beta": WEIGHTS,
        "free_bits": st.sampled_from([0.0, 0.1, -0.1]),
        "likelihood": LIKELIHOODS,
        "n_importance_samples": st.sampled_from([1, 3, 0]),
        "prior": st.sampled_from(["auto", "normal", "mixture", GaussianMixture(2), "gaussian"]),
    },
    VQVAETransformer: {
        "n_codes": st.sampled_from(["auto", 1, 2, 4]),
        "codebook_size": st.sampled_from(["auto", 1, 4, 64]),
        "codebook_update": st.sampled_from(["ema", "gradient"]),
        "decay": st.sampled_from([0.0, 0.9, 1.0]),
        "commitment_weight": st.sampled_from([0.0, 0.25]),
        "dead_code_threshold": st.sampled_from([0.0, 0.5]),
        "quantizer": st.sampled_from(["vector", "residual", "finite_scalar"])
        | st.builds(FiniteScalarQuantization, st.sampled_from([(3,), (3, 4), (1,)]))
        | st.builds(VectorQuantization, n_stages=st.integers(0, 2), shared=st.booleans()),
        "encode": st.sampled_from(["vectors", "codes", "onehot"]),
        "loss": LOSSES,
        "prior": st.sampled_from(["independent", "uniform", "bits"])
        | st.just(IndependentPrior())
        | st.builds(AutoregressivePrior, max_iter=st.just(1)),
    },
}


@st.composite
def models(draw):
    """Return a strategy of estimators some of whose parameters are set, not all of them rightly."""
    kind = draw(st.sampled_from(list(OWN)))
    settings = SHARED | OWN[kind]
    chosen = draw(st.lists(st.sampled_from(sorted(settings)), max_size=6, unique=True))
    drawn = {name: draw(settings[name]) for name in chosen}
    if kind is VQVAETransformer:  # where it is None, what divides it depends on the rows
        drawn["n_components"] = draw(st.sampled_from([1, 2, 6, 7, 0.5]))
    return kind(**{"max_iter": 1, "hidden_layer_sizes": (4,), "random_state": 0} | drawn)


@given(model=models(), streamed=st.booleans())
def test_combinations_are_refused_at_once_or_fit(model, streamed):
    """A combination whose error does not concern rows never waits for them; others give a model."""
    learn = model.partial_fit if streamed else model.fit
    with expected_warnings():
        with pytest.raises((Read, ValueError), match=r".") as caught:
            learn(Unreadable())
        event(caught.type.__name__)
        if caught.type is not Read:
            return
        if (model.n_components or 0) > X.shape[1]:
            return  # what only the rows' width rules out
        learn(X)
        found = results(model, X)
        assert_finite(found | {"transform": as_dense(found["transform"])})
        again = clone(model).fit(X) if not streamed else clone(model).partial_fit(X)
    np.testing.assert_array_equal(as_dense(again.transform(X)), as_dense(model.transform(X)))
    if isinstance(model, AutoencoderTransformer) and not streamed:
        ratio, variance = model.explained_variance_ratio_, model.explained_variance_
        assert (ratio >= 0).all()
        assert ratio.sum() == pytest.approx(max(model.score(X), 0), abs=1e-6)
        np.testing.assert_allclose(ratio * variance.sum(), variance * ratio.sum(), atol=1e-9)


def as_dense(codes):
    """Return codes as an array."""
    return codes.toarray() if hasattr(codes, "toarray") else codes
