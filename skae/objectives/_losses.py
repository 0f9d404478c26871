"""Losses: how far the reconstruction is from the row (errors, negative log-likelihoods)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

from ._checks import check_real
from ._objective import Term
from ._schedules import Schedule

# Features that are always 0 (or 1) would need infinite logits; this close to it costs 1e-6 nats.
_LEAST_MEAN = 1e-6

# Rates reach 1e13 before they stop growing exponentially; float32 overflows at e^88.
_LARGEST_LOG_RATE = 30.0

# A scaler may leave its range by a rounding, which harms no likelihood.
_ROUNDING = 1e-6


class Loss(Term):
    """The term that compares the reconstruction with the row.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    Attributes
    ----------
    raw_target : bool
        If True, the loss reads `x` in the user's units and ``out.x_hat`` as a natural parameter,
        such as a logit. If False, both are in net units.
    """

    raw_target: ClassVar[bool] = False

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the reconstruction that a decoder's output `x_hat` stands for, same shape."""
        return x_hat

    def natural(self, mean: np.ndarray) -> np.ndarray:
        """Return a finite decoder output for a reconstruction, the inverse of `mean`."""
        return mean

    def check_support(self, low: np.ndarray, high: np.ndarray) -> None:
        """Check that the loss is defined for X, given each feature's extremes.

        Parameters
        ----------
        low, high : ndarray of shape (n_features,)
            Smallest and largest value of each feature.

        Raises
        ------
        ValueError
            Naming the first feature with a value for which the loss is not defined.
        """


class SquaredError(Loss):
    r"""Squared error :math:`\sum_j (x_j - \hat x_j)^2` per row.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import AutoencoderOutput
    >>> from skae.objectives import SquaredError
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> SquaredError()(x, AutoencoderOutput(x_hat=x - 1, z=x, x_in=x))
    tensor([2.])
    """

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared error per row, shape (batch,)."""
        return (x - out.x_hat).square().sum(1)


class AbsoluteError(Loss):
    r"""Absolute error :math:`\sum_j |x_j - \hat x_j|` per row.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import AbsoluteError
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> AbsoluteError()(x, SimpleNamespace(x_hat=x - 3, z=x, x_in=x))
    tensor([6.])
    """

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the absolute error per row, shape (batch,)."""
        return (x - out.x_hat).abs().sum(1)


