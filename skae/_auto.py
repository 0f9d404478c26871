"""Defaults: what "auto" stands for, as a function of the data's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

_NARROWEST, _WIDEST = 64, 512
_FEWEST_PER_BATCH, _MOST_PER_BATCH = 32, 512
_STEPS_PER_EPOCH = 200
_FEWEST_HELD_OUT = 5


def hidden_widths(sizes: Sequence[int] | str, n_features: int) -> list[int]:
    """Return the encoder's hidden widths; "auto" is about twice the row's width, then half that."""
    if isinstance(sizes, str):
        width = min(max(_power_of_two(2 * n_features), _NARROWEST), _WIDEST)
        return [width, width // 2]
    return [int(width) for width in sizes]


def rows_per_batch(batch_size: int | str, n_samples: int) -> int:
    """Return the rows per step; "auto" gives about 200 steps an epoch, with 32 to 512 rows."""
    if isinstance(batch_size, str):
        rows = _power_of_two(n_samples / _STEPS_PER_EPOCH)
        return min(max(rows, _FEWEST_PER_BATCH), _MOST_PER_BATCH)
    return int(batch_size)


def count_held_out(early_stopping: bool | str, fraction: float, n_samples: int) -> int:
    """Return how many rows are held out; "auto" wants 5 or more, none of fewer than 10.

    Raises
    ------
    ValueError
        If ``early_stopping=True`` leaves no row to train on.
    """
    wanted = math.ceil(fraction * n_samples)
    if early_stopping == "auto":
        enough = n_samples >= 2 * _FEWEST_HELD_OUT
        return min(max(wanted, _FEWEST_HELD_OUT), n_samples - 1) if enough else 0
    if early_stopping and wanted >= n_samples:
        raise ValueError(
            f"early_stopping=True leaves no row to train on with n_samples={n_samples} and "
            f"validation_fraction={fraction}. Use early_stopping='auto'."
        )
    return wanted if early_stopping else 0


def _power_of_two(value: float) -> int:
    """Return the power of two next to a number, at least 1."""
    return int(2 ** round(math.log2(max(value, 1))))
