"""Tests of the penalties against NumPy, SciPy and torch's full Jacobians."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from torch import nn
from torch.autograd.functional import jacobian

from skae.objectives import L1, L2, Contractive, KLSparsity, Objective, SquaredError


def codes(z):
    """Return an output with the codes `z`."""
    return SimpleNamespace(x_hat=None, z=torch.as_tensor(z), x_in=None)


def encode(encoder, n_rows=6, n_features=5, seed=0):
    """Return rows and an output as a core makes them that was asked for input gradients."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, n_features, generator=generator, dtype=torch.float64)
    x_in = x.clone().requires_grad_()
    return x, SimpleNamespace(x_hat=x, z=encoder(x_in), x_in=x_in)


@pytest.fixture
def encoder():
    """Return a smooth network of two layers with random weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def test_l1_and_l2_are_norms_of_the_codes():
    """They are the sum of absolute values and the squared length of each row's code."""
    z = np.random.default_rng(0).normal(size=(6, 3))

    np.testing.assert_allclose(L1()(None, codes(z)), np.linalg.norm(z, ord=1, axis=1))
    np.testing.assert_allclose(L2()(None, codes(z)), np.linalg.norm(z, axis=1) ** 2)


def test_sparsity_is_the_divergence_of_the_mean_activations():
    """It equals SciPy's relative entropy of two-valued distributions, the same for each row."""
    z = np.random.default_rng(0).uniform(size=(6, 3))
    expected = sum(stats.entropy([0.2, 0.8], [mean, 1 - mean]) for mean in z.mean(0))

    divergence = KLSparsity(target=0.2)(torch.zeros(6, 5), codes(z))
    np.testing.assert_allclose(divergence, np.full(6, expected))


def test_sparsity_is_zero_at_the_target_and_positive_beside_it():
    """It is a divergence: nothing to gain below or above."""
    z = torch.tensor([[0.02], [0.08]], dtype=torch.float64)
    below, at, above = (
        KLSparsity(target=0.05)(z, codes(z + shift))[0] for shift in (-0.01, 0, 0.01)
    )

    assert at == pytest.approx(0, abs=1e-12)
    assert min(below, above) > 1e-4


@pytest.mark.parametrize("activation", [0.0, 1.0])
def test_sparsity_is_finite_for_saturated_codes(activation):
    """Sigmoids that round to 0 or 1 in every row do not end the training."""
    z = torch.full((4, 2), activation)

    assert KLSparsity()(z, codes(z)).isfinite().all()


def test_sparsity_s_target_is_checked():
    """A target on the border has no finite divergence."""
    z = torch.full((4, 2), 0.5)
    with pytest.raises(
        ValueError, match=r"'target' .* KLSparsity must be .* \(0, 1\)\. Got 1 inst"
    ):
        KLSparsity(target=1)(z, codes(z))


def test_contractive_is_the_norm_of_the_full_jacobian(encoder):
    """Its rows are the squared norms of Jacobians that torch computes row by row."""
    x, out = encode(encoder)
    expected = torch.stack([jacobian(encoder, row).square().sum() for row in x])

    torch.testing.assert_close(Contractive()(x, out).detach(), expected)


def test_contractive_has_rifai_s_closed_form():
    """For one logistic layer it is the sum of (h (1 - h))^2 times the squared weights."""
    torch.manual_seed(1)
    layer = nn.Linear(5, 4).double()
    x, out = encode(lambda x: layer(x).sigmoid())
    expected = (out.z * (1 - out.z)).square() @ layer.weight.square().sum(1)

    torch.testing.assert_close(Contractive()(x, out), expected)


def test_contractive_differentiates_to_the_weights(encoder):
    """The gradient that training follows is that of the penalty, here by finite differences."""
    weight = encoder[0].weight

    def penalty():
        return Contractive()(*encode(encoder)).sum()

    (gradient,) = torch.autograd.grad(penalty(), weight)
    with torch.no_grad():
        weight[0, 0] += 1e-6
    above = penalty().item()
    with torch.no_grad():
        weight[0, 0] -= 2e-6
    below = penalty().item()

    assert gradient[0, 0].item() == pytest.approx((above - below) / 2e-6, rel=1e-5)


def test_contractive_reads_what_the_encoder_was_given(encoder):
    """Where the input is corrupted, the Jacobian is the one at the corrupted rows."""
    x, out = encode(encoder)

    assert torch.equal(Contractive()(x + 1, out), Contractive()(x, out))


def test_terms_say_what_they_need():
    """The training step can ask an objective, and an estimator a term, without evaluating it."""
    assert Objective(SquaredError(), Contractive()).needs_input_gradient
    assert not Objective(SquaredError(), KLSparsity()).needs_input_gradient
    assert [term.needs_unit_codes for term in (KLSparsity, Contractive, L1)] == [True, False, False]


@pytest.mark.parametrize("penalty", [L1(), L2(), KLSparsity(), Contractive()])
def test_penalties_are_estimators(penalty):
    """A penalty's weight is a parameter that clone, set_params and repr know."""
    heavier = clone(penalty).set_params(weight=7.0)

    assert heavier.get_params() == penalty.get_params() | {"weight": 7.0}
    assert repr(heavier) == f"{type(penalty).__name__}(weight=7.0)"
