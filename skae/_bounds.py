"""How likely rows are under a VAE: the evidence lower bound; log p(x) by importance sampling."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from ._random import normal
from .modules import VAE, VAEOutput
from .objectives import KLDivergence, Term

# Draws decoded at once for each row of a block.
_DRAWS_AT_ONCE = 8


def lower_bounds(core: VAE, x: Tensor, likelihood: Term, points: Tensor) -> Tensor:
    """Return the evidence lower bound of rows x in net units, in nats, shape (batch,).

    Parameters
    ----------
    core : VAE
        The network.
    x : torch.Tensor of shape (batch, n_features)
        Rows.
    likelihood : Term
        Minus log p(x|z) per row.
    points : torch.Tensor of shape (n_points, n_components)
        Standardised draws from the posterior, the same for every row.
    """
    out = _posterior(core, x)
    total = x.new_zeros(len(x))
    for some in points.to(x).split(_DRAWS_AT_ONCE):
        draws = some[:, None].expand(-1, len(x), -1)
        total += _log_likelihoods(core, x, out, likelihood, draws).sum(0)
    return total / len(points) - KLDivergence()(x, out)


def importance_weighted(
    core: VAE, x: Tensor, likelihood: Term, n_draws: int, generator: Generator
) -> Tensor:
    r"""Return estimates of log p(x) of rows x in net units, in nats, shape (batch,).

    .. math:: \log \frac1K \sum_{i=1}^K \frac{p(x|z_i) p(z_i)}{q(z_i|x)}, \quad z_i \sim q(z|x)

    with K draws for each row ([1]_, equation 8): on average a lower bound, that tightens with K.

    Parameters
    ----------
    core : VAE
        The network.
    x : torch.Tensor of shape (batch, n_features)
        Rows.
    likelihood : Term
        Minus log p(x|z) per row.
    n_draws : int
        The number K.
    generator : torch.Generator
        Source of the draws, on the CPU.

    References
    ----------
    .. [1] Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016.
    """
    out = _posterior(core, x)
    total = x.new_full((len(x),), -math.inf)
    for start in range(0, n_draws, _DRAWS_AT_ONCE):
        shape = (min(_DRAWS_AT_ONCE, n_draws - start), *out.mean.shape)
        draws = normal(shape, generator).to(x)
        log_p_x = _log_likelihoods(core, x, out, likelihood, draws)
        log_p_z = -0.5 * _codes(out, draws).square().sum(2)
        log_q_z = -0.5 * (draws.square() + out.log_variance).sum(2)
        total = torch.logaddexp(total, (log_p_x + log_p_z - log_q_z).logsumexp(0))
    return total - math.log(n_draws)


def _posterior(core: VAE, x: Tensor) -> VAEOutput:
    mean, log_variance = core.posterior(x)
    return VAEOutput(x, mean, mean, log_variance, core.noise_variance)


def _codes(out: VAEOutput, draws: Tensor) -> Tensor:
    """Return codes (n_draws, batch, n_components) from standardised draws of the same shape."""
    return out.mean + (0.5 * out.log_variance).exp() * draws


def _log_likelihoods(
    core: VAE, x: Tensor, out: VAEOutput, likelihood: Term, draws: Tensor
) -> Tensor:
    """Return log p(x|z) for each draw and row, shape (n_draws, batch)."""
    many: Any = out._replace(x_hat=core.decode(_codes(out, draws).flatten(0, 1)))
    return -likelihood(x.repeat(len(draws), 1), many).view(len(draws), -1)
