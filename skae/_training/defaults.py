"""Defaults: what "auto" stands for, as a function of the data's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

_NARROWEST, _WIDEST = 64, 512
_NARROWEST_PRIOR = 32
_STEPS_OF_PRIOR, _EPOCHS_OF_PRIOR = 1500, (5, 50)
_FEWEST_PER_BATCH, _MOST_PER_BATCH = 32, 512
_STEPS_PER_EPOCH = 200
_FEWEST_HELD_OUT = 5
_STEPS_PER_CALL, _MOST_EPOCHS_PER_CALL, _ROWS_PER_EPOCH = 64, 16, 6
_FEWEST_WIDE, _MOST_COORDINATES = 1024, 1024


def count_coordinates(n_samples: int, n_features: int, n_components: int) -> int:
    """Return in how many principal coordinates a network is trained; 0 is for all features.

    It pays for wide rows, with at least twice as many features as coordinates; up to 1025 rows have
    no more coordinates than these.
    """
    n_axes = min(n_samples, max(_MOST_COORDINATES, 2 * n_components))
    wide = n_samples < n_features and n_features >= _FEWEST_WIDE
    return n_axes if wide and 2 * n_axes <= n_features else 0


def hidden_widths(sizes: Sequence[int] | str, n_features: int) -> list[int]:
    """Return the encoder's hidden widths; "auto" is about twice the row's width, then half that."""
    if isinstance(sizes, str):
        width = min(max(_power_of_two(2 * n_features), _NARROWEST), _WIDEST)
        return [width, width // 2]
    return [int(width) for width in sizes]


def hidden_width_of_prior(n_hidden: int | str, n_codes: int) -> int:
    """Return the width of a prior's network; "auto" grows with the number of codes it learns from.

    For a million codes (MNIST, 16 of 512 values) a width of 512 takes 2.4 nats less than one of
    256; for 8000 codes one of 64 is nearer to the true distribution than 256 is.
    """
    if isinstance(n_hidden, str):
        width = _power_of_two(math.sqrt(n_codes) / 2)
        return min(max(width, _NARROWEST_PRIOR), _WIDEST)
    return int(n_hidden)


def epochs_of_prior(max_iter: int | str, n_samples: int) -> int:
    """Return the epochs in which a prior is trained; "auto" makes about 1500 steps.

    With half as many, small samples are not learned; with twice as many, little is gained.
    """
    if isinstance(max_iter, str):
        steps_per_epoch = math.ceil(n_samples / rows_per_batch("auto", n_samples))
        fewest, most = _EPOCHS_OF_PRIOR
        return min(max(_STEPS_OF_PRIOR // steps_per_epoch, fewest), most)
    return int(max_iter)


def rows_per_batch(batch_size: int | str | None, n_samples: int) -> int:
    """Return the rows per step; "auto" gives about 200 steps an epoch, with 32 to 512 rows."""
    if batch_size is None or isinstance(batch_size, str):
        rows = _power_of_two(n_samples / _STEPS_PER_EPOCH)
        return min(max(rows, _FEWEST_PER_BATCH), _MOST_PER_BATCH)
    return int(batch_size)


def epochs_per_call(batch_size: int | str | None, n_samples: int) -> int:
    """Return the epochs in which `partial_fit` trains a stream: those of 64 steps, 1 to 16.

    There are no more than a sixth of the rows, so that single rows are not learned by heart.
    Of digits in batches of 100 rows, which are 4 steps, one pass with 8 codes scores .70 with one
    epoch, .73 with two, .75 with four, .79 with eight and .80 with sixteen (PCA .67).
    """
    steps = math.ceil(n_samples / rows_per_batch(batch_size, n_samples))
    most = min(_MOST_EPOCHS_PER_CALL, n_samples // _ROWS_PER_EPOCH)
    return max(min(round(_STEPS_PER_CALL / steps), most), 1)


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
