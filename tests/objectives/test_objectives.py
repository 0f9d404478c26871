"""Tests of the objective's terms against torch.distributions and NumPy."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.distributions import Normal, kl_divergence

from skae.modules import AutoencoderOutput, VAEOutput, VQVAEOutput
from skae.objectives import Commitment, Gaussian, KLDivergence, Objective, SquaredError


def draws(*shape, seed=0):
    """Return float64 normals."""
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


@pytest.fixture
def x():
    """Return rows."""
    return draws(6, 4)


@pytest.fixture
def vae_output():
    """Return what a VAE might."""
    return VAEOutput(
        draws(6, 4, seed=1),
        draws(6, 2, seed=2),
        draws(6, 2, seed=3),
        draws(6, 2, seed=4),
        torch.tensor(0.3, dtype=torch.float64),
        draws(1, 6, 2, seed=5),
    )


def test_squared_error_is_summed_over_features(x):
    """The term is the squared distance of each row."""
    out = AutoencoderOutput(draws(6, 4, seed=1), draws(6, 2), draws(6, 4))

    torch.testing.assert_close(SquaredError()(x, out), torch.linalg.norm(x - out.x_hat, dim=1) ** 2)


def test_gaussian_term_is_minus_the_log_density(x, vae_output):
    """It equals the sum of torch's own normal log-densities, constants included."""
    expected = -Normal(vae_output.x_hat, 0.3**0.5).log_prob(x).sum(1)

    torch.testing.assert_close(Gaussian()(x, vae_output), expected)


def test_divergence_is_torch_s(x, vae_output):
    """It equals torch's closed form, summed over components."""
    posterior = Normal(vae_output.mean, (0.5 * vae_output.log_variance).exp())
    expected = kl_divergence(posterior, Normal(torch.zeros(()), torch.ones(()))).sum(1)

    torch.testing.assert_close(KLDivergence()(x, vae_output), expected)


def test_commitment_moves_the_encoder_and_not_the_codes(x):
    """Its gradient reaches z_e alone and points away from the code."""
    z, z_e = draws(6, 2, seed=1).requires_grad_(), draws(6, 2, seed=2).requires_grad_()
    Commitment()(x, VQVAEOutput(x, z, z_e, None, z[:, None])).sum().backward()

    assert z.grad is None
    torch.testing.assert_close(z_e.grad, 2 * (z_e - z).detach())


def test_commitment_adds_up_over_stages(x):
    """It is the sum of squared distances to what the codes stand for after each stage."""
    z_e, stages = draws(6, 2, seed=1), draws(6, 3, 2, seed=2)
    out = VQVAEOutput(x, stages[:, -1], z_e, None, stages)
    expected = sum(((z_e - stages[:, i]) ** 2).sum(1) for i in range(3))

    torch.testing.assert_close(Commitment()(x, out), expected)


def test_objective_is_the_weighted_sum(x, vae_output):
    """Weights multiply the terms; each row keeps its own value."""
    likelihood, divergence = Gaussian(), KLDivergence(4.0)
    total = Objective(likelihood, divergence)(x, vae_output)

    torch.testing.assert_close(total, likelihood(x, vae_output) + 4 * divergence(x, vae_output))


def test_terms_are_estimators():
    """A term's weight is a parameter that clone and set_params know."""
    term = clone(Commitment(0.5)).set_params(weight=2.0)

    assert term.get_params() == {"weight": 2.0}
