"""Divergences: what pulls the VAE's posterior towards its prior (KL, beta)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ._objective import Term


class KLDivergence(Term):
    r"""Kullback-Leibler divergence from a diagonal Gaussian posterior to N(0, I), nats per row.

    :math:`\frac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)` ([1]_, equation 10).

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        The beta of a beta-VAE; at 1 the objective is the negative evidence lower bound.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014.

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

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the divergence per row, shape (batch,)."""
        variance = out.log_variance.exp()
        return 0.5 * (out.mean.square() + variance - 1 - out.log_variance).sum(1)
