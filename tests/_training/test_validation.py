"""Tests of validation: patience, the best state, and the start that competes with it."""

import numpy as np
import pytest
import torch

from skae._training.validation import BestState, ValidationPlan


def losses(mean, spread=0.0, n_rows=25):
    """Return losses of rows with a mean and a standard deviation."""
    draws = torch.tensor(np.random.default_rng(0).normal(size=n_rows))
    return mean + spread * (draws - draws.mean()) / draws.std()


def run(means, *, finished=True, **plan):
    """Return the state after a start of loss 9 and epochs of other losses, and its snapshots."""
    start = [torch.zeros(1)]
    best = BestState(ValidationPlan(stops_training=True, **plan), losses(9.0), start)
    snapshots = [[torch.full((1,), mean)] for mean in means]
    for mean, snapshot in zip(means, snapshots, strict=True):
        best.update(losses(mean), snapshot, schedules_finished=finished)
    return best, snapshots


def test_the_smallest_loss_is_kept_and_the_first_of_equals():
    """Later epochs must be better, not as good."""
    best, snapshots = run([5.0, 3.0, 3.0, 4.0])
    kept, loss = best.choose()
    assert kept is snapshots[1]
    assert loss == best.loss == 3.0


@pytest.mark.parametrize(
    ("means", "tol", "counter"),
    [
        ([5.0], 0.0, 0),
        ([5.0, 5.0], 0.0, 1),
        ([5.0, 4.0, 4.5, 4.2], 0.0, 2),
        ([5.0, 4.95, 4.94], 0.1, 2),
        ([5.0, 4.95, 4.8], 0.1, 0),
        ([5.0, 6.0, 4.0], 0.0, 0),
    ],
)
def test_patience_counts_epochs_without_a_gain_on_the_best(means, tol, counter):
    """A gain of less than tol counts as none, and is kept all the same."""
    best, _ = run(means, tol=tol, n_iter_no_change=2)
    assert best.n_epochs_without_gain == counter
    assert best.out_of_patience == (counter >= 2)
    assert best.loss == min(means)


def test_epochs_before_schedules_are_finished_cost_no_patience():
    """Their losses are of another objective than the last."""
    best, _ = run([5.0, 6.0, 7.0], finished=False)
    assert best.n_epochs_without_gain == 0


@pytest.mark.parametrize("competes", [True, False])
def test_without_epochs_the_start_is_what_there_is(competes):
    """It is restored, and its loss is known."""
    best, _ = run([], start_competes=competes)
    assert best.choose() == (best.start, 9.0)


@pytest.mark.parametrize(("errors", "left"), [(0.9, False), (1.1, True)])
def test_the_start_is_left_for_more_than_one_standard_error(errors, left):
    """The error is that of the mean of paired gains, whatever the rows' own spread."""
    plan, spread, n_rows = ValidationPlan(start_competes=True), 0.5, 25
    hard = torch.linspace(0, 100, n_rows)
    best = BestState(plan, hard + losses(0.0, spread), [torch.zeros(1)])
    gain, epoch = errors * spread / n_rows**0.5, [torch.ones(1)]
    best.update(hard - gain, epoch, schedules_finished=True)
    assert best.choose()[0] is (epoch if left else best.start)


def test_one_row_does_not_tell_noise_from_gain():
    """The start is kept."""
    best = BestState(ValidationPlan(start_competes=True), losses(9.0)[:1], [torch.zeros(1)])
    best.update(losses(1.0)[:1], [torch.ones(1)], schedules_finished=True)
    assert best.choose() == (best.start, 9.0)


def test_what_may_be_restored_is_held():
    """The start and the best epoch are not to be overwritten, others are."""
    best, snapshots = run([5.0, 3.0, 4.0])
    assert best.holds(best.start)
    assert [best.holds(each) for each in snapshots] == [False, True, False]
