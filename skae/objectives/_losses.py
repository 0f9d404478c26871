"""Losses: how far the reconstruction is from the row (squared, absolute, Huber)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from ._buffers import Bound, Buffers, in_turn
from ._checks import check_choice
from ._objective import OnRawRows, Term
from ._schedules import Schedule

# A scaler may leave its range by a rounding, which harms no likelihood.
_ROUNDING = 1e-6
# Of Gaussian residuals it is 95 % efficient; a start that reproduces rows leaves a least threshold.
_DELTA_PER_DEVIATION, _DEVIATIONS_PER_MEDIAN, _LEAST_DELTA = 1.345, 1.4826, 1e-2


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
        such as a logit. If False, both are in scaled units.
    is_squared : bool
        Whether the loss is in squared units of the rows, as their variance is.
    is_robust : bool
        Whether the loss of a residual grows no faster than the residual, so that outliers hardly
        matter: scaling and start leave them out too.
    non_negative : bool
        Whether rows must not have negative values.
    """

    raw_target: ClassVar[bool] = False
    is_squared: ClassVar[bool] = False
    is_robust: ClassVar[bool] = False
    non_negative: ClassVar[bool] = False

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the reconstruction that a decoder's output `x_hat` stands for, same shape."""
        return x_hat

    def natural(self, mean: np.ndarray) -> np.ndarray:
        """Return a finite decoder output for a reconstruction, the inverse of `mean`."""
        return mean

    def for_residuals(self, residuals: Callable[[], np.ndarray]) -> Loss:
        """Return the loss as it is used in one fit; by default the loss itself.

        Parameters
        ----------
        residuals : callable
            Returns what reconstructions leave of training rows before the first epoch, in scaled
            units, of shape (n_rows, n_features).

        Returns
        -------
        Loss
            The loss.
        """
        return self

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
        if self.non_negative:
            advice = "Give it values that are neither centred nor standardized"
            check_range(self, low, high, (0, math.inf), advice)

    def in_coordinates(self, n_features: int) -> Loss | None:
        """Return the loss of rows in orthonormal coordinates instead of features, if there is one.

        The last coordinate is the length of what the others leave of a row; the decoder does not
        learn it, and is to return zero there.

        Parameters
        ----------
        n_features : int
            Number of features.

        Returns
        -------
        Loss or None
            With the same values, plus a constant at most. None where distances are not all that
            the loss depends on.
        """
        return None


def pinned(x_hat: Tensor) -> Tensor:
    """Return reconstructions of which the last coordinate has no gradient."""
    return torch.cat([x_hat[:, :-1], x_hat[:, -1:].detach()], 1)


def pinning(gradient: Tensor) -> Bound:
    """Return what keeps the last coordinate of a gradient at zero."""
    return lambda: gradient[:, -1].zero_()


def for_scaled_rows(
    loss: Loss, center: np.ndarray, scale: np.ndarray, device: torch.device
) -> Term:
    """Return a loss as a term for rows in scaled units; see `OnRawRows`."""
    return OnRawRows(loss, center, scale, device) if loss.raw_target else loss


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

    gradient_unit = 2.0
    is_squared = True

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared error per row, shape (batch,)."""
        return (x - out.x_hat).square().sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what writes the gradient, twice the residual, and adds its squares."""
        x, x_hat, gradient = buffers.x, buffers.out.x_hat, buffers.grad.x_hat
        return in_turn(
            lambda: torch.sub(x_hat, x, out=gradient),
            buffers.product(gradient, gradient),
            *buffers.scaled(gradient, 2 * buffers.factor),
        )

    def in_coordinates(self, n_features: int) -> Loss | None:
        """Return the squared error of coordinates."""
        return _CoordinatesError(self.weight)


class _CoordinatesError(SquaredError):
    """Squared error of rows in coordinates, see `Loss.in_coordinates`."""

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared error per row, shape (batch,)."""
        return (x - pinned(out.x_hat)).square().sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what the squared error binds, and pins the gradient."""
        return in_turn(super().bind(buffers), pinning(buffers.grad.x_hat))


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

    is_robust = True

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the absolute error per row, shape (batch,)."""
        return (x - out.x_hat).abs().sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what writes the gradient, the residual's sign, and adds residuals times signs."""
        x, x_hat, gradient = buffers.x, buffers.out.x_hat, buffers.grad.x_hat
        residual = torch.zeros_like(x)
        return in_turn(
            lambda: torch.sub(x_hat, x, out=residual),
            lambda: torch.sign(residual, out=gradient),
            buffers.product(gradient, residual),
            *buffers.scaled(gradient, buffers.factor),
        )


