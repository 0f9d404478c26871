"""Tests of recipes: slots are resolved once, and what does not go together is refused at once."""

import numpy as np
import pytest
import torch

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.objectives import (
    ACAI,
    L1,
    L2,
    Bernoulli,
    CosineDecay,
    Gaussian,
    GaussianNoise,
    Huber,
    KLDivergence,
    KLSparsity,
    Laplace,
    LinearWarmup,
    MaskingNoise,
    NegativeBinomial,
    Poisson,
    SquaredError,
    SwapNoise,
    TopK,
)
from skae.priors import AutoregressivePrior, IndependentPrior
from skae.quantization import FiniteScalarQuantization, VectorQuantization


class Untouched:
    """Rows that nobody may look at."""

    def __getattribute__(self, name):
        if name == "__class__":
            return object.__getattribute__(self, name)
        raise AssertionError(f"{name} of X was asked for before the parameters were checked")


WRONG = [
    (AutoencoderTransformer, dict(loss=Huber(-1.0)), "delta"),
    (AutoencoderTransformer, dict(loss=SquaredError(-1.0)), "weight"),
    (AutoencoderTransformer, dict(loss=SquaredError("1")), "weight"),
    (AutoencoderTransformer, dict(loss=Gaussian()), "Loss that learns nothing"),
    (AutoencoderTransformer, dict(penalty=L1(-0.1)), "weight"),
    (AutoencoderTransformer, dict(penalty=L1(CosineDecay(start="a"))), "'start' parameter"),
    (AutoencoderTransformer, dict(penalty=KLDivergence()), "not a penalty on the codes"),
    (AutoencoderTransformer, dict(penalty=["l1", 3]), "Got 3 in it"),
    (
        AutoencoderTransformer,
        dict(penalty="kl_sparsity", code_activation="identity"),
        r"codes in \(0, 1\)",
    ),
    (
        AutoencoderTransformer,
        dict(penalty=KLSparsity(1.5), code_activation="logistic"),
        "'target' parameter",
    ),
    (AutoencoderTransformer, dict(penalty="acai", loss="bernoulli"), "units of X"),
    (AutoencoderTransformer, dict(penalty=ACAI(gamma=2.0)), "'gamma' parameter"),
    (AutoencoderTransformer, dict(code_activation=TopK(0)), "'n_active' parameter"),
    (AutoencoderTransformer, dict(corruption=MaskingNoise(2.0)), "'fraction' parameter"),
    (AutoencoderTransformer, dict(corruption=GaussianNoise(-1)), "'std' parameter"),
    (AutoencoderTransformer, dict(corruption=SwapNoise("all")), "'fraction' parameter"),
    (AutoencoderTransformer, dict(tied_weights=True, encoder=torch.nn.Linear), "tied_weights"),
    (AutoencoderTransformer, dict(pretraining="greedy"), "pretraining='greedy'"),
    (
        AutoencoderTransformer,
        dict(pretraining="greedy", init="random", hidden_layer_sizes=()),
        "pretraining='greedy'",
    ),
    (
        AutoencoderTransformer,
        dict(pretraining="greedy", init="random", decoder=torch.nn.Linear),
        "pretraining='greedy'",
    ),
    (AutoencoderTransformer, dict(learning_rate=CosineDecay(start=-1.0)), "schedule must return"),
    (AutoencoderTransformer, dict(dropout=LinearWarmup(start=1.5)), "schedule must return"),
    (AutoencoderTransformer, dict(weight_decay=LinearWarmup(end=-1.0)), "schedule must return"),
    (AutoencoderTransformer, dict(penalty=L2(LinearWarmup(end=-5.0))), "schedule must return"),
    (
        AutoencoderTransformer,
        dict(n_init=2, penalty="kl_sparsity", code_activation="soft_threshold"),
        r"codes in \(0, 1\)",
    ),
    (VAETransformer, dict(beta=LinearWarmup(end=-1.0)), "schedule must return"),
    (VQVAETransformer, dict(quantizer=FiniteScalarQuantization((1,))), "levels"),
    (VQVAETransformer, dict(quantizer=FiniteScalarQuantization(())), "levels"),
    (VQVAETransformer, dict(quantizer=FiniteScalarQuantization("few")), "levels"),
    (VQVAETransformer, dict(quantizer="finite_scalar", codebook_size=1), "codebook_size=1"),
    (VQVAETransformer, dict(quantizer=VectorQuantization(n_stages=0)), "n_stages"),
    (AutoencoderTransformer, dict(device="cuda:99"), "device='cuda:99'"),
    (VAETransformer, dict(likelihood=Bernoulli(0.5)), "another weight than 1"),
    (VAETransformer, dict(likelihood=Gaussian(-1.0)), "'noise_variance' parameter"),
    (VAETransformer, dict(likelihood=Laplace("all")), "'scale' parameter"),
    (VAETransformer, dict(likelihood=NegativeBinomial(0.0)), "'dispersion' parameter"),
    (VAETransformer, dict(likelihood=Poisson(2.0)), "another weight than 1"),
    (VAETransformer, dict(n_importance_samples=3, beta=2.0), "n_importance_samples=3"),
    (VAETransformer, dict(n_importance_samples=3, free_bits=0.1), "n_importance_samples=3"),
    (VQVAETransformer, dict(n_components=8, n_codes=3), "n_codes=3 does not divide"),
    (
        VQVAETransformer,
        dict(n_components=8, n_codes=2, quantizer=FiniteScalarQuantization((8, 5))),
        "levels",
    ),
    (
        VQVAETransformer,
        dict(n_components=8, n_codes=1, codebook_size=9, quantizer="finite_scalar"),
        "too small for two levels",
    ),
    (VQVAETransformer, dict(n_components=8, quantizer=VectorQuantization(0)), "n_stages"),
    (VQVAETransformer, dict(n_components=8, quantizer=VectorQuantization(1, 3)), "shared"),
    (VQVAETransformer, dict(loss=Huber(0)), "delta"),
    (VQVAETransformer, dict(prior=AutoregressivePrior(learning_rate=-1)), "learning_rate"),
    (VQVAETransformer, dict(prior=IndependentPrior(0)), "codebook_size"),
]


@pytest.mark.parametrize(
    ("kind", "settings", "message"), WRONG, ids=lambda value: str(value).split(" at 0x")[0]
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_what_does_not_go_together_is_refused_before_rows_are_touched(
    kind, settings, message, method
):
    """The message names what is wrong, and X has not been looked at."""
    with pytest.raises(ValueError, match=message):
        getattr(kind(**settings), method)(Untouched())


def test_validation_rows_without_early_stopping_are_refused_at_once():
    """They would not be used."""
    for n_init in (1, 2):
        model = AutoencoderTransformer(n_init=n_init, early_stopping=False)
        with pytest.raises(ValueError, match="X_val is given"):
            model.fit(Untouched(), X_val=np.zeros((3, 2)))


def test_valid_parameters_look_at_rows():
    """The rows above would be noticed."""
    with pytest.raises(AssertionError, match="before the parameters"):
        AutoencoderTransformer().fit(Untouched())


def test_slots_are_resolved_once(blobs, monkeypatch):
    """The recipe is made once per fit, and belongs to the fit."""
    made, make = [], AutoencoderTransformer._make_recipe

    def counted(self):
        made.append(1)
        return make(self)

    monkeypatch.setattr(AutoencoderTransformer, "_make_recipe", counted)
    model = AutoencoderTransformer(2, loss="huber", penalty="l1", max_iter=1, random_state=0)
    model.set_params(early_stopping=False).fit(blobs)
    assert made == [1]
    assert not hasattr(model, "_recipe")
