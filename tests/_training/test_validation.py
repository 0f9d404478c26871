"""Tests of validation: patience, the best state, and the start that competes with it."""

import numpy as np
import pytest
import torch

from skae._training.validation import BestState, ValidationPlan


def losses(mean, spread=0.0, n_rows=25):
    """Return losses of rows with a mean and a standard deviation."""
    draws = torch.tensor(np.random.default_rng(0).normal(size=n_rows))
    return mean + spread * (draws - draws.mean()) / draws.std()


def snapshot(value):
    """Return a snapshot of one network with one tensor."""
    return [[torch.full((1,), float(value))]]


def one_group(n_rows=25):
    """Return the groups of rows that are all compared at the best epoch of all."""
    return torch.zeros(n_rows, dtype=torch.int64)


def run(means, *, is_final=True, **plan):
    """Return the state after a start of loss 9 and epochs of other losses, and its snapshots."""
    plan = ValidationPlan(stops_training=True, **plan)
    best = BestState(plan, losses(9.0), snapshot(0), one_group())
    snapshots = [snapshot(mean) for mean in means]
    for mean, each in zip(means, snapshots, strict=True):
        best.update(losses(mean), each, is_final=is_final)
    return best, snapshots


def test_the_smallest_loss_is_kept_and_the_first_of_equals():
    """Later epochs must be better, not as good."""
    best, snapshots = run([5.0, 3.0, 3.0, 4.0])
    kept = best.choose()
    assert kept.snapshot is snapshots[1]
    assert kept.n_epochs == 2
    assert kept.loss == best.loss == 3.0


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


def test_epochs_before_weights_are_final_cost_no_patience():
    """Their losses are of another objective than the last."""
    best, _ = run([5.0, 6.0, 7.0], is_final=False)
    assert best.n_epochs_without_gain == 0


def test_epochs_before_weights_are_final_are_no_bar():
    """Later ones are compared among each other; the best of all is kept."""
    best, snapshots = run([5.0, 4.0], is_final=False)
    for mean, counter in [(8.0, 0), (7.0, 0), (7.5, 1)]:
        best.update(losses(mean), snapshot(mean), is_final=True)
        assert best.n_epochs_without_gain == counter
    assert best.choose().snapshot is snapshots[1]


@pytest.mark.parametrize("competes", [True, False])
def test_without_epochs_the_start_is_what_there_is(competes):
    """It is restored, and its loss is known."""
    best, _ = run([], start_competes=competes)
    assert best.choose() is best.start
    assert best.choose().loss == 9.0


@pytest.mark.parametrize("n_groups", [1, 2, 5])
@pytest.mark.parametrize(("n_rows", "needed"), [(20, 2.0), (25, 2.0), (50, 1.5), (2500, 1.01)])
@pytest.mark.parametrize(("share", "left"), [(0.95, False), (1.05, True)])
def test_the_start_is_left_for_some_standard_errors(share, left, n_rows, needed, n_groups):
    """The error is that of the mean of paired gains; of few rows it takes two of them."""
    plan, spread, errors = ValidationPlan(start_competes=True), 0.5, share * needed
    hard, groups = torch.linspace(0, 100, n_rows), torch.arange(n_rows) % n_groups
    best = BestState(plan, hard + losses(0.0, spread, n_rows), snapshot(0), groups)
    gain, epoch = errors * spread / n_rows**0.5, snapshot(1)
    best.update(hard - gain, epoch, is_final=True)
    assert best.choose().snapshot is (epoch if left else best.start.snapshot)


def test_one_row_does_not_tell_noise_from_gain():
    """The start is kept."""
    plan = ValidationPlan(start_competes=True)
    best = BestState(plan, losses(9.0)[:1], snapshot(0), one_group(1))
    best.update(losses(1.0)[:1], snapshot(1), is_final=True)
    assert best.choose() is best.start


def test_what_may_be_restored_is_held():
    """The start and the best epoch are not to be overwritten, others are."""
    best, snapshots = run([5.0, 3.0, 4.0])
    assert best.holds(best.start.snapshot)
    assert [best.holds(each) for each in snapshots] == [False, True, False]


def of_groups(epochs, **plan):
    """Return the state of three groups of two rows each, with a mean loss per group and epoch."""
    groups = torch.tensor([0, 0, 1, 1, 2, 2])
    start = torch.full((6,), 10.0, dtype=torch.float64)
    best = BestState(ValidationPlan(**plan), start, snapshot(0), groups)
    for i, means in enumerate(epochs):
        rows = torch.tensor(means, dtype=torch.float64).repeat_interleave(2)
        best.update(rows + torch.tensor([-0.5, 0.5] * 3), snapshot(1 + i), is_final=True)
    return best


def test_a_group_is_compared_at_the_epoch_that_the_others_choose():
    """Its own losses have no say, and rows gain what they do at that epoch."""
    best = of_groups([[2.0, 8.0, 4.0], [4.0, 4.0, 9.0], [9.0, 5.0, 3.0]])
    assert best.choose().n_epochs == 1
    assert [best.chosen_without(group).n_epochs for group in range(3)] == [3, 1, 2]
    gains, noise = [10 - 9, 10 - 8, 10 - 9], torch.tensor([0.5, -0.5] * 3)
    expected = torch.tensor(gains).repeat_interleave(2) + noise
    torch.testing.assert_close(best.gains(), expected.double())


def test_what_groups_choose_is_held():
    """These epochs are asked for again when all are through."""
    best = of_groups([[2.0, 8.0, 4.0], [4.0, 4.0, 9.0], [9.0, 5.0, 3.0], [9.0, 9.0, 9.0]])
    assert all(best.holds(best.chosen_without(group).snapshot) for group in range(3))
    assert not best.holds(snapshot(4))


@pytest.mark.parametrize(("gain", "n_epochs"), [(-0.2, 0), (0.2, 1)])
def test_the_mean_of_gains_decides_about_the_start(gain, n_epochs):
    """An epoch that is best by chance of one group is not kept; one that all gain by is."""
    lucky = [-80.0, 11.0, 11.0]
    epochs = [[10.0 - gain] * 3, lucky] if gain < 0 else [[10.0 - 10 * gain] * 3]
    best = of_groups(epochs, start_competes=True)
    assert best.loss < best.start.loss
    assert best.choose().n_epochs == n_epochs


@pytest.mark.parametrize("n_groups", [2, 5])
def test_selection_does_not_flatter_gains(n_groups):
    """Of epochs that differ by noise alone the best seems to gain; by groups the mean is zero.

    With 200 tables of 40 rows and 30 epochs either mean has a standard error below 0.016.
    """
    random = np.random.default_rng(0)
    groups, naive, honest = torch.arange(40) % n_groups, [], []
    for _ in range(200):
        start, *epochs = torch.tensor(random.normal(size=(31, 40)))
        best = BestState(ValidationPlan(), start, snapshot(0), groups)
        for i, each in enumerate(epochs):
            best.update(each, snapshot(i), is_final=True)
        naive.append(float((start - best.choose().losses).mean()))
        honest.append(float(best.gains().mean()))
    assert np.mean(naive) > 0.2
    assert abs(np.mean(honest)) < 0.06