class Huber(Loss):
    r"""Squared error that grows linearly beyond `delta`, so outliers pull less [1]_.

    Per row it is :math:`\sum_j h(x_j - \hat x_j)` with

    .. math:: h(r) = \begin{cases} r^2 & |r| \leq \delta \\
              2 \delta |r| - \delta^2 & |r| > \delta \end{cases}

    This is twice Huber's function, so that within `delta` it equals `SquaredError`.

    Parameters
    ----------
    delta : float or "auto", default="auto"
        Largest residual that is squared, in units of the scaled rows. "auto" is 1.345 standard
        deviations of what the start leaves of training rows, estimated by their median deviation
        ([2]_, section 2; of a Gaussian's residuals the largest 18 % are beyond it), and then stays
        as it is; 1 where nothing was fitted.
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    References
    ----------
    .. [1] Huber, "Robust Estimation of a Location Parameter", 1964.
    .. [2] Holland and Welsch, "Robust Regression Using Iteratively Reweighted Least-Squares", 1977.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import Huber
    >>> x, x_hat = torch.zeros(2, 1), torch.tensor([[0.5], [10.0]])
    >>> Huber(delta=1.0)(x, SimpleNamespace(x_hat=x_hat, z=x, x_in=x))
    tensor([ 0.2500, 19.0000])
    """

    gradient_unit = 2.0
    is_squared = True
    is_robust = True

    def __init__(self, delta: float | str = "auto", weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.delta = delta

    def for_residuals(self, residuals: Callable[[], np.ndarray]) -> Loss:
        """Return the loss with a threshold that is a number.

        Parameters
        ----------
        residuals : callable
            Returns what reconstructions leave of training rows before the first epoch, in scaled
            units, of shape (n_rows, n_features).

        Returns
        -------
        Loss
            The loss.
        """
        if self.delta != "auto":
            return self
        sizes = np.abs(residuals())
        deviation = _DEVIATIONS_PER_MEDIAN * float(np.median(sizes)) if sizes.size else 0.0
        return Huber(max(_DELTA_PER_DEVIATION * deviation, _LEAST_DELTA), self.weight)

    def _threshold(self) -> float:
        check_choice(self, "delta", ("auto",), "(0, inf)")
        return 1.0 if isinstance(self.delta, str) else float(self.delta)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the loss per row, shape (batch,)."""
        return 2 * huber_loss(out.x_hat, x, reduction="none", delta=self._threshold()).sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what writes the gradient, twice the residual r cut off to s: h is s (2 r - s)."""
        x, x_hat, gradient = buffers.x, buffers.out.x_hat, buffers.grad.x_hat
        residual, delta = torch.zeros_like(x), self._threshold()
        return in_turn(
            lambda: torch.sub(x_hat, x, out=residual),
            lambda: torch.clamp(residual, -delta, delta, out=gradient),
            buffers.product(gradient, residual, 2.0),
            buffers.product(gradient, gradient, -1.0),
            *buffers.scaled(gradient, 2 * buffers.factor),
        )


def check_range(
    loss: Loss, low: np.ndarray, high: np.ndarray, bounds: tuple[float, float], advice: str
) -> None:
    """Raise a ValueError that names the first feature with a value outside of the bounds.

    A value that is too small is named before one that is too large.
    """
    least, most = bounds
    too_low, too_high = low < least - _ROUNDING, high > most + _ROUNDING
    if too_low.any() or too_high.any():
        feature = int(np.argmax(too_low if too_low.any() else too_high))
        value = low[feature] if too_low[feature] else high[feature]
        closing = "]" if math.isfinite(most) else ")"
        sign = "Negative values in data: " if least == 0 and value < 0 else ""
        raise ValueError(
            f"{sign}{type(loss).__name__} is defined for values in [{least}, {most}{closing}, and "
            f"feature {feature} of X has the value {value}. {advice}, or choose a loss for any "
            "real numbers: the squared error, or a Gaussian likelihood."
        )
