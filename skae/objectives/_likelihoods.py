"""Likelihoods: Gaussian, Laplace and Bernoulli noise around the decoder's output, or yours."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from ._buffers import Bound, Buffers, in_turn
from ._checks import check_choice, check_per_row
from ._losses import Loss, check_range, pinned, pinning
from ._schedules import Schedule

# Features that are always 0 (or 1) would need infinite logits; this close to it costs 1e-6 nats.
LEAST_MEAN = 1e-6


class Likelihood(Loss):
    r"""A distribution of rows given their codes, independent by feature: :math:`p(x | z)`.

    For one of your own, write `log_prob` and `sample`, and `mean` and `natural` if the decoder's
    output is not the mean itself. Without ``raw_target``, rows are in the network's units (centred
    and scaled) and scores account for that.

    Beside the network a likelihood may learn a `dispersion`, such as a variance: one positive
    number, or one for each feature. It follows the mean of `residual` where there is one, or
    gradients with ``learned_by_gradient``, and starts at `dispersion_for`.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in an autoencoder's objective; a `VAETransformer` takes 1 only.

    Attributes
    ----------
    raw_target : bool
        If True, rows are in the user's units, and ``out.x_hat`` is a natural parameter, such as a
        logit. If False, both are in scaled units.
    discrete : bool
        Whether rows are whole numbers, and their likelihood a probability, not a density.
    non_negative : bool
        Whether rows must not have negative values.
    learned_by_gradient : bool
        Whether the dispersion is trained with the network's weights.
    """

    needs_outputs: ClassVar[tuple[str, ...]] = ("dispersion",)
    discrete: ClassVar[bool] = False
    learned_by_gradient: ClassVar[bool] = False

    @property
    def per_feature(self) -> bool:
        """Whether each feature has a dispersion of its own."""
        return False

    @property
    def learns_dispersion(self) -> bool:
        """Whether there is anything to learn beside the network."""
        follows_residual = type(self).residual is not Likelihood.residual
        return self.learned_by_gradient or (follows_residual and not self.raw_target)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return minus `log_prob` per row, shape (batch,); ValueError if it has another shape."""
        dispersion = out.dispersion if self.needs_outputs else None
        values = self.log_prob(x, out.x_hat, dispersion)
        check_per_row(values, len(x), f"{type(self).__name__}.log_prob")
        return -values

    @abstractmethod
    def log_prob(self, x: Tensor, output: Tensor, dispersion: Any) -> Tensor:
        """Return log p(x | z) per row in nats, shape (batch,).

        Parameters
        ----------
        x : torch.Tensor of shape (batch, n_features)
            Rows.
        output : torch.Tensor of shape (batch, n_features)
            What the decoder returned for their codes.
        dispersion : torch.Tensor of shape () or (n_features,)
            What is learned beside the network; to be left alone if nothing is.
        """

    @abstractmethod
    def sample(
        self, mean: np.ndarray, dispersion: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw rows around their means.

        Parameters
        ----------
        mean : ndarray of shape (n_samples, n_features)
            What `mean` returned.
        dispersion : ndarray of shape () or (n_features,)
            What is learned beside the network.
        rng : numpy.random.Generator
            Source of the draws.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """

    def residual(self, x: Tensor, output: Tensor) -> Tensor | None:
        """Return what the dispersion is the mean of, shape (batch, n_features), if there is such.

        It is not asked of a likelihood with ``raw_target``.
        """
        return None

    def dispersion_for(self, variance: Any, mean: Any) -> Any:
        """Return the dispersion at which rows have a `variance` around a `mean`.

        By default it is the variance itself.
        """
        return variance

    def fixed_dispersion(self, unit: Any) -> Any:
        """Return the dispersion in scaled units, each `unit` of X's, if the user fixed it."""
        return None

    def variance_at(self, dispersion: Any) -> Any:
        """Return the variance around the mean, if it does not depend on the mean; else None."""
        return None

    def rough_variance(self, variance: np.ndarray) -> np.ndarray | None:
        """Return about the variance of rows around their means, bounded away from 0.

        `variance` is that of the training rows, by feature. The inverse of what is returned is
        about the gradient of the natural parameter in the mean. With it, training of
        a likelihood with ``raw_target`` can start at principal components; None is for a start at
        the mean.
        """
        return None


class Gaussian(Likelihood):
    r"""Gaussian noise of learned or fixed variance.

    .. math:: \log p(x | z) = -\frac12 \sum_j \frac{(x_j - \hat x_j)^2}{s_j^2} + \log 2 \pi s_j^2

    Given the networks the bound is largest where the variance is the mean squared error ([1]_,
    equation 8), which it therefore follows, as a moving average over batches.

    Parameters
    ----------
    noise_variance : {"shared", "per_feature"} or float, default="shared"
        One variance for all features, as in probabilistic PCA; one for each, as in factor
        analysis; or a number, in squared units of X, that stays.
    weight : float or Schedule, default=1.0
        Factor of the term in an autoencoder's objective; a `VAETransformer` takes 1 only.

    References
    ----------
    .. [1] Rybkin, Daniilidis and Levine, "Simple and Effective VAE Training with Calibrated
       Decoders", 2021.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import Gaussian
    >>> x = torch.zeros(1, 2)
    >>> Gaussian().log_prob(x, x, dispersion=torch.tensor(1.0))  # -log(2 pi)
    tensor([-1.8379])
    """

    def __init__(
        self, noise_variance: str | float = "shared", weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(weight)
        self.noise_variance = noise_variance

    @property
    def per_feature(self) -> bool:
        """Whether each feature has a variance of its own."""
        return is_per_feature(self, "noise_variance")

    def log_prob(self, x: Tensor, output: Tensor, dispersion: Any) -> Tensor:
        """Return the log-density per row, shape (batch,)."""
        errors = (x - output).square()
        return -0.5 * _sum(errors / dispersion, (2 * math.pi * dispersion).log(), x)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what writes the gradient, the residual over the variance, and adds errors."""
        fixed = is_fixed(self, "noise_variance")
        return _bind_scaled(buffers, None, 0.5, math.log(2 * math.pi), fixed)

    def sample(
        self, mean: np.ndarray, dispersion: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Add Gaussian noise."""
        return mean + np.sqrt(dispersion) * rng.standard_normal(mean.shape)

    def residual(self, x: Tensor, output: Tensor) -> Tensor | None:
        """Return squared errors, unless the variance is fixed."""
        return None if is_fixed(self, "noise_variance") else (x - output).square()

    def fixed_dispersion(self, unit: Any) -> Any:
        """Return the variance in scaled units, if it is fixed."""
        return self.noise_variance / unit**2 if is_fixed(self, "noise_variance") else None

    def variance_at(self, dispersion: Any) -> Any:
        """Return the variance."""
        return dispersion

    def in_coordinates(self, n_features: int) -> Loss | None:
        """Return the likelihood of coordinates, if all features have one variance."""
        if self.per_feature:
            return None
        return _CoordinatesGaussian(self.noise_variance, self.weight, n_features)


class _CoordinatesGaussian(Gaussian):
    """Gaussian noise of features, for rows in coordinates; see `Loss.in_coordinates`."""

    def __init__(
        self, noise_variance: str | float, weight: float | Schedule, n_features: int
    ) -> None:
        super().__init__(noise_variance, weight)
        self.n_features = n_features

    def log_prob(self, x: Tensor, output: Tensor, dispersion: Any) -> Tensor:
        """Return the log-density per row, shape (batch,)."""
        distances = (x - pinned(output)).square().sum(1)
        log_normalizer = self.n_features * (2 * math.pi * dispersion).log()
        return -0.5 * (distances / dispersion + log_normalizer)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what writes the gradient, pins it, and brings what is observed to features."""
        fixed = is_fixed(self, "noise_variance")
        share, observed = buffers.x.shape[1] / self.n_features, buffers.residual
        return in_turn(
            _bind_scaled(buffers, None, 0.5, math.log(2 * math.pi), fixed, self.n_features),
            pinning(buffers.grad.x_hat),
            *([] if observed is None else [lambda: observed.mul_(share)]),
        )

    def residual(self, x: Tensor, output: Tensor) -> Tensor | None:
        """Return what has the mean square of features as its mean."""
        squares = super().residual(x, output)
        return None if squares is None else squares * (x.shape[1] / self.n_features)


class Laplace(Likelihood):
    r"""Laplace noise of learned or fixed scale, with heavier tails than a Gaussian's.

    .. math:: \log p(x | z) = -\sum_j \frac{|x_j - \hat x_j|}{b_j} + \log 2 b_j

    Given the networks the bound is largest where the scale is the mean absolute error, which it
    therefore follows, as a moving average over batches. The variance is :math:`2 b^2`.

    Parameters
    ----------
    scale : {"shared", "per_feature"} or float, default="shared"
        One scale for all features, one for each, or a number, in units of X, that stays.
    weight : float or Schedule, default=1.0
        Factor of the term in an autoencoder's objective; a `VAETransformer` takes 1 only.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import Laplace
    >>> x = torch.zeros(1, 2)
    >>> Laplace().log_prob(x, x + 1, dispersion=torch.tensor(1.0))  # -2 - 2 log(2)
    tensor([-3.3863])
    """

    is_robust = True

    def __init__(self, scale: str | float = "shared", weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.scale = scale

    @property
    def per_feature(self) -> bool:
        """Whether each feature has a scale of its own."""
        return is_per_feature(self, "scale")

    def log_prob(self, x: Tensor, output: Tensor, dispersion: Any) -> Tensor:
        """Return the log-density per row, shape (batch,)."""
        return -_sum((x - output).abs() / dispersion, (2 * dispersion).log(), x)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what writes the gradient, the residual's sign over the scale, and adds errors."""
        fixed = is_fixed(self, "scale")
        return _bind_scaled(buffers, torch.sign, 1.0, math.log(2), fixed)

    def sample(
        self, mean: np.ndarray, dispersion: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Add Laplace noise."""
        return mean + rng.laplace(scale=dispersion, size=mean.shape)

    def residual(self, x: Tensor, output: Tensor) -> Tensor | None:
        """Return absolute errors, unless the scale is fixed."""
        return None if is_fixed(self, "scale") else (x - output).abs()

    def dispersion_for(self, variance: Any, mean: Any) -> Any:
        """Return the scale of Laplace noise with a variance."""
        return np.sqrt(variance / 2)

    def fixed_dispersion(self, unit: Any) -> Any:
        """Return the scale in scaled units, if it is fixed."""
        return self.scale / unit if is_fixed(self, "scale") else None

    def variance_at(self, dispersion: Any) -> Any:
        """Return the variance, twice the square of the scale."""
        return 2 * dispersion**2


class Bernoulli(Likelihood):
    r"""Independent Bernoulli variables.

    The decoder returns logits :math:`l`, and :math:`\hat x = 1 / (1 + e^{-l})`:

    .. math:: \log p(x | z) = \sum_j x_j \log \hat x_j + (1 - x_j) \log (1 - \hat x_j)

    For binary rows this is the likelihood of [1]_, appendix C.1. As the loss of an autoencoder it
    also takes values between 0 and 1, such as grey pixels: a cross-entropy, whose smallest value
    is the rows' own entropy, not 0.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in an autoencoder's objective; a `VAETransformer` takes 1 only.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import Bernoulli
    >>> x, logits = torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2)
    >>> loss = Bernoulli()
    >>> loss(x, SimpleNamespace(x_hat=logits, z=x, x_in=x))  # 2 log(2)
    tensor([1.3863])
    >>> loss.mean(logits)
    tensor([[0.5000, 0.5000]])
    """

    raw_target = True
    discrete = True
    non_negative = True
    needs_outputs = ()

    def log_prob(self, x: Tensor, output: Tensor, dispersion: Any = None) -> Tensor:
        """Return the log-probability per row, shape (batch,)."""
        return -binary_cross_entropy_with_logits(output, x, reduction="none").sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what adds ``log(1 + e^l) - x l``, and writes its gradient ``sigmoid(l) - x``."""
        x, logits, gradient = buffers.x, buffers.out.x_hat, buffers.grad.x_hat
        total = buffers.total(*x.shape)
        return in_turn(
            lambda: total.add_(softplus(logits)),
            buffers.product(x, logits, -1.0),
            lambda: torch.sigmoid(logits, out=gradient),
            lambda: gradient.sub_(x),
            *buffers.scaled(gradient, buffers.factor),
        )

    def sample(
        self, mean: np.ndarray, dispersion: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw zeros and ones."""
        return (rng.random(mean.shape) < mean).astype(np.float64)

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the probabilities of logits."""
        return x_hat.sigmoid()

    def natural(self, mean: np.ndarray) -> np.ndarray:
        """Return the logits of probabilities, kept 1e-6 away from 0 and 1."""
        inside = np.clip(mean, LEAST_MEAN, 1 - LEAST_MEAN)
        return np.log(inside) - np.log1p(-inside)

    def rough_variance(self, variance: np.ndarray) -> np.ndarray | None:
        """Return the largest variance, a quarter.

        With it the start is the first step of logistic PCA by majorization, which cannot be worse
        than the mean.
        """
        return np.full_like(variance, 0.25)

    def check_support(self, low: np.ndarray, high: np.ndarray) -> None:
        """Check that X lies in [0, 1]; ValueError otherwise."""
        advice = "Scale X to [0, 1], for example with sklearn.preprocessing.MinMaxScaler"
        check_range(self, low, high, (0, 1), advice)


def is_fixed(owner: Likelihood, name: str, limits: tuple[float, float] = (0, math.inf)) -> bool:
    """Return whether a parameter is a number, not a word for what is learned; check what it is."""
    check_choice(owner, name, ("shared", "per_feature"), f"({limits[0]}, {limits[1]})")
    return not isinstance(getattr(owner, name), str)


def is_per_feature(
    owner: Likelihood, name: str, limits: tuple[float, float] = (0, math.inf)
) -> bool:
    """Return whether a parameter asks for a dispersion of each feature; check what it is."""
    return not is_fixed(owner, name, limits) and bool(getattr(owner, name) == "per_feature")


def _sum(scaled: Tensor, log_normalizer: Tensor, x: Tensor) -> Tensor:
    """Return the sum over features of scaled errors and normalizers, of shape () or (d,)."""
    return scaled.sum(1) + log_normalizer.mean() * x.shape[1]


def _bind_scaled(
    buffers: Buffers,
    derive: Callable[..., Any] | None,
    factor: float,
    log_constant: float,
    fixed: bool,
    n_features: int | None = None,
) -> Bound:
    """Return what adds ``factor * (error / dispersion + log(dispersion) + log_constant)``.

    The error is the product of the residual and what `derive` makes of it (itself, if that is
    None), and the gradient is the latter over the dispersion, which may be `fixed`. Rows may stand
    for another number of features than they have columns.
    """
    x, x_hat, gradient = buffers.x, buffers.out.x_hat, buffers.grad.x_hat
    dispersion, n_rows, n_features = buffers.out.dispersion, len(x), n_features or x.shape[1]
    shape, residual = dispersion.shape, torch.zeros_like(x)
    derived = torch.zeros_like(x) if derive else residual
    share, flat = n_features / dispersion.numel(), (derived.view(-1), residual.view(-1))
    errors = torch.zeros_like(dispersion) if buffers.residual is None else buffers.residual
    ones = x.new_ones(n_rows)
    total, logarithms = (
        buffers.total(*shape, factor=each) for each in (factor, factor * share * n_rows)
    )
    buffers.constant += factor * n_features * log_constant
    if fixed:
        buffers.constant += factor * n_features * float(dispersion.log().mean())

    def run() -> None:
        torch.sub(x_hat, x, out=residual)
        if derive:
            derive(residual, out=derived)
        torch.div(derived, dispersion, out=gradient)
        if shape:
            torch.mv(derived.mul_(residual).t(), ones, out=errors)
        else:
            torch.dot(*flat, out=errors)
        total.addcdiv_(errors, dispersion)
        if not fixed:
            logarithms.add_(dispersion.log())

    return in_turn(run, *buffers.scaled(gradient, buffers.factor))
