"""Tests of the variational network."""

import pytest
import torch

from skae.modules import MLP, VAE
from skae.objectives import Gaussian


@pytest.fixture
def core():
    """Return a small core whose posterior variances differ."""
    core = VAE(MLP(5, 4, [8]), MLP(2, 5, [8]), Gaussian(), n_components=2, decay=0.75)
    with torch.no_grad():
        core.encoder.layers[-1].bias.copy_(torch.tensor([0.0, 0.0, -1.0, 2.0]))
    return core


def test_draws_have_the_posterior_mean_and_variance(core):
    """Over many draws z has the mean and variance that the encoder states."""
    x = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    noise = core.draw_noise(200_000, torch.Generator().manual_seed(1))
    out = core(x.expand(200_000, 5), noise)

    torch.testing.assert_close(out.z.mean(0), out.mean[0], rtol=0, atol=0.02)
    torch.testing.assert_close(out.z.var(0), out.log_variance[0].exp(), rtol=0.02, atol=0)


def test_without_noise_the_code_is_the_mean(core):
    """Encoding is deterministic and equals the posterior mean."""
    x = torch.ones(3, 5)

    assert torch.equal(core(x).z, core.encode(x))
    assert torch.equal(core(x).z, core(x).mean)


def test_noise_variance_follows_the_mean_squared_error_of_the_whole_batch(core):
    """One update moves it to .75 * 1 + .25 * error, whatever the slices."""
    x = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    noise = core.draw_noise(10, torch.Generator().manual_seed(1))
    error = float((x - core(x, noise).x_hat).square().mean().detach())
    for rows in (slice(0, 3), slice(3, 10)):
        some = {name: drawn[rows] for name, drawn in noise.items()}
        core.observe(x[rows], core(x[rows], some))
    core.update()

    assert float(core.dispersion) == pytest.approx(0.75 + 0.25 * error, rel=1e-6)


def test_noise_variance_stays_positive():
    """Perfect reconstructions leave the floor, not zero."""
    core = VAE(MLP(2, 4, []), MLP(2, 2, []), Gaussian(), n_components=2, decay=0.0)
    core.start_dispersion(1.0, least=1e-3)
    x = torch.zeros(4, 2)
    core.observe(x, core(x))
    core.update()

    assert float(core.dispersion) == pytest.approx(1e-3)
