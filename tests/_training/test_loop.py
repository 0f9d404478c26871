"""Tests of the loop: best epoch, early stopping, the start's claim, divergence."""

from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import pytest
import torch

from skae._data.batches import ResidentRows
from skae._training.learner import Run
from skae._training.loop import train
from skae._training.step import Step
from skae._training.validation import ValidationPlan, ValidationSet
from skae.exceptions import ConvergenceError, ConvergenceWarning
from skae.modules import MLP, Autoencoder
from skae.modules._custom import CustomNetwork
from skae.objectives import LinearWarmup, Objective, SquaredError


def generator(seed=0):
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


class Setting:
    """A small training run whose pieces can be tampered with."""

    def __init__(self, held_out=True, compiled=False):
        rows = torch.randn(60, 5, generator=generator(1))
        self.core = Autoencoder(
            MLP(5, 2, [8], generator=generator(2)), MLP(2, 5, [8], generator=generator(3))
        )
        objective = Objective(SquaredError())
        settings = dict(learning_rate=0.01, compiled=compiled)
        self.step = Step(self.core, objective, generator(), **settings)
        self.rows, validation = ResidentRows(rows[:40]), ResidentRows(rows[40:])
        self.validation = validation if held_out else None
        self.weights = []

    def run(self, script=None, **changes):
        """Train; `script` replaces the held-out losses, the start's first."""
        names = "stops_training", "start_competes", "n_iter_no_change", "tol"
        plan = {name: changes.pop(name) for name in names if name in changes}
        settings = dict(
            max_epochs=6,
            progress=lambda epoch: epoch / 6,
        )
        after_epoch = changes.pop("after_epoch", lambda: self.weights.append(self.now()))
        plan = ValidationPlan(**{"stops_training": True, **plan})
        runs = [Run(self.step, self.rows, 16, self.validation, after_epoch)]
        remaining = iter(script or [])

        def losses(validation):
            return next(remaining) + torch.zeros(20, dtype=torch.float64)

        with patch.object(ValidationSet, "losses", losses) if script else nullcontext():
            return train(runs, plan, **{**settings, **changes})

    def now(self):
        """Return a copy of the present weights."""
        return self.step.weights.clone()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_best_epoch_is_kept():
    """Of held-out losses 5, 3, 4, 6 the second epoch's weights come back."""
    setting = Setting()
    history = setting.run([9.0, 5.0, 3.0, 4.0, 6.0], max_epochs=4)

    assert history.validation_loss_curve == [5.0, 3.0, 4.0, 6.0]
    assert history.best_loss == 3.0
    assert torch.equal(setting.step.weights, setting.weights[1])


def test_training_stops_after_epochs_without_a_gain_of_tol():
    """Gains below tol on the best do not reset the patience, and the best is kept all the same."""
    setting = Setting()
    history = setting.run([9.0, 5.0, 4.95, 4.94, 1.0], n_iter_no_change=2, tol=0.1, max_epochs=50)

    assert history.n_epochs == 3
    assert history.best_loss == 4.94


@pytest.mark.parametrize("start_competes", [True, False])
def test_the_start_s_loss_is_known_without_epochs(start_competes):
    """It is that of what is kept."""
    history = Setting().run([2.0], max_epochs=0, start_competes=start_competes)

    assert history.best_loss == 2.0


def test_patience_looks_at_epochs_and_not_at_the_start():
    """While epochs improve on each other training goes on, whether one is kept or not."""
    setting = Setting()
    start = setting.step.weights.clone()
    script = [1.0, 9.0, 7.0, 5.0, 3.0, 4.0, 4.0]
    history = setting.run(script, n_iter_no_change=2, max_epochs=50, start_competes=True)

    assert history.n_epochs == 6
    assert history.best_loss == 1.0
    assert torch.equal(setting.step.weights, start)


def test_max_epochs_warns_only_while_the_loss_improves():
    """Ending early is told, with the limit and what to do."""
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2.*Increase max_iter"):
        Setting().run([9.0, 5.0, 4.0], max_epochs=2)


def test_without_held_out_rows_all_epochs_run_and_the_last_is_kept():
    """No epoch is chosen, none is skipped."""
    setting = Setting(held_out=False)
    history = setting.run(max_epochs=6, stops_training=False)

    assert history.n_epochs == 6
    assert history.best_loss == history.loss_curve[-1]
    assert torch.equal(setting.step.weights, setting.weights[-1])
    assert history.loss_curve[-1] < history.loss_curve[0]


@pytest.mark.parametrize(("gain", "kept"), [(0.5, False), (0.05, True)])
def test_without_early_stopping_the_last_epoch_is_weighed_against_the_start(gain, kept):
    """All epochs run, none is compared by itself; the start is kept for want of a gain."""
    setting = Setting()
    noise = torch.tensor(np.random.default_rng(0).normal(size=20))
    noise = (noise - noise.mean()) / noise.std() * 0.1 * 20**0.5
    start = setting.step.weights.clone()
    settings = dict(max_epochs=4, n_iter_no_change=1, stops_training=False, start_competes=True)
    history = setting.run([torch.zeros(20), noise - gain], **settings)

    assert history.n_epochs == 4
    assert history.validation_loss_curve == []
    assert torch.equal(setting.step.weights, start if kept else setting.weights[-1])


