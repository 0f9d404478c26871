"""Tests of the variational network."""

from copy import deepcopy

import pytest
import torch

from skae._training.step import Step
from skae.modules import MLP, VAE
from skae.objectives import (
    Gaussian,
    ImportanceWeightedBound,
    KLDivergence,
    NegativeBinomial,
    Objective,
)


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
    for part in (core.encoder, core.decoder):
        torch.nn.init.zeros_(part.linear.bias)
    x = torch.zeros(4, 2)
    core.observe(x, core(x))
    core.update()

    assert float(core.dispersion) == pytest.approx(1e-3)


def gaussian_log_weights(core, x, noise):
    """Return log p(x, z) - log q(z|x) from the three densities, shape (n_draws, batch)."""
    out, normal = core(x, noise), torch.distributions.Normal
    draws = out.z.view(core.n_draws, len(x), -1)
    x_hat = out.x_hat.view(core.n_draws, len(x), -1)
    posterior = normal(out.mean, (0.5 * out.log_variance).exp())
    prior, spread = normal(torch.tensor(0.0), torch.tensor(1.0)), core.dispersion.sqrt()
    terms = normal(x_hat, spread).log_prob(x), prior.log_prob(draws), posterior.log_prob(draws)
    return terms[0].sum(2) + terms[1].sum(2) - terms[2].sum(2)


def test_importance_weights_are_ratios_of_densities(core):
    """The bound is minus the logarithm of their mean."""
    core.n_draws = 4
    x = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    noise = core.draw_noise(10, torch.Generator().manual_seed(1))
    expected = -gaussian_log_weights(core, x, noise).exp().mean(0).log()

    bound = ImportanceWeightedBound(Gaussian())(x, core(x, noise))
    torch.testing.assert_close(bound, expected, rtol=1e-4, atol=1e-4)


def test_dispersion_ascends_the_importance_weighted_bound(core):
    """It moves to the variance that is best for draws weighted as they are in the bound."""
    core.n_draws, core.decay = 4, 0.0
    x = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    noise = core.draw_noise(10, torch.Generator().manual_seed(1))
    with torch.no_grad():
        weights = gaussian_log_weights(core, x, noise).softmax(0).flatten()
        errors = (x.repeat(4, 1) - core(x, noise).x_hat).square().mean(1)
    core.observe(x, core(x, noise))
    core.update()

    expected = float((weights * errors).sum() / 10)
    assert float(core.dispersion) == pytest.approx(expected, rel=1e-5)


def test_each_feature_s_dispersion_follows_its_own_error():
    """With one per feature they are the columns' mean squared errors."""
    parts = MLP(5, 4, [8]), MLP(2, 5, [8]), Gaussian("per_feature")
    core = VAE(*parts, n_components=2, n_dispersions=5, decay=0.0)
    x = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    out = core(x, core.draw_noise(10, torch.Generator().manual_seed(1)))
    core.observe(x, out)
    core.update()

    torch.testing.assert_close(core.dispersion, (x - out.x_hat).square().mean(0))


@pytest.mark.parametrize(
    ("likelihood", "learned"),
    [(NegativeBinomial("shared"), True), (NegativeBinomial(0.5), False), (Gaussian(0.5), False)],
)
def test_dispersions_are_learned_by_gradients_or_stay(likelihood, learned):
    """A fixed one is no weight and is not moved."""
    core = VAE(MLP(2, 4, []), MLP(2, 2, []), likelihood, n_components=2)
    core.start_dispersion(0.5)
    x = torch.ones(4, 2)
    core.observe(x, core(x))
    core.update()

    assert ("log_dispersion" in dict(core.named_parameters())) == learned
    assert float(core.dispersion.detach()) == pytest.approx(0.5)


class LearnedGaussian(Gaussian):
    """A Gaussian whose variance is learned by gradient, and which adds to its gradient."""

    learned_by_gradient = True

    def __init__(self, knows_variance=True, weight=1.0):
        super().__init__(weight=weight)
        self.knows_variance = knows_variance

    def log_prob(self, x, output, dispersion):
        """Return the log-density without its constant."""
        errors = (x - output).square().sum(1)
        return -0.5 * (errors / dispersion + x.shape[1] * dispersion.log())

    def residual(self, x, output):
        """Return nothing: there is a gradient."""

    def variance_at(self, dispersion):
        """Return the variance, or nothing."""
        return dispersion if self.knows_variance else None

    def bind(self, buffers):
        """Return what adds the value and the gradients."""
        x, x_hat, dispersion = buffers.x, buffers.out.x_hat, buffers.out.dispersion
        total = buffers.total()

        def run():
            errors = (x_hat - x).square().sum()
            numbers = x.numel()
            total.add_(0.5 * (errors / dispersion + numbers * dispersion.log()))
            torch.mul(x_hat - x, buffers.factor / dispersion, out=buffers.grad.x_hat)
            gradient = 0.5 * (numbers / dispersion - errors / dispersion**2)
            buffers.grad.dispersion.add_(gradient, alpha=buffers.factor)

        return run


@pytest.mark.parametrize("knows_variance", [True, False])
def test_a_dispersion_learned_by_gradient_is_that_of_autograd(knows_variance):
    """Whether the posterior depends on it, where autograd works, or not, where it is compiled."""
    core = VAE(MLP(4, 4, [5]), MLP(2, 4, [5]), LearnedGaussian(knows_variance), 2).double()
    core.start_dispersion(0.7)
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = []
    for compiled in (None, False):
        own = deepcopy(core)
        objective = Objective(own.likelihood, KLDivergence())
        source = torch.Generator().manual_seed(1)
        step = Step(own, objective, source, learning_rate=0.01, compiled=compiled)
        step.begin_epoch(0.0)
        for _ in range(3):
            with step.mode():
                step(x)
        step.end_epoch()
        weights.append(step.weights.clone())
        assert step.is_compiled == (compiled is None and not knows_variance)
    torch.testing.assert_close(*weights, rtol=1e-10, atol=1e-10)
