"""The same numbers again: under every backend, in threads, in any company."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skae import VAETransformer
from tests.contract.checks import (
    CALM,
    assert_same,
    num_threads,
    outputs,
)

pytestmark = CALM


def test_backends_agree(model, blobs):
    """A grid search gives the same scores in processes, in threads and in sequence."""
    scores = {}
    for backend in ("loky", "threading", "sequential"):
        with joblib.parallel_config(backend, n_jobs=2):
            search = GridSearchCV(model, {"learning_rate": [1e-3, 1e-2], "max_iter": [2, 4]}, cv=2)
            results = search.fit(blobs).cv_results_
        scores[backend] = [results[f"split{i}_test_score"].tolist() for i in range(2)]
    assert np.isfinite(scores["loky"]).all()
    assert scores["loky"] == scores["threading"] == scores["sequential"]


@pytest.mark.parametrize("own", [False, True])
def test_threads_agree(model, blobs, own):
    """Eight fits with one seed, two at a time, and one alone: the same state to the last bit."""
    if own:
        model.set_params(encoder=torch.nn.Linear, decoder=torch.nn.Linear)
    elif isinstance(model, VAETransformer):
        model.set_params(likelihood="auto")  # the choice of the noise is the same, too
    alone = joblib.hash(clone(model).fit(blobs))
    with ThreadPoolExecutor(2) as pool:
        fits = list(pool.map(lambda _: joblib.hash(clone(model).fit(blobs)), range(8)))
    assert set(fits) == {alone}


def test_large_networks_agree_on_any_number_of_threads(model, digits):
    """Networks that use several threads agree to float32 rounding, grown over a few steps."""
    model.set_params(hidden_layer_sizes=(600, 600), batch_size=64, max_iter=2, init="random")
    model.set_params(early_stopping=False)
    with num_threads(1):
        one = clone(model).fit(digits[:400])
    with num_threads(2):
        two = clone(model).fit(digits[:400])
    scale = np.abs(one.loss_curve_)
    assert np.abs(np.subtract(one.loss_curve_, two.loss_curve_) / scale).max() < 1e-3


def test_threads_share_a_fitted_model(fitted, blobs):
    """A fitted model may be used from two threads at once."""
    expected = outputs(fitted, blobs)
    fresh = pickle.loads(pickle.dumps(fitted))
    with ThreadPoolExecutor(2) as pool:
        for got in pool.map(lambda _: outputs(fresh, blobs), range(8)):
            assert_same(got, expected)


def test_seeds_differ(model, blobs):
    """Another seed gives another fit, the same seed the same, whatever was drawn in between."""
    first = joblib.hash(clone(model).fit(blobs).transform(blobs))
    torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    assert joblib.hash(clone(model).fit(blobs).transform(blobs)) == first
    other = model.set_params(random_state=1, init="random", early_stopping=False)
    seeds = [clone(other).set_params(random_state=seed).fit(blobs) for seed in (1, 2)]
    assert not np.array_equal(*(fit.transform(blobs) for fit in seeds))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_do_not_depend_on_each_other(model, digits, dtype):
    """A row's code, score and reconstruction are the same to rounding, whatever comes with it.

    That is 1e-12 of a column's largest magnitude in float64, and 1e-5 in float32.
    """
    tolerance = 1e-12 if dtype == np.float64 else 1e-5

    def assert_rounding(got, expected, all_rows):
        assert (abs(got - expected) <= tolerance * abs(all_rows).max(0)).all()

    X = digits[:700].astype(dtype)
    model.set_params(n_components=8, hidden_layer_sizes=(33, 7)).fit(X[:300])
    codes, scores = model.transform(X[300:]), model.score_samples(X[300:])
    rows = model.inverse_transform(codes)
    rng = np.random.default_rng(0)
    for size in (1, 1, 2, 3, 7, 64, 127, 128, 129, 300, 399, 400):
        index = rng.permutation(400)[:size]
        assert_rounding(model.transform(X[300:][index]), codes[index], codes)
        assert_rounding(model.score_samples(X[300:][index]), scores[index], scores)
        assert_rounding(model.inverse_transform(codes[index]), rows[index], rows)
