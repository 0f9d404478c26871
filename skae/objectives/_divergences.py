"""Divergences: what pulls the VAE's posterior towards its prior (KL, beta)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

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
    >>> KLDivergence()(zero, VAEOutput(zero, one, mean=one, log_variance=zero, noise_variance=one))
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
