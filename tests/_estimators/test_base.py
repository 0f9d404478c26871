"""Tests that each constructor parameter reaches what it names."""

import math

import numpy as np
import pytest
import torch

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae._estimators import fitting
from skae.exceptions import ConvergenceError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("batch_size", [7, 50, 1000])
def test_batch_size_sets_the_number_of_steps(blobs, batch_size, monkeypatch):
    """One epoch takes as many steps as there are batches, the last one short."""
    monkeypatch.setattr(fitting, "epochs_per_call", lambda batch_size, n_rows: 1)
    model = AutoencoderTransformer(2, batch_size=batch_size, random_state=0).partial_fit(blobs)
    _, _, (n_steps, _, _), _ = model._optimizer

    assert n_steps == math.ceil(len(blobs) / batch_size)


@pytest.mark.parametrize("patience", [2, 5])
def test_training_stops_after_n_iter_no_change_epochs_below_tol(blobs, patience):
    """With a tol that no epoch can reach, that many run after the first; with none, more do."""
    settings = dict(n_components=2, n_iter_no_change=patience, max_iter=40, random_state=0)
    unreachable = AutoencoderTransformer(tol=1.0, **settings).fit(blobs)
    everything = AutoencoderTransformer(tol=0.0, init="random", **settings).fit(blobs)

    assert unreachable.n_iter_ == patience + 1
    assert everything.n_iter_ > patience + 1


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_validation_fraction_sets_the_held_out_rows(blobs, fraction, monkeypatch):
    """The loop is handed that share of the rows as validation set, and trains on the others."""
    sizes = []

    def spy(runs, plan, **settings):
        sizes.extend((run.rows.n_rows, run.held_out.n_rows) for run in runs)
        return train(runs, plan, **settings)

    train = fitting.train
    monkeypatch.setattr(fitting, "train", spy)
    settings = dict(early_stopping=True, max_iter=1, random_state=0)
    AutoencoderTransformer(2, validation_fraction=fraction, **settings).fit(blobs)

    assert sizes == [(200 - 200 * fraction, 200 * fraction)]


def test_activation_and_widths_shape_the_network(blobs):
    """The fitted network has the layers that were asked for."""
    model = AutoencoderTransformer(2, hidden_layer_sizes=(9, 4), activation="tanh", max_iter=0).fit(
        blobs
    )
    encoder = model._net.make_core().encoder.layers

    assert [type(layer) for layer in encoder[1::2]] == [torch.nn.Tanh] * 2
    assert [layer.out_features for layer in encoder[::2]] == [9, 4, 2]


def test_decay_reaches_the_quantizer(blobs):
    """The codebooks' averages forget at the rate that was asked for."""
    model = VQVAETransformer(2, decay=0.7, codebook_size=4, max_iter=0, random_state=0).fit(blobs)

    assert model._net.make_core().quantizer.decay == 0.7


def test_axes_are_dealt_out_by_information():
    """Of axes with spreads 8, 4, 2, 1 the outer two share a code, so that both products are 8."""
    X = np.random.default_rng(0).normal(size=(2000, 4)) * [8, 4, 2, 1]
    model = VQVAETransformer(4, n_codes=2, codebook_size=64, max_iter=0, random_state=0).fit(X)
    products = model.codebook_.std(1).prod(1)

    assert products[0] == pytest.approx(products[1], rel=0.3)


@pytest.mark.parametrize("scale", ["global", None])
def test_a_random_start_has_the_data_s_variance_as_noise(blobs, scale):
    """Before training the VAE explains nothing, so all the variance is noise."""
    model = VAETransformer(2, init="random", scale=scale, max_iter=0, random_state=0).fit(blobs)

    assert model.noise_variance_ == pytest.approx(blobs.var(0).mean(), rel=1e-5)


@pytest.mark.parametrize("kind", [AutoencoderTransformer, VAETransformer])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_weights_that_exploded_are_not_blamed_on_the_rows(kind, method, blobs, monkeypatch):
    """They are finite, and what they make of the training rows is not: training diverged."""
    train = fitting.train

    def explode(runs, *arguments, **settings):
        history = train(runs, *arguments, **settings)
        for run in runs:
            run.step.weights.fill_(1e30)
        return history

    monkeypatch.setattr(fitting, "train", explode)
    model = kind(2, max_iter=1, init="random", early_stopping=False, random_state=0)
    with pytest.raises(ConvergenceError, match=r"weights so large.*Lower learning_rate"):
        getattr(model, method)(blobs.astype(np.float32))


@pytest.mark.parametrize("kind", [AutoencoderTransformer, VAETransformer, VQVAETransformer])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("weight_decay", [1e20, 1e30, 1e36])
@pytest.mark.parametrize("size", [1.0, 1e140])
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fit_that_is_accepted_can_score_its_rows(kind, method, weight_decay, size, blobs):
    """Whatever the decay made of the weights: training diverged, or the rows have a score."""
    X = (blobs * size).astype(np.float32 if size == 1 else np.float64)
    model = kind(2, init="random", early_stopping=False, batch_size=200, max_iter=1)
    model.set_params(learning_rate=1e-3, weight_decay=weight_decay, random_state=0)
    try:
        getattr(model, method)(X)
    except ConvergenceError:
        return
    assert not np.isnan(model.score(X))
