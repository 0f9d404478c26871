"""Defaults: what "auto" stands for, as a function of the data's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_NARROWEST, _WIDEST = 64, 512
_NARROWEST_PRIOR = 32
_STEPS_OF_PRIOR, _EPOCHS_OF_PRIOR = 1500, (5, 100)
_FEWEST_PER_BATCH, _MOST_PER_BATCH = 64, 512
_STEPS_PER_EPOCH = 200
_FEWEST_HELD_OUT = 5
_RATE, _RATE_OF_ARCHITECTURE, _RATE_OF_CUSTOM = 2e-2, 5e-3, 2.5e-3
_FEWEST_EPOCHS, _FEWEST_STEPS = 200, 8000
_PATIENT_EPOCHS, _PATIENT_STEPS, _MOST_PATIENT_EPOCHS = 5, 200, 40
# Tables of fewer rows than these are cross-fitted in so many folds, and those of more values than
# this in one, and trained as a whole from one start.
_FOLDS = ((10, 0), (500, 5), (1000, 3), (2000, 2))
_LARGE = 200_000
_HELD_OUT_OF_FOLD = 0.2
_STEPS_OF_WARMUP, _LONGEST_WARMUP = 2000, 0.5
_STEPS_PER_CALL, _MOST_EPOCHS_PER_CALL, _ROWS_PER_EPOCH = 64, 8, 6
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
    """Return the rows per step; "auto" gives about 200 steps an epoch, with 64 to 512 rows."""
    if batch_size is None or isinstance(batch_size, str):
        rows = _power_of_two(n_samples / _STEPS_PER_EPOCH)
        return min(max(rows, _FEWEST_PER_BATCH), _MOST_PER_BATCH)
    return int(batch_size)


def step_size(
    rate: Any, widths: Sequence[int], n_features: int, *, custom: bool, architecture: bool = False
) -> Any:
    """Return the learning rate; "auto" is 0.02 for widths up to 64, and a quarter at 512.

    Wide layers add up the steps of more weights [1]_. A linear map counts as the layers that it
    would have by default; for other architectures it is 0.005 (6000 images of MNIST, 32 codes,
    15 epochs: squared errors of 6.2, 5.7 and 5.8 with half of it, with it and with twice as much)
    and for networks of the user's 0.0025.

    References
    ----------
    .. [1] Yang et al., "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot
       Hyperparameter Transfer", 2022.
    """
    if not isinstance(rate, str):
        return rate
    if custom or architecture:
        return _RATE_OF_CUSTOM if custom else _RATE_OF_ARCHITECTURE
    widest = max(widths or hidden_widths("auto", n_features))
    return _RATE * (_NARROWEST / max(widest, _NARROWEST)) ** (2 / 3)


def most_epochs(max_iter: int | str, batch_size: int | str, n_samples: int) -> int:
    """Return the largest number of epochs; "auto" is 200, or as many as make 8000 steps."""
    if not isinstance(max_iter, str):
        return int(max_iter)
    return max(_FEWEST_EPOCHS, _epochs_of(_FEWEST_STEPS, batch_size, n_samples))


def patience(n_iter_no_change: int | str, batch_size: int | str, n_samples: int) -> int:
    """Return the epochs without improvement that end training.

    "auto" is 5, or as many as make 200 steps, but no more than 40.
    """
    if not isinstance(n_iter_no_change, str):
        return int(n_iter_no_change)
    epochs = _epochs_of(_PATIENT_STEPS, batch_size, n_samples)
    return min(max(_PATIENT_EPOCHS, epochs), _MOST_PATIENT_EPOCHS)


def share_of_warmup(max_epochs: int, batch_size: int | str, n_samples: int) -> float:
    """Return in which share of the planned epochs a weight is warmed up: of about 2000 steps."""
    epochs = _epochs_of(_STEPS_OF_WARMUP, batch_size, n_samples)
    return min(epochs / max(max_epochs, 1), _LONGEST_WARMUP)


def _epochs_of(n_steps: int, batch_size: int | str, n_samples: int) -> int:
    steps_per_epoch = math.ceil(n_samples / rows_per_batch(batch_size, n_samples))
    return math.ceil(n_steps / steps_per_epoch)


def count_folds(n_samples: int, n_features: int) -> int:
    """Return in how many folds a table is cross-fitted; 0 is for tables that are not."""
    n_folds = next((n_folds for limit, n_folds in _FOLDS if n_samples < limit), 0)
    return min(n_folds, 1) if n_samples * n_features > _LARGE else n_folds


def count_starts(n_samples: int, n_features: int) -> int:
    """Return from how many starts a table that was cross-fitted is trained as a whole."""
    if n_samples * n_features > _LARGE:
        return 1
    return 3 if n_samples < _FOLDS[1][0] else 2


def rows_per_fold(n_samples: int) -> int:
    """Return how many rows a fold holds out: a fifth, so that five hold out each row once."""
    return math.ceil(_HELD_OUT_OF_FOLD * n_samples)


def epochs_per_call(batch_size: int | str | None, n_samples: int) -> int:
    """Return the epochs in which `partial_fit` trains a stream: those of 64 steps, 1 to 8.

    There are no more than a sixth of the rows, so that single rows are not learned by heart.
    Of digits in batches of 100 rows, which are 2 steps, one pass with 8 codes scores .70 with one
    epoch, .74 with two, .76 with four and eight, and .74 with sixteen (PCA .67).
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
