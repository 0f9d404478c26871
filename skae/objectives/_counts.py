"""Likelihoods of counts: Poisson, and negative binomial for those that vary more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._buffers import Bound, Buffers, in_turn
from ._likelihoods import LEAST_MEAN, Likelihood, is_fixed, is_per_feature
from ._losses import check_range
from ._schedules import Schedule

# Rates reach 1e13 before they stop growing exponentially; float32 overflows at e^88.
LARGEST_LOG_RATE = 30.0

# NumPy draws Poisson counts of means up to about 9e18; beyond this they are normal to rounding.
_LARGEST_DRAWN = 1e15

# Of the negative binomial: below, it is a Poisson distribution to rounding.
_DISPERSIONS = (1e-6, 1e6)


class _Counts(Likelihood):
    """A likelihood of counts, whose decoder returns log-rates.

    Beyond a log-rate of 30, a rate of about 1e13, the exponential goes on as its tangent: nothing
    overflows, and a decoder that strayed there is still pulled back, as it would not be if the
    log-rate were cut off.
    """

    raw_target = True
    discrete = True
    non_negative = True

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the rates of log-rates, linear beyond a log-rate of 30."""
        bounded = x_hat.clamp(max=LARGEST_LOG_RATE)
        return bounded.exp() * (1 + x_hat - bounded)

    def natural(self, mean: np.ndarray) -> np.ndarray:
        """Return the log-rates of rates, which are taken to lie between 1e-6 and e^30."""
        return np.log(np.clip(mean, LEAST_MEAN, math.exp(LARGEST_LOG_RATE)))

    def rough_variance(self, variance: np.ndarray) -> np.ndarray | None:
        """Return the variance of all rows, so that no rate explodes, and one for rare counts."""
        return variance + 1

    def check_support(self, low: np.ndarray, high: np.ndarray) -> None:
        """Check that X is not negative; ValueError otherwise."""
        advice = "Give it counts that are neither centred nor scaled"
        check_range(self, low, high, (0, math.inf), advice)


class Poisson(_Counts):
    r"""Independent Poisson counts.

    The decoder returns log-rates :math:`l`, and :math:`\hat x = e^l` (up to a log-rate of 30, and
    from there on its tangent):

    .. math:: \log p(x | z) = \sum_j x_j l_j - \hat x_j - \log x_j!

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in an autoencoder's objective; a `VAETransformer` takes 1 only.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import Poisson
    >>> x, log_rates = torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2)
    >>> loss = Poisson()
    >>> loss(x, SimpleNamespace(x_hat=log_rates, z=x, x_in=x))  # 2 + log(2)
    tensor([2.6931])
    >>> loss.mean(log_rates)
    tensor([[1., 1.]])
    """

    needs_outputs = ()

    def log_prob(self, x: Tensor, output: Tensor, dispersion: Any = None) -> Tensor:
        """Return the log-probability per row, shape (batch,)."""
        return (x * output - self.mean(output) - (x + 1).lgamma()).sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what adds rates less ``x l`` and log-factorials, and writes the gradient."""
        x, log_rates, gradient = buffers.x, buffers.out.x_hat, buffers.grad.x_hat
        bounded, total = torch.zeros_like(x), buffers.total(*x.shape)

        def run() -> None:
            torch.clamp(log_rates, max=LARGEST_LOG_RATE, out=bounded)
            torch.exp(bounded, out=gradient)
            torch.sub(log_rates, bounded, out=bounded)
            total.addcmul_(gradient, bounded.add_(1.0))
            total.addcmul_(x, log_rates, value=-1)
            total.add_(torch.add(x, 1.0, out=bounded).lgamma_())
            gradient.sub_(x)

        return in_turn(run, *buffers.scaled(gradient, buffers.factor))

    def sample(
        self, mean: np.ndarray, dispersion: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw counts; means beyond what NumPy can draw from are drawn as normals."""
        return _draw_counts(mean, rng)


