"""Tests of the learner: several runs side by side are what each is alone, and stop together."""

from copy import deepcopy
from unittest.mock import patch

import numpy as np
import pytest
import torch

from skae._data.batches import ResidentRows
from skae._training.learner import Learner, Run
from skae._training.loop import train
from skae._training.step import Step
from skae._training.validation import ValidationPlan, ValidationSet
from skae.modules import MLP, VAE, Autoencoder
from skae.objectives import Gaussian, KLDivergence, Objective, SquaredError

HELD_OUT = (10, 14, 25)


def generator(seed=0):
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def make_run(fold, noted=None, variational=False):
    """Return a run of a fold with a generator of its own, whose weights are noted by epoch."""
    rows = torch.randn(60, 5, generator=generator(1)) @ torch.randn(5, 5, generator=generator(2))
    n_encoded = 4 if variational else 2
    encoder = MLP(5, n_encoded, [8], generator=generator(10 + fold))
    decoder = MLP(2, 5, [8], generator=generator(20 + fold))
    if variational:
        core = VAE(encoder, decoder, Gaussian(), 2)
        objective = Objective(Gaussian(), KLDivergence())
    else:
        core = Autoencoder(encoder, decoder)
        objective = Objective(SquaredError())
    step = Step(core, objective, generator(fold), learning_rate=0.01)
    held_out, n = np.arange(60) // 20 == fold, HELD_OUT[fold]
    note = (lambda: noted.append(step.weights.clone())) if noted is not None else lambda: None
    parts = ResidentRows(rows[~held_out]), ResidentRows(rows[:n])
    return Run(step, parts[0], 16, parts[1], note)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("variational", [False, True])
def test_runs_side_by_side_are_what_each_is_alone(variational):
    """Weights to the last bit; training losses are the mean over runs, held-out ones over rows."""
    plan, how = ValidationPlan(stops_training=True), dict(max_epochs=5, progress=lambda e: e / 5)
    together, alone, curves = [[], [], []], [[], [], []], []
    runs = [make_run(fold, together[fold], variational) for fold in range(3)]
    history = train(runs, plan, **how)
    for fold in range(3):
        curves.append(train([make_run(fold, alone[fold], variational)], plan, **how))

    for one, other in zip(together, alone, strict=True):
        assert torch.equal(torch.stack(one), torch.stack(other))
    losses = np.mean([each.loss_curve for each in curves], axis=0)
    held_out = np.average([each.validation_loss_curve for each in curves], axis=0, weights=HELD_OUT)
    np.testing.assert_allclose(history.loss_curve, losses, rtol=1e-12)
    np.testing.assert_allclose(history.validation_loss_curve, held_out, rtol=1e-12)


def test_runs_stop_together_by_the_loss_of_all_rows():
    """One run still improves and has fewer rows; all go back to the epoch that is best in all."""
    noted = [[], []]
    runs = [make_run(0, noted[0]), make_run(1, noted[1])]
    script = iter([9.0, 9.0, 5.0, 5.0, 4.0, 5.75, 3.0, 6.5, 2.0, 2.0])

    def losses(validation):
        return next(script) + torch.zeros(validation.rows.n_rows, dtype=torch.float64)

    plan = ValidationPlan(stops_training=True, n_iter_no_change=2)
    with patch.object(ValidationSet, "losses", losses):
        history = train(runs, plan, max_epochs=50, progress=lambda epoch: 0.0)

    expected = [5.0, (10 * 4 + 14 * 5.75) / 24, (10 * 3 + 14 * 6.5) / 24]
    assert history.validation_loss_curve == pytest.approx(expected)
    assert history.best.choose().n_epochs == 1
    for run, weights in zip(runs, noted, strict=True):
        assert len(weights) == 3
        assert torch.equal(run.step.weights, weights[0])


def test_groups_are_folds_or_halves():
    """Rows of one validation set take turns; those of several belong to theirs."""
    assert Learner([make_run(0)]).groups().tolist() == [0, 1] * 5
    expected = [0] * 10 + [1] * 14 + [2] * 25
    assert Learner([make_run(fold) for fold in range(3)]).groups().tolist() == expected


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_evaluated_and_kept_is_the_average(compiled):
    """Held-out losses are those of a snapshot's weights, from which the iterate is far."""
    run = make_run(0)
    core = run.step.core
    step = Step(core, run.step.objective, generator(), learning_rate=0.1, compiled=compiled)
    learner = Learner([Run(step, run.rows, 16, run.held_out)])
    for _ in range(3):
        learner.epoch(0.0)
    apart, _, _, weights, *_ = learner.snapshot()[0]
    losses = learner.losses()

    def losses_at(point):
        twin = deepcopy(core)
        torch.nn.utils.vector_to_parameters(point, sorted_for_decay(twin))
        x = run.held_out.values
        return (twin(x).x_hat - x).square().sum(1).detach().double()

    assert torch.equal(weights, step.weights)
    torch.testing.assert_close(losses, losses_at(weights), rtol=1e-5, atol=1e-6)
    assert (losses_at(weights + apart) - losses).abs().max() > 1e-3


def sorted_for_decay(core):
    """Return parameters in the order of the flat vector: weight matrices, then biases."""
    return sorted(core.parameters(), key=lambda parameter: parameter.ndim < 2)


def test_all_runs_slow_down_and_go_back():
    """A run that diverges takes the others with it: all are restored."""
    runs = [make_run(fold) for fold in range(2)]
    learner = Learner(runs)
    saved = learner.snapshot()
    before = [run.step.weights.clone() for run in runs]
    learner.epoch(0.0)
    assert not any(torch.equal(run.step.weights, w) for run, w in zip(runs, before, strict=True))
    learner.restore(saved)
    learner.slow_down(0.1)
    assert all(torch.equal(run.step.weights, w) for run, w in zip(runs, before, strict=True))
    assert [run.step.rate for run in runs] == [pytest.approx(0.001)] * 2 == [learner.rate] * 2
