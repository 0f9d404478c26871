"""Tests of the divergence from the prior."""

from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from skae.objectives import KLDivergence


@pytest.fixture
def posterior():
    """Return posteriors of 50 rows with a code that tells much and one that tells little."""
    draws = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = draws[:, :2] * torch.tensor([2.0, 0.1])
    log_variance = -0.1 * draws[:, 2:].abs() * torch.tensor([20.0, 1.0])
    return mean.requires_grad_(), log_variance.requires_grad_()


def divergence(posterior, **parameters):
    """Return the term for posteriors given as means and log-variances."""
    mean, log_variance = posterior
    return KLDivergence(**parameters)(mean, SimpleNamespace(mean=mean, log_variance=log_variance))


def test_it_is_torch_s(posterior):
    """Per row it is the sum over codes of what torch.distributions has."""
    mean, log_variance = posterior
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1)

    torch.testing.assert_close(divergence(posterior), expected, check_dtype=False)


def test_free_bits_replace_small_mean_divergences(posterior):
    """The code that tells little counts as the free nats, without a gradient; the other stays."""
    mean, log_variance = posterior
    full = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    assert full.mean(0)[1] < 0.3 < full.mean(0)[0]
    value = divergence(posterior, free_bits=0.3)
    value.sum().backward()

    torch.testing.assert_close(value, full[:, 0] + 0.3, check_dtype=False)
    for parameter in posterior:
        assert (parameter.grad[:, 0] != 0).all()
        assert (parameter.grad[:, 1] == 0).all()


def test_free_bits_are_checked(posterior):
    """A negative number is refused."""
    with pytest.raises(ValueError, match=r"'free_bits' .* KLDivergence .* \[0, inf\)"):
        divergence(posterior, free_bits=-1.0)
