"""Losses: how far the reconstruction is from the row (squared error, Gaussian likelihood)."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ._objective import Term


class SquaredError(Term):
    r"""Squared error :math:`\sum_j (x_j - \hat x_j)^2` per row.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the term in the objective.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import AutoencoderOutput
    >>> from skae.objectives import SquaredError
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> SquaredError()(x, AutoencoderOutput(x_hat=x - 1, z=x))
    tensor([2.])
    """

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared error per row, shape (batch,)."""
        return (x - out.x_hat).square().sum(1)


class GaussianNegativeLogLikelihood(Term):
    r"""Negative log-likelihood of a Gaussian with shared variance, in nats per row.

    .. math:: \frac{1}{2 s^2} ||x - \hat x||^2 + \frac{d}{2} \log(2 \pi s^2)

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the term in the objective.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import VAEOutput
    >>> from skae.objectives import GaussianNegativeLogLikelihood
    >>> x, one = torch.zeros(1, 2), torch.tensor(1.0)
    >>> out = VAEOutput(x_hat=x, z=x, mean=x, log_variance=x, noise_variance=one)
    >>> GaussianNegativeLogLikelihood()(x, out)  # log(2 pi)
    tensor([1.8379])
    """

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the negative log-likelihood per row, shape (batch,)."""
        squared_error = (x - out.x_hat).square().sum(1)
        log_normalizer = 0.5 * x.shape[1] * (out.noise_variance.log() + math.log(2 * math.pi))
        return 0.5 * squared_error / out.noise_variance + log_normalizer


class Commitment(Term):
    r"""Commitment loss :math:`||z_e - sg(z)||^2` per row.

    It keeps the encoder close to the codes it is assigned to ([1]_, third term of equation 3).

    Parameters
    ----------
    weight : float, default=0.25
        The paper's beta.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import VQVAEOutput
    >>> from skae.objectives import Commitment
    >>> z = torch.ones(1, 2)
    >>> Commitment()(z, VQVAEOutput(x_hat=z, z=z, z_e=2 * z, codes=None))
    tensor([2.])
    """

    def __init__(self, weight: float = 0.25) -> None:
        super().__init__(weight)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared distance to the codes per row, shape (batch,)."""
        return (out.z_e - out.z.detach()).square().sum(1)
