"""Tests of the trainer: what it makes, how it trains, and what it hands out."""

from functools import partial

import numpy as np
import pytest
import torch

from skae._data.scaling import fit_scaling
from skae._training.loop import train
from skae._training.trainer import Trainer, make_shared_generator
from skae._training.validation import ValidationPlan
from skae.modules import Autoencoder, build_core
from skae.objectives import Objective, SquaredError


@pytest.fixture
def X():
    """Return rows whose columns differ in scale."""
    return np.random.default_rng(0).normal(size=(60, 5)) * [1, 2, 3, 4, 5] + 10


@pytest.fixture
def trainer(X):
    """Return a trainer of a small autoencoder with two codes."""
    build = partial(
        build_core,
        Autoencoder,
        n_features=5,
        n_encoded=2,
        n_components=2,
        hidden_layer_sizes=[8],
        activation="relu",
        skip=False,
        encoder=None,
        decoder=None,
        tied_weights=False,
    )
    generator = make_shared_generator(0)
    scaling = fit_scaling(X, "global")
    return Trainer(
        build,
        build(generator=generator),
        scaling,
        torch.device("cpu"),
        Objective(SquaredError()),
        generator,
        loss=None,
        learning_rate=0.01,
    )


def codes(net, X):
    """Return the codes that a fitted network gives rows."""
    return net.encode(X, torch.device("cpu"))


def test_generators_of_equal_seeds_draw_alike():
    """And others do not."""
    first, again, other = (
        torch.randn(3, generator=make_shared_generator(seed)) for seed in (0, 0, 1)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rows_are_those_at_the_index_in_scaled_units(trainer, X):
    """All of them without an index."""
    (some,) = trainer.rows(X, np.array([4, 2])).in_order(60)
    (every,) = trainer.rows(X).in_order(60)

    np.testing.assert_allclose(every.numpy(), trainer.scaling.to_scaled(X), rtol=1e-6)
    assert torch.equal(some, every[[4, 2]])


def test_a_fitted_net_is_what_was_learned_so_far(trainer, X):
    """Training goes on without it."""
    before = trainer.fitted_net()
    expected = codes(before, X)
    runs = [trainer.run(trainer.rows(X), 16)]
    history = train(runs, ValidationPlan(), max_epochs=2, progress=lambda epoch: 0.0)
    after = trainer.fitted_net()

    assert history.n_epochs == 2
    assert history.loss_curve[1] < history.loss_curve[0]
    np.testing.assert_array_equal(codes(before, X), expected)
    assert not np.allclose(codes(after, X), expected)


def test_training_flushes_denormals_no_longer_than_it_lasts(trainer, X):
    """The caller's arithmetic is what it was."""
    tiny = torch.tensor([1e-40])
    runs = [trainer.run(trainer.rows(X), 16)]
    train(runs, ValidationPlan(), max_epochs=1, progress=lambda epoch: 0.0)

    assert float(tiny * 0.5) > 0
