"""Fitting in parts: validation rows, warm starts and partial_fit."""

import pickle

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from tests.contract.checks import CALM, assert_same, assert_unfitted, outputs

pytestmark = CALM


def test_validation_rows(model, blobs):
    """Given X_val, all of X is trained on and the held-out loss is that of X_val."""
    model.set_params(n_components=2, early_stopping=True)
    fits = [clone(model).fit(blobs[:150], X_val=V) for V in (blobs[150:], 10 * blobs[150:])]
    for fit in fits:
        assert len(fit.validation_loss_curve_) == fit.n_iter_
        assert np.allclose(fit.mean_, blobs[:150].mean(0), rtol=1e-12)
    assert fits[0].loss_curve_ == fits[1].loss_curve_
    assert fits[0].validation_loss_curve_ != fits[1].validation_loss_curve_
    again = clone(model).fit(blobs[:150], X_val=sparse.csr_array(blobs[150:]))
    assert joblib.hash(again) == joblib.hash(fits[0])


def test_validation_rows_are_checked(model, blobs):
    """X_val of another width, with NaN, or without early stopping is refused."""
    with pytest.raises(ValueError, match="5 features"):
        model.fit(blobs, X_val=blobs[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        model.fit(blobs, X_val=np.full((3, 6), np.nan))
    with pytest.raises(ValueError, match=r"X_val .*early_stopping=False"):
        model.set_params(early_stopping=False).fit(blobs, X_val=blobs)
    assert_unfitted(model)


def test_validation_rows_through_a_pipeline(model, blobs):
    """With metadata routing a pipeline scales X_val as it scales X."""
    X, V = blobs[:150], blobs[150:]
    with config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [("scale", StandardScaler()), ("net", model.set_fit_request(X_val=True))],
            transform_input=["X_val"],
        ).fit(X, X_val=V)
    scaler = StandardScaler().fit(X)
    by_hand = clone(model).fit(scaler.transform(X), X_val=scaler.transform(V))
    assert pipeline[-1].validation_loss_curve_ == by_hand.validation_loss_curve_
    assert np.array_equal(pipeline[-1].transform(X), by_hand.transform(X))


def test_warm_start(model, blobs):
    """A warm start goes on from the last fit: with no epoch it changes nothing."""
    model.set_params(init="random", early_stopping=False, batch_size=20, max_iter=6).fit(blobs)
    first, codes = model.loss_curve_, model.transform(blobs)
    cold = clone(model).set_params(max_iter=1).fit(blobs).loss_curve_[0]
    model.set_params(warm_start=True, max_iter=0).fit(blobs)
    assert np.array_equal(model.transform(blobs), codes)
    model.set_params(max_iter=1).fit(blobs)
    assert model.loss_curve_[0] < min(cold, first[0])
    assert not np.array_equal(model.transform(blobs), codes)


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_layer_sizes", (9,)), ("activation", "tanh"), ("n_components", 2), ("init", "random")],
)
def test_warm_start_of_another_network(model, blobs, name, value):
    """A warm start with another network than the fitted one is refused, and nothing is lost."""
    model.set_params(warm_start=True).fit(blobs)
    before = outputs(model, blobs)
    for method in ("fit", "partial_fit"):
        kept = getattr(model, name)
        with pytest.raises(ValueError, match=f"{name}|skip"):
            getattr(model.set_params(**{name: value}), method)(blobs)
        model.set_params(**{name: kept})
        assert_same(outputs(model, blobs), before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_codes", 4),
        ("codebook_size", 8),
        ("codebook_update", "gradient"),
        ("quantizer", "finite_scalar"),
        ("loss", "huber"),
    ],
)
@pytest.mark.parametrize("model", ["vqvae"], indirect=True)
def test_warm_start_of_another_codebook(model, blobs, name, value):
    """A warm start with other codebooks is refused too, and nothing is lost."""
    model.set_params(warm_start=True).fit(blobs)
    before = outputs(model, blobs)
    with pytest.raises(ValueError, match=name):
        model.set_params(**{name: value}).fit(blobs)
    assert_same(outputs(model, blobs), before)


def test_warm_start_keeps_the_scaling(model, blobs):
    """A warm start keeps the last fit's scaling, while `mean_` is that of the new rows."""
    model.set_params(warm_start=True).fit(blobs)
    center = model._net.scaling.center.copy()
    model.fit(blobs + 1)
    assert np.array_equal(model._net.scaling.center, center)
    np.testing.assert_allclose(model.mean_, blobs.mean(0) + 1)


