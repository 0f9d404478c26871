"""Tests of what "auto" stands for, at the borders where it changes."""

import math

import pytest

from skae._training.defaults import (
    count_folds,
    count_starts,
    hidden_widths,
    most_epochs,
    patience,
    rows_per_batch,
    rows_per_fold,
    step_size,
)
from skae.objectives import LinearWarmup


@pytest.mark.parametrize(
    ("widths", "n_features", "expected"),
    [
        ([64], 5, 0.02),
        ([8], 5000, 0.02),
        ([64, 512, 16], 5, 0.005),
        ([4096], 5, 0.00125),
        # without hidden layers it is that of the layers that there would be
        ([], 5, 0.02),
        ([], 64, 0.02 / math.cbrt(2) ** 2),
        ([], 10_000, 0.005),
    ],
)
def test_the_step_size_falls_with_the_widest_layer(widths, n_features, expected):
    """It is 0.02 up to 64 units, a quarter for eight times as many, and 0.0025 for users' nets."""
    assert step_size("auto", widths, n_features, custom=False) == pytest.approx(expected, rel=1e-12)
    assert step_size("auto", widths, n_features, custom=True) == 0.0025
    assert step_size("auto", widths, n_features, custom=False, architecture=True) == 0.005
    if not widths:
        same = step_size("auto", hidden_widths("auto", n_features), n_features, custom=False)
        assert same == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rate", [0.3, LinearWarmup(0.5)])
@pytest.mark.parametrize("custom", [False, True])
def test_a_given_step_size_is_taken(rate, custom):
    """Whatever the network is."""
    assert step_size(rate, [512], 5, custom=custom) is rate


@pytest.mark.parametrize(
    ("batch_size", "n_samples", "expected"),
    [
        (10, 390, 206),  # 39 steps an epoch
        (10, 400, 200),
        (10, 401, 200),
        ("auto", 64, 8000),
        ("auto", 65, 4000),
        ("auto", 10**6, 200),
        (10**6, 5, 8000),
    ],
)
def test_epochs_are_200_or_make_8000_steps(batch_size, n_samples, expected):
    """No fewer than either."""
    found = most_epochs("auto", batch_size, n_samples)
    steps = math.ceil(n_samples / rows_per_batch(batch_size, n_samples))
    assert found == expected
    assert found * steps >= 8000
    assert found == 200 or (found - 1) * steps < 8000
    assert most_epochs(7, batch_size, n_samples) == 7
    assert most_epochs(0, batch_size, n_samples) == 0


@pytest.mark.parametrize(
    ("batch_size", "n_samples", "expected"),
    [
        (10, 390, 6),
        (10, 400, 5),
        (10, 401, 5),
        ("auto", 64, 40),
        ("auto", 10**6, 5),
        (1, 199, 5),
        (10, 50, 40),
        (10, 60, 34),
    ],
)
def test_patience_is_5_epochs_or_200_steps(batch_size, n_samples, expected):
    """No fewer than either, and no more than 40 epochs."""
    assert patience("auto", batch_size, n_samples) == expected
    assert patience(3, batch_size, n_samples) == 3


@pytest.mark.parametrize(
    ("n_samples", "n_folds"),
    [(1, 0), (9, 0), (10, 5), (499, 5), (500, 3), (999, 3), (1000, 2), (1999, 2), (2000, 0)],
)
def test_small_tables_have_folds(n_samples, n_folds):
    """More of them, the fewer rows there are; tables of 10 to 1999 rows have some."""
    assert count_folds(n_samples, 3) == n_folds


@pytest.mark.parametrize(("n_samples", "n_features"), [(10, 20_001), (1999, 101)])
def test_large_tables_are_cross_fitted_once(n_samples, n_features):
    """They hold out one fold, and are trained as a whole from one start."""
    assert count_folds(n_samples, n_features) == count_starts(n_samples, n_features) == 1
    assert count_folds(n_samples, n_features - 1) > 1
    assert count_starts(n_samples, n_features - 1) > 1


@pytest.mark.parametrize("n_samples", [10, 11, 12, 13, 14, 15, 499])
def test_five_folds_hold_out_each_row(n_samples):
    """The last may have fewer rows, but some, and none holds out more than a fifth, rounded up."""
    each = rows_per_fold(n_samples)
    assert each == -(-n_samples // 5)
    assert 5 * each >= n_samples
