"""Schedules: numbers that change during training (warm-up, KL annealing, learning-rate decay)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from sklearn.base import BaseEstimator

from ._checks import check_real, lies_in


class Schedule(ABC, BaseEstimator):
    """A number as a function of the progress of training.

    Progress is a share of the planned training, not a count of steps, so one schedule serves
    every batch size, number of rows and ``max_iter``.
    """

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """Return the number at `progress`, 0 at the start of training and 1 at its planned end."""


class LinearWarmup(Schedule):
    """A straight line from `start` to `end`, which is then kept.

    As the weight of `KLDivergence` it is the warm-up that keeps a VAE from switching codes off
    before they are of use [1]_.

    Parameters
    ----------
    fraction : float, default=0.2
        Share of the planned training after which `end` is reached, in (0, 1].
    end : float, default=1.0
        Value from then on.
    start : float, default=0.0
        Value at the start of training.

    References
    ----------
    .. [1] Sønderby, Raiko, Maaløe, Sønderby and Winther, "Ladder Variational Autoencoders", 2016.

    Examples
    --------
    >>> from skae.objectives import LinearWarmup
    >>> beta = LinearWarmup(fraction=0.2, end=4.0)
    >>> [beta(progress) for progress in (0.0, 0.1, 0.2, 1.0)]
    [0.0, 2.0, 4.0, 4.0]
    """

    def __init__(self, fraction: float = 0.2, end: float = 1.0, start: float = 0.0) -> None:
        self.fraction = fraction
        self.end = end
        self.start = start

    def __call__(self, progress: float) -> float:
        """Return the number at `progress`."""
        check_real(self, "fraction", "(0, 1]")
        check_real(self, "start", "(-inf, inf)")
        check_real(self, "end", "(-inf, inf)")
        share = min(progress / self.fraction, 1.0)
        return (1 - share) * self.start + share * self.end


class CosineDecay(Schedule):
    r"""Half a period of a cosine from `start` to `end`, flat at both.

    With :math:`t` the progress it is
    :math:`end + \frac12 (start - end) (1 + \cos \pi t)` ([1]_, equation 5, without restarts).

    Parameters
    ----------
    start : float, default=1e-3
        Value at the start of training.
    end : float, default=0.0
        Value at its planned end.

    References
    ----------
    .. [1] Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.

    Examples
    --------
    >>> from skae.objectives import CosineDecay
    >>> CosineDecay(start=0.002)(0.5)
    0.001
    """

    def __init__(self, start: float = 1e-3, end: float = 0.0) -> None:
        self.start = start
        self.end = end

    def __call__(self, progress: float) -> float:
        """Return the number at `progress`."""
        check_real(self, "start", "(-inf, inf)")
        check_real(self, "end", "(-inf, inf)")
        share = 0.5 * (1 + math.cos(math.pi * progress))
        return share * self.start + (1 - share) * self.end


class ExponentialDecay(Schedule):
    r"""A straight line on the logarithmic scale, :math:`start^{1 - t} end^t` at progress :math:`t`.

    Parameters
    ----------
    start : float, default=1e-3
        Value at the start of training, positive.
    end : float, default=1e-5
        Value at its planned end, positive.

    Examples
    --------
    >>> from skae.objectives import ExponentialDecay
    >>> round(ExponentialDecay(start=1e-3, end=1e-5)(0.5), 10)
    0.0001
    """

    def __init__(self, start: float = 1e-3, end: float = 1e-5) -> None:
        self.start = start
        self.end = end

    def __call__(self, progress: float) -> float:
        """Return the number at `progress`."""
        check_real(self, "start", "(0, inf)")
        check_real(self, "end", "(0, inf)")
        return float(self.start ** (1 - progress) * self.end**progress)


def value_at(scalar: float | Schedule, progress: float, interval: str = "[0, inf)") -> float:
    """Return a number, or what a schedule makes of `progress`.

    Raises
    ------
    ValueError
        If the schedule returns anything but a number in `interval`.
    """
    if not isinstance(scalar, Schedule):
        return scalar
    value = scalar(progress)
    if not lies_in(interval, value):
        raise ValueError(
            f"This schedule must return floats in the range {interval}, but {scalar!r} returned "
            f"{value!r} at progress {progress:.3g}."
        )
    return value


def check_schedule(scalar: float | Schedule | None, interval: str = "[0, inf)") -> None:
    """Check that a schedule stays in an interval, at each hundredth of its way.

    Raises
    ------
    ValueError
        If it does not; see `value_at`.
    """
    if isinstance(scalar, Schedule):
        for percent in range(101):
            value_at(scalar, percent / 100, interval)