def test_early_stopping_waits_for_weights_that_change():
    """The first epoch of final weights is what later ones are compared with."""
    setting = Setting()
    setting.step.objective.terms[0].weight = LinearWarmup(0.5)
    script = [1.0, *[2.0] * 20]
    settings = dict(max_epochs=20, n_iter_no_change=3, progress=lambda epoch: epoch / 20)
    assert setting.run(script, **settings).n_epochs == 11 + 3

    setting = Setting()
    assert setting.run(script, **settings).n_epochs == 1 + 3


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_more_epochs_are_not_advised_where_a_weight_changes_all_along():
    """Then training ends when it was planned to."""
    setting = Setting()
    setting.step.objective.terms[0].weight = LinearWarmup(1.0)
    settings = dict(max_epochs=3, n_iter_no_change=2, progress=lambda epoch: epoch / 3)
    assert setting.run([1.0, *[2.0] * 3], **settings).n_epochs == 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("gain", "kept"), [(0.5, False), (0.05, True)])
def test_the_start_is_left_only_for_a_gain_beyond_its_noise(gain, kept):
    """With paired gains of standard error .1 a mean gain of .5 counts and one of .05 does not."""
    setting = Setting()
    noise = torch.tensor(np.random.default_rng(0).normal(size=20))
    noise = (noise - noise.mean()) / noise.std() * 0.1 * 20**0.5
    start = setting.step.weights.clone()
    history = setting.run([torch.zeros(20), noise - gain], max_epochs=1, start_competes=True)

    assert torch.equal(setting.step.weights, start) == kept
    assert history.best_loss == pytest.approx(0.0 if kept else -gain)


class Spoiling(ResidentRows):
    """Rows whose batches come with a weight that is not a number, in some epochs."""

    def __init__(self, setting, is_bad):
        super().__init__(setting.rows.values)
        self.weights, self.is_bad, self.n_epochs = setting.step.weights, is_bad, 0

    def epoch(self, *arguments):
        """Spoil a weight after the first step, or do not."""
        self.n_epochs += 1
        for x in super().epoch(*arguments):
            yield x
            if self.is_bad(self.n_epochs):
                self.weights[0] = float("nan")


def test_divergence_is_recovered_at_a_smaller_learning_rate():
    """One bad epoch goes back to the epoch before, and training runs to its end."""
    setting = Setting(held_out=False)
    setting.rows = Spoiling(setting, lambda epoch: epoch == 3)
    with pytest.warns(ConvergenceWarning, match=r"diverged in epoch 3.*learning_rate=1.0e-03"):
        history = setting.run(max_epochs=5, stops_training=False)

    assert history.n_epochs == 5
    assert bool(setting.step.weights.isfinite().all())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_divergence_that_persists_is_an_error():
    """After two smaller learning rates the error names the epoch and the remedy."""
    setting = Setting(held_out=False)
    setting.rows = Spoiling(setting, lambda epoch: True)
    with pytest.raises(ConvergenceError, match=r"epoch 1.*1\.0e-04.*Lower learning_rate"):
        setting.run(stops_training=False)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_validation_loss_that_is_not_finite_is_divergence(bad):
    """The epoch does not count, is not reported, and training goes on from the one before."""
    setting, reported = Setting(), []
    report = lambda history: reported.append(history.n_epochs)  # noqa: E731
    history = setting.run([9.0, 5.0, bad, 4.0], max_epochs=2, report=report)

    assert history.validation_loss_curve == [5.0, 4.0]
    assert reported == [1, 2]
    assert torch.equal(setting.step.weights, setting.weights[-1])
    assert setting.step.rate == pytest.approx(0.001)


class Interrupted(ResidentRows):
    """Rows of which the user loses patience in the second epoch, after the first batch."""

    n_epochs = 0

    def epoch(self, *arguments):
        """Yield batches, then raise."""
        self.n_epochs += 1
        for x in super().epoch(*arguments):
            yield x
            if self.n_epochs == 2:
                raise KeyboardInterrupt


@pytest.mark.parametrize("compiled", [True, False])
def test_an_interrupt_between_batches_is_passed_on(compiled):
    """The caller's modes and generator are as they were, and weights those of whole steps."""
    setting = Setting(compiled=compiled)
    setting.rows = Interrupted(setting.rows.values)
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        setting.run()

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert len(setting.weights) == 1
    assert bool(setting.step.weights.isfinite().all())
    assert not torch.equal(setting.step.weights, setting.weights[0])


class Stopped(torch.nn.Linear):
    """A custom layer that is interrupted when it is evaluated."""

    def forward(self, x):
        """Raise in evaluation mode."""
        if not self.training:
            raise KeyboardInterrupt
        return super().forward(x)


def test_an_interrupt_in_validation_leaves_the_network_in_training():
    """Its mode is the one that it had."""
    setting = Setting()
    setting.core.encoder = CustomNetwork(Stopped(5, 2), 5, 2)
    objective, rows = setting.step.objective, setting.validation
    validation = ValidationSet(setting.core.train(), objective, rows, generator())
    setting.core.train()
    with pytest.raises(KeyboardInterrupt):
        validation.losses()

    assert setting.core.encoder.module.training


def test_held_out_noise_is_the_same_at_every_epoch():
    """Two evaluations of an unchanged network agree to the last bit."""
    setting = Setting()
    validation = ValidationSet(
        setting.core, setting.step.objective, setting.validation, generator()
    )

    assert torch.equal(validation.losses(), validation.losses())
