"""Checks of the numbers that terms, corruptions and schedules are made with."""

from __future__ import annotations

from numbers import Real
from typing import Any


def check_real(owner: object, name: str, interval: str) -> None:
    """Check that an attribute is a real number in an interval with brackets as in "[0, inf)".

    Raises
    ------
    ValueError
        In scikit-learn's words, naming the parameter, the interval and the value.
    """
    value = getattr(owner, name)
    if not lies_in(interval, value):
        raise ValueError(
            f"The {name!r} parameter of {type(owner).__name__} must be a float in the range "
            f"{interval}. Got {value!r} instead."
        )


def lies_in(interval: str, value: Any) -> bool:
    """Tell whether `value` is a real number in the interval; bools and NaN are not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    low, high = (float(border) for border in interval[1:-1].split(","))
    number = float(value)
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    return above and below
