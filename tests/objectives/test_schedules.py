"""Tests of the schedules: their values along the way, and as weights of terms."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.base import clone

from skae.objectives import L2, CosineDecay, ExponentialDecay, LinearWarmup, Objective, SquaredError
from skae.objectives._schedules import value_at


@pytest.mark.parametrize(
    ("schedule", "start", "quarter", "middle", "end"),
    [
        (LinearWarmup(), 0.0, 1.0, 1.0, 1.0),
        (LinearWarmup(fraction=1.0, end=0.1, start=0.3), 0.3, 0.25, 0.2, 0.1),
        (LinearWarmup(fraction=0.5, end=4.0), 0.0, 2.0, 4.0, 4.0),
        (CosineDecay(), 1e-3, 0.5e-3 * (1 + 0.5**0.5), 0.5e-3, 0.0),
        (CosineDecay(start=3.0, end=1.0), 3.0, 2 + 0.5**0.5, 2.0, 1.0),
        (ExponentialDecay(), 1e-3, 10**-3.5, 1e-4, 1e-5),
        (ExponentialDecay(start=1.0, end=16.0), 1.0, 2.0, 4.0, 16.0),
    ],
    ids=str,
)
def test_values_along_the_way(schedule, start, quarter, middle, end):
    """The ends are met exactly, and the points between them lie on the curve."""
    assert (schedule(0.0), schedule(1.0)) == (start, end)
    assert schedule(0.25) == pytest.approx(quarter)
    assert schedule(0.5) == pytest.approx(middle)


@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        (LinearWarmup(fraction=0.0), "fraction"),
        (ExponentialDecay(start=0.0), "start"),
        (ExponentialDecay(end=-1.0), "end"),
    ],
)
def test_parameters_are_checked(schedule, name):
    """What the curve is not defined for is refused in scikit-learn's words."""
    with pytest.raises(ValueError, match=f"'{name}' .* {type(schedule).__name__} must be a float"):
        schedule(0.5)


def test_a_number_is_its_own_schedule():
    """A plain number stays what it is, a schedule is asked."""
    assert value_at(0.3, 0.5) == 0.3
    assert value_at(LinearWarmup(fraction=1.0), 0.3) == pytest.approx(0.3)


def test_an_objective_s_weights_follow_its_progress():
    """The weight is the schedule's value where training stands; at first, that of its end."""
    x, z = torch.ones(2, 3), torch.ones(2, 2)
    out = SimpleNamespace(x_hat=2 * x, z=z, x_in=x)
    objective = Objective(SquaredError(), L2(weight=LinearWarmup(fraction=0.5, end=10.0)))
    totals = [objective(x, out)[0].item()]
    for progress in (0.0, 0.25, 0.75):
        objective.progress = progress
        totals.append(objective(x, out)[0].item())

    assert totals == [3 + 20, 3, 3 + 10, 3 + 20]


def test_schedules_are_nested_parameters():
    """A term's schedule is cloned with it and reached by set_params, as a search would."""
    term = L2(weight=LinearWarmup(end=2.0))
    copy = clone(term).set_params(weight__end=5.0)

    assert (term.weight.end, copy.weight.end) == (2.0, 5.0)
    assert repr(copy) == "L2(weight=LinearWarmup(end=5.0))"