def test_warm_start_scores_with_the_new_mean(model, blobs):
    """The score's reference is the mean of the rows of the last fit, as on a new estimator."""
    if isinstance(model, VAETransformer):
        pytest.skip("its score is a likelihood")
    model.set_params(warm_start=True, max_iter=0).fit(blobs)
    moved = blobs + 1
    model.fit(moved)
    unexplained = -model.score_samples(moved).sum() / np.square(moved - moved.mean(0)).sum()
    assert model.score(moved) == pytest.approx(1 - unexplained)


def test_first_partial_fit_with_too_few_rows(model, blobs):
    """The first rows must span the PCA start; a random start takes any."""
    with pytest.raises(ValueError, match=r"n_components=4 .*number of samples 3"):
        model.partial_fit(blobs[:3])
    assert_unfitted(model)
    assert model.set_params(init="random").partial_fit(blobs[:3]).n_components_ == 4


def test_partial_fit_continues(model, blobs):
    """Each call goes on from the last one, through a pickle as well, and counts its rows."""
    straight = clone(model).partial_fit(blobs[:100]).partial_fit(blobs[100:])
    pickled = pickle.loads(pickle.dumps(clone(model).partial_fit(blobs[:100])))
    pickled.partial_fit(blobs[100:])
    assert joblib.hash(pickled) == joblib.hash(straight)
    assert straight.n_samples_ == 200
    assert straight.n_iter_ == len(straight.loss_curve_) == 2 * 8  # of 2 steps each


@pytest.mark.parametrize(("n_rows", "n_epochs"), [(1, 1), (30, 5), (100, 8), (1024, 4), (4096, 1)])
def test_partial_fit_trains_for_64_steps(model, n_rows, n_epochs):
    """One epoch of many rows, several of few; no epoch where none is asked for."""
    X = np.random.default_rng(0).normal(size=(n_rows, 6))
    model.set_params(n_components=1, n_codes=1) if "n_codes" in model.get_params() else None
    model.set_params(n_components=1, max_iter=1, early_stopping="auto").partial_fit(X)
    assert model.n_iter_ == n_epochs
    assert model.set_params(max_iter=0).partial_fit(X).n_iter_ == n_epochs
    after_fit = model.set_params(max_iter=1).fit(X).n_iter_
    assert model.partial_fit(X).n_iter_ == after_fit + 1


def test_partial_fit_learns(model, blobs):
    """Calls in a row reduce the loss from a random start."""
    model.set_params(init="random", batch_size=20, learning_rate=1e-2)
    for _ in range(8):
        model.partial_fit(blobs)
    assert model.loss_curve_[-1] < 0.9 * model.loss_curve_[0]
    assert len(set(model.loss_curve_)) == 8 * 6  # of 10 steps each


def test_partial_fit_describes_all_rows(model, blobs):
    """The mean, the codes' distribution and their use are those of all rows, call by call."""
    model.set_params(learning_rate=1e-12)  # so that codes mean the same in each call
    for rows in (blobs[:50], blobs[50:80] + 3, blobs[80:]):
        model.partial_fit(rows)
    X = np.vstack([blobs[:50], blobs[50:80] + 3, blobs[80:]])
    codes = model.transform(X)
    np.testing.assert_allclose(model.mean_, X.mean(0))
    assert model.n_samples_ == 200
    if isinstance(model, AutoencoderTransformer):
        draws = model.transform(model.sample(100_000, random_state=0, mean=True))
        np.testing.assert_allclose(draws.mean(0), codes.mean(0), atol=0.05)
        np.testing.assert_allclose(np.cov(draws.T), np.cov(codes.T), atol=0.3)


def test_partial_fit_counts_all_codes(blobs):
    """Counts of codes add up over the calls."""
    usage = []
    for rows in (blobs[:50], blobs[50:]):
        model = VQVAETransformer(4, codebook_size=16, n_codes=2, random_state=0, decay=0.999999)
        model.set_params(learning_rate=1e-12, dead_code_threshold=0.0).partial_fit(blobs)
        usage.append(model.partial_fit(rows).codebook_usage_)
    whole = VQVAETransformer(4, codebook_size=16, n_codes=2, random_state=0, decay=0.999999)
    whole.set_params(learning_rate=1e-12, dead_code_threshold=0.0).partial_fit(blobs)
    first, second = (250 / 50 * usage[0] - 200 / 50 * whole.codebook_usage_), usage[1]
    second = 350 / 150 * second - 200 / 150 * whole.codebook_usage_
    np.testing.assert_allclose(0.25 * first + 0.75 * second, whole.codebook_usage_, atol=1e-12)


def test_fit_after_partial_fit(model, blobs):
    """Fit forgets what partial_fit has learned."""
    fresh = clone(model).fit(blobs)
    assert joblib.hash(model.partial_fit(blobs * 2).fit(blobs)) == joblib.hash(fresh)