class Huber(Loss):
    r"""Squared error that grows linearly beyond `delta`, so outliers pull less [1]_.

    Per row it is :math:`\sum_j h(x_j - \hat x_j)` with

    .. math:: h(r) = \begin{cases} r^2 & |r| \leq \delta \\
              2 \delta |r| - \delta^2 & |r| > \delta \end{cases}

    This is twice Huber's function, so that within `delta` it equals `SquaredError`.

    Parameters
    ----------
    delta : float, default=1.0
        Largest residual that is squared, in units of the scaled rows.
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    References
    ----------
    .. [1] Huber, "Robust Estimation of a Location Parameter", 1964.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import Huber
    >>> x, x_hat = torch.zeros(2, 1), torch.tensor([[0.5], [10.0]])
    >>> Huber(delta=1.0)(x, SimpleNamespace(x_hat=x_hat, z=x, x_in=x))
    tensor([ 0.2500, 19.0000])
    """

    def __init__(self, delta: float = 1.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.delta = delta

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the loss per row, shape (batch,)."""
        check_real(self, "delta", "(0, inf)")
        return 2 * huber_loss(out.x_hat, x, reduction="none", delta=self.delta).sum(1)


class GaussianNegativeLogLikelihood(Loss):
    r"""Negative log-likelihood of a Gaussian with shared variance, in nats per row.

    .. math:: \frac{1}{2 s^2} ||x - \hat x||^2 + \frac{d}{2} \log(2 \pi s^2)

    Parameters
    ----------
    weight : float or Schedule, default=1.0
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

    needs_outputs = ("noise_variance",)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the negative log-likelihood per row, shape (batch,)."""
        squared_error = (x - out.x_hat).square().sum(1)
        log_normalizer = 0.5 * x.shape[1] * (out.noise_variance.log() + math.log(2 * math.pi))
        return 0.5 * squared_error / out.noise_variance + log_normalizer


class BernoulliNegativeLogLikelihood(Loss):
    r"""Negative log-likelihood of independent Bernoulli variables, in nats per row.

    The decoder returns logits :math:`l`, and :math:`\hat x = 1 / (1 + e^{-l})`:

    .. math:: -\sum_j x_j \log \hat x_j + (1 - x_j) \log (1 - \hat x_j)

    For binary rows this is the likelihood of [1]_, appendix C.1. For values between 0 and 1, such
    as grey pixels, it is a cross-entropy, whose smallest value is the rows' own entropy, not 0.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import BernoulliNegativeLogLikelihood
    >>> x, logits = torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2)
    >>> loss = BernoulliNegativeLogLikelihood()
    >>> loss(x, SimpleNamespace(x_hat=logits, z=x, x_in=x))  # 2 log(2)
    tensor([1.3863])
    >>> loss.mean(logits)
    tensor([[0.5000, 0.5000]])
    """

    raw_target = True

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the negative log-likelihood per row, shape (batch,)."""
        return binary_cross_entropy_with_logits(out.x_hat, x, reduction="none").sum(1)

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the probabilities of logits."""
        return x_hat.sigmoid()

    def natural(self, mean: np.ndarray) -> np.ndarray:
        """Return the logits of probabilities, kept 1e-6 away from 0 and 1."""
        inside = np.clip(mean, _LEAST_MEAN, 1 - _LEAST_MEAN)
        return np.log(inside) - np.log1p(-inside)

    def check_support(self, low: np.ndarray, high: np.ndarray) -> None:
        """Check that X lies in [0, 1]; ValueError otherwise."""
        advice = "Scale X to [0, 1], for example with sklearn.preprocessing.MinMaxScaler"
        _check_range(self, low, high, (0, 1), advice)


class PoissonNegativeLogLikelihood(Loss):
    r"""Negative log-likelihood of independent Poisson counts, in nats per row.

    The decoder returns log-rates :math:`l`, and :math:`\hat x = e^l`:

    .. math:: \sum_j \hat x_j - x_j l_j + \log x_j!

    Beyond a log-rate of 30, a rate of about 1e13, the exponential goes on as its tangent: nothing
    overflows, and a decoder that strayed there is still pulled back, as it would not be if the
    log-rate were cut off.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import PoissonNegativeLogLikelihood
    >>> x, log_rates = torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2)
    >>> loss = PoissonNegativeLogLikelihood()
    >>> loss(x, SimpleNamespace(x_hat=log_rates, z=x, x_in=x))  # 2 + log(2)
    tensor([2.6931])
    >>> loss.mean(log_rates)
    tensor([[1., 1.]])
    """

    raw_target = True

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the negative log-likelihood per row, shape (batch,)."""
        return (self.mean(out.x_hat) - x * out.x_hat + (x + 1).lgamma()).sum(1)

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the rates of log-rates, linear beyond a log-rate of 30."""
        bounded = x_hat.clamp(max=_LARGEST_LOG_RATE)
        return bounded.exp() * (1 + x_hat - bounded)

    def natural(self, mean: np.ndarray) -> np.ndarray:
        """Return the log-rates of rates, which are taken to lie between 1e-6 and e^30."""
        return np.log(np.clip(mean, _LEAST_MEAN, math.exp(_LARGEST_LOG_RATE)))

    def check_support(self, low: np.ndarray, high: np.ndarray) -> None:
        """Check that X is not negative; ValueError otherwise."""
        advice = "Give it counts that are neither centred nor scaled"
        _check_range(self, low, high, (0, math.inf), advice)


class Commitment(Term):
    r"""Commitment loss :math:`||z_e - sg(z)||^2` per row.

    It keeps the encoder close to the codes it is assigned to ([1]_, third term of equation 3).

    Parameters
    ----------
    weight : float or Schedule, default=0.25
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

    needs_outputs = ("z_e",)

    def __init__(self, weight: float | Schedule = 0.25) -> None:
        super().__init__(weight)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared distance to the codes per row, shape (batch,)."""
        return (out.z_e - out.z.detach()).square().sum(1)


def _check_range(
    loss: Loss, low: np.ndarray, high: np.ndarray, bounds: tuple[float, float], advice: str
) -> None:
    """Raise a ValueError that names the first feature with a value outside of the bounds."""
    least, most = bounds
    too_low, too_high = low < least - _ROUNDING, high > most + _ROUNDING
    offenders = np.flatnonzero(too_low | too_high)
    if len(offenders):
        feature = offenders[0]
        value = low[feature] if too_low[feature] else high[feature]
        closing = "]" if math.isfinite(most) else ")"
        raise ValueError(
            f"{type(loss).__name__} is defined for values in [{least}, {most}{closing}, and "
            f"feature {feature} of X has the value {value}. {advice}, or choose a loss for any "
            "real numbers, such as SquaredError."
        )
