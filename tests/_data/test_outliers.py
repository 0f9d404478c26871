"""Tests of what is an outlier."""

import numpy as np
import pytest
from scipy import stats

from skae._data.outliers import deviation, within_reach


def test_deviation_is_that_of_a_gaussian():
    """The scaled median absolute value is SciPy's."""
    values = np.random.default_rng(0).normal(size=(1001, 3))
    expected = stats.median_abs_deviation(
        values, center=lambda x, axis: 0 * x.mean(axis), scale="normal"
    )

    np.testing.assert_allclose(deviation(values), expected, rtol=1e-4)


def test_reach_is_seven_deviations_beyond_the_median():
    """On either side of the border a row is kept, or not; near ones always are."""
    distances = np.arange(101.0)
    border = 50 + 7 * 1.4826 * 25
    distances[-2:] = border - 1e-9, border + 1e-9

    assert np.flatnonzero(~within_reach(distances)).tolist() == [100]


@pytest.mark.parametrize(
    ("distances", "left_out"),
    [
        ([0.0] * 6 + [5.0], []),  # most are at the centre: there is no unit to measure in
        ([1.0] * 6 + [5.0, 9.0], [7]),  # equal ones: the unit is the distance itself
        ([-3.0, -2.0, -1.0, 0.5, 1e6], [4]),  # losses may be negative
        ([1.0], []),
    ],
)
def test_degenerate_distances_have_a_reach(distances, left_out):
    """Where most distances are the same, few rows are left out, and never most of them."""
    assert np.flatnonzero(~within_reach(np.array(distances))).tolist() == left_out


def test_shift_and_scale_do_not_matter():
    """Losses in other units have the same outliers."""
    losses = np.random.default_rng(0).standard_t(2, size=500)

    assert 0 < (~within_reach(losses)).sum() < 100
    np.testing.assert_array_equal(within_reach(losses), within_reach(7 * losses - 100))