class NegativeBinomial(_Counts):
    r"""Independent counts that vary more than Poisson's: their rates are gamma-distributed.

    The decoder returns log-rates :math:`l`; the mean is :math:`\hat x = e^l` (up to a log-rate of
    30, and from there on its tangent) and the variance :math:`\hat x + \alpha \hat x^2` with a
    dispersion :math:`\alpha` that is learned or fixed. With :math:`r = 1 / \alpha`,

    .. math:: \log p(x | z) = \sum_j \log \frac{\Gamma(x_j + r)}{\Gamma(r) x_j!}
              + r \log \frac{r}{r + \hat x_j} + x_j \log \frac{\hat x_j}{r + \hat x_j}

    ([1]_, equation 3.3.3, in another notation).

    Parameters
    ----------
    dispersion : {"shared", "per_feature"} or float, default="per_feature"
        One dispersion for all features, one for each, or a number that stays, between 1e-6 and 1e6.
    weight : float or Schedule, default=1.0
        Factor of the term in an autoencoder's objective; a `VAETransformer` takes 1 only.

    References
    ----------
    .. [1] Cameron and Trivedi, "Regression Analysis of Count Data", 2nd edition, 2013.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import NegativeBinomial
    >>> x, log_rates = torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2)
    >>> NegativeBinomial().log_prob(x, log_rates, dispersion=torch.tensor(1.0))  # -4 log(2)
    tensor([-2.7726])
    """

    learned_by_gradient = True

    def __init__(
        self, dispersion: str | float = "per_feature", weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(weight)
        self.dispersion = dispersion

    @property
    def per_feature(self) -> bool:
        """Whether each feature has a dispersion of its own."""
        return is_per_feature(self, "dispersion", _DISPERSIONS)

    def log_prob(self, x: Tensor, output: Tensor, dispersion: Any) -> Tensor:
        """Return the log-probability per row, shape (batch,)."""
        dispersion = dispersion.clamp(*_DISPERSIONS)
        bounded = output.clamp(max=LARGEST_LOG_RATE)
        log_rate = bounded + (output - bounded).log1p()
        log_excess = (dispersion * self.mean(output)).log1p()
        # For small dispersions this is a small difference of large numbers: in float64.
        r, x_fine = 1 / dispersion.double(), x.double()
        ways = (x_fine + r).lgamma() - r.lgamma() - x_fine * r.log()
        log_mass = ways.to(x.dtype) - (x + 1).lgamma() - log_excess / dispersion
        return (log_mass + x * (log_rate - log_excess)).sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        r"""Return what adds minus `log_prob`, and writes its gradients.

        With the mean :math:`m`, that in the log-rate is :math:`(x + r) \alpha m' / (1 + \alpha m)`
        less x times the logarithm's; that in the dispersion takes digamma functions.
        """
        x, output, gradient = buffers.x, buffers.out.x_hat, buffers.grad.x_hat
        dispersion, factor = buffers.out.dispersion, buffers.factor
        total, shape = buffers.total(len(x)), dispersion.shape
        by_dispersion = buffers.grad.dispersion
        is_fixed(self, "dispersion", _DISPERSIONS)
        low, high = _DISPERSIONS

        def run() -> None:
            total.sub_(self.log_prob(x, output, dispersion))
            alpha, m = dispersion.clamp(low, high), self.mean(output)
            rate = output.clamp(max=LARGEST_LOG_RATE).exp()  # the mean's derivative
            beyond = (output - LARGEST_LOG_RATE).clamp(min=0.0) + 1
            torch.mul(rate, (1 + alpha * x) / (1 + alpha * m), out=gradient)
            gradient.sub_(x / beyond).mul_(factor)
            learned = (dispersion >= low) & (dispersion <= high)
            each = self._derivative(x, m, alpha).sum(0).mul_(learned)
            by_dispersion.copy_(each if shape else each.sum()).mul_(-factor)

        return run

    def _derivative(self, x: Tensor, mean: Tensor, alpha: Tensor) -> Tensor:
        """Return the derivative of the log-probability in the dispersion, (batch, n_features)."""
        r, x_fine = 1 / alpha.double(), x.double()
        ways = (x_fine + r).digamma() - r.digamma() - x_fine / r
        excess = (alpha * mean).log1p() / alpha**2 - (x + 1 / alpha) * mean / (1 + alpha * mean)
        return excess - (r**2 * ways).to(x.dtype)

    def sample(
        self, mean: np.ndarray, dispersion: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw rates, and counts of these."""
        dispersion = np.clip(dispersion, *_DISPERSIONS)
        rates = rng.gamma(1 / dispersion, dispersion * np.maximum(mean, 0.0))
        return _draw_counts(rates, rng)

    def dispersion_for(self, variance: Any, mean: Any) -> Any:
        """Return the dispersion with which counts with a mean have a variance."""
        square = np.maximum(np.square(mean), LEAST_MEAN)
        return np.clip((variance - mean) / square, 1e-2, 1e2)

    def fixed_dispersion(self, unit: Any) -> Any:
        """Return the dispersion, if it is fixed."""
        return self.dispersion if is_fixed(self, "dispersion", _DISPERSIONS) else None


def _draw_counts(rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw Poisson counts; rates that rounding made negative are zero, huge ones give normals."""
    rates = np.maximum(rates, 0.0)
    counts = rng.poisson(np.minimum(rates, _LARGEST_DRAWN)).astype(np.float64)
    huge = rates > _LARGEST_DRAWN
    counts[huge] = np.rint(rates[huge] + np.sqrt(rates[huge]) * rng.standard_normal(huge.sum()))
    return counts
