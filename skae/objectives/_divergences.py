"""Divergences: what pulls the VAE's posterior towards its prior (KL, beta, IWAE's bound)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._buffers import Bound, Buffers
from ._checks import check_real
from ._objective import Term
from ._schedules import Schedule


class KLDivergence(Term):
    r"""Kullback-Leibler divergence from a diagonal Gaussian posterior to N(0, I), nats per row.

    :math:`\frac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)` ([1]_, equation 10).

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        The beta of a beta-VAE; at 1 the objective is the negative evidence lower bound.
    free_bits : float, default=0.0
        Nats for each code that cost nothing: of a code whose mean divergence, over the rows that
        are passed through together, is smaller, this is what counts ([2]_, equation 15, with every
        code a group of its own).

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014.
    .. [2] Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, "Improved Variational
       Inference with Inverse Autoregressive Flow", 2016.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import VAEOutput
    >>> from skae.objectives import KLDivergence
    >>> zero, one = torch.zeros(1, 2), torch.ones(1, 2)
    >>> KLDivergence()(zero, VAEOutput(zero, one, one, zero, dispersion=one, draws=one))
    tensor([1.])
    """

    needs_outputs = ("mean", "log_variance")

    def __init__(self, weight: float | Schedule = 1.0, free_bits: float = 0.0) -> None:
        super().__init__(weight)
        self.free_bits = free_bits

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the divergence per row, shape (batch,)."""
        check_real(self, "free_bits", "[0, inf)")
        variance = out.log_variance.exp()
        per_code = 0.5 * (out.mean.square() + variance - 1 - out.log_variance)
        if self.free_bits:
            charged = per_code.mean(0) > self.free_bits
            per_code = per_code.where(charged, self.free_bits)
        return per_code.sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what adds the divergence, and its gradients in mean and log-variance."""
        check_real(self, "free_bits", "[0, inf)")
        mean, log_variance = buffers.out.mean, buffers.out.log_variance
        by_mean, by_log_variance = buffers.grad.mean, buffers.grad.log_variance
        factor, bits, n_rows = buffers.factor, float(self.free_bits), len(mean)
        excess, variance_less_one = torch.zeros_like(mean), torch.zeros_like(log_variance)
        total = buffers.total(*mean.shape, factor=0.5)

        def run() -> None:
            torch.expm1(log_variance, out=variance_less_one)
            total.addcmul_(mean, mean)
            total.add_(variance_less_one)
            total.sub_(log_variance)
            by_mean.add_(mean, alpha=factor)
            by_log_variance.add_(variance_less_one, alpha=0.5 * factor)

        def run_beyond_free_bits() -> None:
            torch.expm1(log_variance, out=variance_less_one)
            torch.addcmul(variance_less_one, mean, mean, out=excess)
            excess.sub_(log_variance)
            each = excess.mean(0)
            charged = each > 2 * bits
            total[0].add_(torch.where(charged, each, 2 * bits), alpha=n_rows)
            by_mean.add_(mean * charged, alpha=factor)
            by_log_variance.add_(variance_less_one * charged, alpha=0.5 * factor)

        return run_beyond_free_bits if bits else run


class ImportanceWeightedBound(Term):
    r"""Minus the importance-weighted bound on log p(x), in nats per row.

    With K draws from the posterior for each row ([1]_, equation 8):

    .. math:: -\log \frac1K \sum_{i=1}^K \frac{p(x|z_i) p(z_i)}{q(z_i|x)}, \quad z_i \sim q(z|x)

    With one draw it is an estimate of minus the evidence lower bound; with more it is tighter.

    Parameters
    ----------
    likelihood : Term
        Minus log p(x|z) per draw.
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    References
    ----------
    .. [1] Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP, VAE
    >>> from skae.objectives import Gaussian, ImportanceWeightedBound
    >>> core = VAE(MLP(4, 2 * 2, [8]), MLP(2, 4, [8]), Gaussian(), n_components=2, n_draws=5)
    >>> x, generator = torch.zeros(3, 4), torch.Generator().manual_seed(0)
    >>> ImportanceWeightedBound(Gaussian())(x, core(x, core.draw_noise(3, generator))).shape
    torch.Size([3])
    """

    needs_outputs = ("log_weights",)

    def __init__(self, likelihood: Term, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.likelihood = likelihood

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return minus the bound per row, shape (batch,)."""
        log_p_x = -self.likelihood(x.repeat(len(out.x_hat) // len(x), 1), out)
        log_weights = out.log_weights(log_p_x)  # (n_draws, batch)
        return math.log(len(log_weights)) - log_weights.logsumexp(0)
