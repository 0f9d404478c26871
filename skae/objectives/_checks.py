"""Checks of the numbers that terms, corruptions and schedules are made with."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from torch import Tensor


def check_real(owner: object, name: str, interval: str) -> None:
    """Check that an attribute is a real number in an interval with brackets as in "[0, inf)".

    Raises
    ------
    ValueError
        In scikit-learn's words, naming the parameter, the interval and the value.
    """
    value = getattr(owner, name)
    if not lies_in(interval, value):
        raise ValueError(_message(owner, name, f"a float in the range {interval}", value))


def check_integer(owner: object, name: str, interval: str) -> None:
    """Check that an attribute is an integer in an interval; see `check_real`."""
    value = getattr(owner, name)
    if not (isinstance(value, Integral) and lies_in(interval, value)):
        raise ValueError(_message(owner, name, f"an int in the range {interval}", value))


def check_choice(owner: object, name: str, words: tuple[str, ...], interval: str) -> None:
    """Check that an attribute is one of some words or a real number; see `check_real`."""
    value = getattr(owner, name)
    if not (value in words if isinstance(value, str) else lies_in(interval, value)):
        wanted = f"a str among {sorted(words)} or a float in the range {interval}"
        raise ValueError(_message(owner, name, wanted, value))


def check_per_row(values: Any, n_rows: int, source: str) -> None:
    """Check that `source` returned a tensor of shape (n_rows,); ValueError otherwise."""
    shape = tuple(values.shape) if isinstance(values, Tensor) else None
    if shape != (n_rows,):
        raise ValueError(
            f"{source} must return one value per row, a tensor of shape ({n_rows},), but returned "
            f"{repr(values) if shape is None else f'shape {shape}'}."
        )


def _message(owner: object, name: str, wanted: str, value: Any) -> str:
    return (
        f"The {name!r} parameter of {type(owner).__name__} must be {wanted}. Got {value!r} instead."
    )


def lies_in(interval: str, value: Any) -> bool:
    """Return whether `value` is a real number in the interval; bools and NaN are not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    low, high = (float(border) for border in interval[1:-1].split(","))
    number = float(value)
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    return above and below


def is_built_in(part: object) -> bool:
    """Return whether a part is the package's own, which checks its parameters when it is bound."""
    return type(part).__module__.startswith("skae.")
