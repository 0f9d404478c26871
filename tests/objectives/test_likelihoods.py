"""Tests of likelihoods against SciPy's distributions."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone

from skae.objectives import Bernoulli, Gaussian, Laplace, Likelihood, NegativeBinomial, Poisson

ALL = [Gaussian(), Laplace(), Bernoulli(), Poisson(), NegativeBinomial()]
BY_FEATURE = np.array([0.3, 1.0, 2.5])


@pytest.fixture
def rng():
    """Return a generator."""
    return np.random.default_rng(0)


def tensor(array):
    """Return a float64 tensor."""
    return torch.tensor(np.asarray(array, dtype=np.float64))


def distribution(likelihood, output, dispersion):
    """Return SciPy's distribution of each entry of a row."""
    if isinstance(likelihood, Gaussian):
        return stats.norm(output, np.sqrt(dispersion))
    if isinstance(likelihood, Laplace):
        return stats.laplace(output, dispersion)
    if isinstance(likelihood, Bernoulli):
        return stats.bernoulli(1 / (1 + np.exp(-output)))
    if isinstance(likelihood, Poisson):
        return stats.poisson(np.exp(output))
    r = 1 / np.broadcast_to(dispersion, output.shape)
    return stats.nbinom(r, r / (r + np.exp(output)))


@pytest.mark.parametrize("dispersion", [0.7, BY_FEATURE], ids=["shared", "per_feature"])
@pytest.mark.parametrize("likelihood", ALL, ids=repr)
def test_log_probabilities_are_scipy_s(likelihood, dispersion, rng):
    """Summed over features, for a dispersion of all or of each."""
    output = rng.normal(size=(50, 3))
    law = distribution(likelihood, output, dispersion)
    x = law.rvs(random_state=0).astype(float)
    expected = (law.logpmf if likelihood.discrete else law.logpdf)(x).sum(1)
    found = likelihood.log_prob(tensor(x), tensor(output), tensor(dispersion))

    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("dispersion", [0.7, BY_FEATURE], ids=["shared", "per_feature"])
@pytest.mark.parametrize("likelihood", ALL, ids=repr)
def test_draws_follow_the_distribution(likelihood, dispersion, rng):
    """Mean, variance and quantiles of many draws are SciPy's."""
    output = np.array([[-0.5, 0.3, 1.2]])
    law = distribution(likelihood, output, dispersion)
    mean = likelihood.mean(tensor(output)).numpy().repeat(100_000, 0)
    draws = likelihood.sample(mean, np.asarray(dispersion), rng)

    assert draws.shape == mean.shape
    assert draws.dtype == np.float64
    spread = np.sqrt(law.var())[0]
    np.testing.assert_allclose(mean[0], law.mean()[0], rtol=1e-12)
    assert (np.abs(draws.mean(0) - law.mean()[0]) < 5 * spread / 100_000**0.5).all()
    np.testing.assert_allclose(draws.std(0), spread, rtol=0.03)
    for at in (0, 1, 2):
        share = (draws <= at).mean(0)
        np.testing.assert_allclose(share, law.cdf(at)[0], atol=0.01)


@pytest.mark.parametrize("likelihood", [Gaussian(), Laplace()], ids=repr)
def test_the_residual_s_mean_is_the_best_dispersion(likelihood, rng):
    """No other dispersion gives the rows a larger likelihood, per feature."""
    x, output = tensor(rng.normal(size=(200, 3))), tensor(rng.normal(size=(200, 3)))
    best = likelihood.residual(x, output).mean(0)
    for factor in (0.99, 1.01):
        other = likelihood.log_prob(x, output, factor * best).sum()
        assert other < likelihood.log_prob(x, output, best).sum()


@pytest.mark.parametrize("likelihood", [Gaussian(), Laplace()], ids=repr)
def test_variance_and_dispersion_are_inverse(likelihood):
    """And the variance is SciPy's."""
    dispersion = likelihood.dispersion_for(BY_FEATURE, 0.0)
    np.testing.assert_allclose(likelihood.variance_at(dispersion), BY_FEATURE)
    law = distribution(likelihood, np.zeros(3), dispersion)
    np.testing.assert_allclose(law.var(), BY_FEATURE)


def test_counts_get_the_dispersion_of_their_moments():
    """The variance is mean + dispersion * mean ** 2."""
    mean, dispersion = np.array([0.5, 4.0, 100.0]), BY_FEATURE
    found = NegativeBinomial().dispersion_for(mean + dispersion * mean**2, mean)
    np.testing.assert_allclose(found, dispersion)
    assert (NegativeBinomial().dispersion_for(0.5 * mean, mean) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_little_dispersed_negative_binomial_is_poisson(dtype):
    """Also in float32, where its gamma functions would cancel."""
    x = torch.arange(40, dtype=dtype)[:, None]
    log_rate = torch.full((40, 1), 2.5, dtype=dtype)
    little = NegativeBinomial().log_prob(x, log_rate, torch.tensor(1e-6, dtype=dtype))
    torch.testing.assert_close(little, Poisson().log_prob(x, log_rate), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("likelihood", ALL[2:], ids=repr)
@pytest.mark.parametrize("output", [-1e4, 1e4])
def test_far_outputs_have_finite_likelihoods_and_gradients(likelihood, output):
    """A decoder that strayed is pulled back, in float32."""
    x, far = torch.tensor([[1.0]]), torch.tensor([[output]], requires_grad=True)
    value = likelihood.log_prob(x, far, torch.tensor(0.5))
    (gradient,) = torch.autograd.grad(value.sum(), far)

    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("likelihood", [Gaussian("both"), Laplace("all"), NegativeBinomial("x")])
def test_words_are_checked(likelihood):
    """Of a dispersion that is learned there are two kinds."""
    with pytest.raises(ValueError, match=r"must be a str among \['per_feature', 'shared'\] or a f"):
        assert likelihood.per_feature


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), True, None])
def test_fixed_dispersions_are_checked(value):
    """They are positive numbers."""
    for kind in (Gaussian, Laplace, NegativeBinomial):
        with pytest.raises(ValueError, match=f"parameter of {kind.__name__} must be a str among"):
            assert kind(value).per_feature


@pytest.mark.parametrize("likelihood", ALL, ids=repr)
def test_likelihoods_are_estimators(likelihood):
    """They clone, and their parameters show in repr and get_params."""
    assert clone(likelihood).get_params() == likelihood.get_params()
    assert "weight" in likelihood.get_params()


class Half(Likelihood):
    """A likelihood that cannot be evaluated."""

    def sample(self, mean, dispersion, rng):
        """Return the mean."""
        return mean


def test_a_likelihood_of_one_s_own_needs_two_methods():
    """Without them it is not one."""
    with pytest.raises(TypeError, match=r"abstract method '?log_prob'?"):
        Half()


@pytest.mark.parametrize("likelihood", [Poisson(), NegativeBinomial()])
def test_counts_are_drawn_for_any_rate(likelihood):
    """Rates below zero by rounding, and those that NumPy refuses to draw from."""
    rates = np.array([[-5e-324, 0.0, 3.0, 1e9, 1e20]] * 50)
    drawn = likelihood.sample(rates, np.asarray(1e-6), np.random.default_rng(0))
    assert not drawn[:, :2].any()
    assert np.isfinite(drawn).all()
    np.testing.assert_allclose(drawn[:, 3:].mean(0), [1e9, 1e20], rtol=1e-2)
