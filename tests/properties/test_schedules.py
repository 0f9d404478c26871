"""Schedules: their ends are exact, they stay between them, and go one way."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skae.objectives import CosineDecay, ExponentialDecay, LinearWarmup, Schedule
from skae.objectives._schedules import value_at

NUMBERS = st.floats(-1e100, 1e100)
POSITIVE = st.floats(1e-100, 1e100)
PROGRESS = st.floats(0, 1)
SCHEDULES = st.one_of(
    st.builds(LinearWarmup, fraction=st.floats(0, 1, exclude_min=True), start=NUMBERS, end=NUMBERS),
    st.builds(CosineDecay, start=NUMBERS, end=NUMBERS),
    st.builds(ExponentialDecay, start=POSITIVE, end=POSITIVE),
)


@given(schedule=SCHEDULES)
def test_ends_are_exact(schedule):
    """At the start and at the end of training a schedule is what it was asked to be."""
    assert schedule(0.0) == schedule.start
    assert schedule(1.0) == schedule.end


@given(schedule=SCHEDULES, progress=PROGRESS)
def test_values_lie_between_the_ends(schedule, progress):
    """No value is beyond both ends by more than a rounding."""
    low, high = sorted([schedule.start, schedule.end])
    rounding = 1e-12 * max(abs(low), abs(high))
    assert low - rounding <= schedule(progress) <= high + rounding


@given(schedule=SCHEDULES, progress=st.tuples(PROGRESS, PROGRESS).map(sorted))
def test_schedules_are_monotone(schedule, progress):
    """Values go from the start towards the end and never back by more than a rounding."""
    earlier, later = map(schedule, progress)
    step = (later - earlier) * math.copysign(1, schedule.end - schedule.start)
    assert step >= -1e-12 * max(abs(schedule.start), abs(schedule.end))


@given(schedule=st.builds(LinearWarmup, fraction=st.floats(0.01, 1)), progress=PROGRESS)
def test_a_warm_up_is_over_after_its_fraction(schedule, progress):
    """From then on the value is the end, exactly."""
    assert (schedule(progress) == 1) == (progress / schedule.fraction >= 1)


@given(number=st.floats(0, 1e100), progress=PROGRESS)
def test_a_number_is_itself_at_any_progress(number, progress):
    """A number is its own constant schedule."""
    assert value_at(number, progress) == number


class Constant(Schedule):
    """A schedule that may return anything."""

    def __init__(self, value=None):
        self.value = value

    def __call__(self, progress):
        """Return what it was given."""
        return self.value


@given(
    value=st.none() | st.booleans() | st.just("1") | st.floats() | st.integers(), progress=PROGRESS
)
def test_what_a_schedule_returns_is_checked(value, progress):
    """It is a number in the range that is asked for, or an error that shows schedule and value."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        assert value_at(Constant(value), progress) == value
        return
    with pytest.raises(ValueError, match="must return floats in the range") as error:
        value_at(Constant(value), progress)
    assert repr(value) in str(error.value)


@given(schedule=SCHEDULES, progress=PROGRESS)
def test_schedules_in_range_pass_the_check(schedule, progress):
    """A built-in schedule between two numbers of a range never leaves the range."""
    least = min(schedule.start, schedule.end)
    interval = "[0, inf)" if least >= 0 else "(-inf, inf)"
    assert value_at(schedule, progress, interval) == schedule(progress)
