"""How likely rows are under a VAE: the evidence lower bound; log p(x) by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from .._runtime.random import normal
from ..modules import VAE, VAEOutput
from ..objectives import ImportanceWeightedBound, KLDivergence, Term

# Draws decoded at once for each row of a block.
_DRAWS_AT_ONCE = 8


def lower_bounds(core: VAE, x: Tensor, likelihood: Term, points: Tensor) -> Tensor:
    """Return the evidence lower bound of rows x in scaled units, in nats, shape (batch,).

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
        many = _with_draws(core, out, draws)
        total -= likelihood(x.repeat(len(some), 1), many).view(len(some), -1).sum(0)
    return total / len(points) - KLDivergence()(x, out)


def importance_weighted(
    core: VAE, x: Tensor, likelihood: Term, n_draws: int, generator: Generator
) -> Tensor:
    """Return estimates of log p(x) of rows x in scaled units, in nats, shape (batch,).

    These are the importance-weighted bound with `n_draws` draws for each row ([1]_, equation 8):
    on average a lower bound, that tightens with their number.

    Parameters
    ----------
    core : VAE
        The network.
    x : torch.Tensor of shape (batch, n_features)
        Rows.
    likelihood : Term
        Minus log p(x|z) per row.
    n_draws : int
        Number of draws.
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
        bound = -ImportanceWeightedBound(likelihood)(x, _with_draws(core, out, draws))
        total = torch.logaddexp(total, bound + math.log(shape[0]))
    return total - math.log(n_draws)


def _posterior(core: VAE, x: Tensor) -> VAEOutput:
    mean, log_variance = core.posterior(x)
    return VAEOutput(x, mean, mean, log_variance, core.dispersion, mean.new_zeros(1, *mean.shape))


def _with_draws(core: VAE, out: VAEOutput, draws: Tensor) -> VAEOutput:
    """Return the output for standardised draws, shape (n_draws, batch, n_components)."""
    z = (out.mean + (0.5 * out.log_variance).exp() * draws).flatten(0, 1)
    return out._replace(x_hat=core.decode(z), z=z, draws=draws)


def with_prior(likelihood: Any, log_ratio: Callable[[Tensor], Tensor], x: Tensor, out: Any) -> Any:
    """Return minus log p(x|z) p(z) / N(z; 0, I) per row: bounds that know N(0, I) then have p(z).

    What they subtract is the divergence from N(0, I), or its density, whose logarithm cancels.
    """
    return likelihood(x, out) - log_ratio(out.z)
