"""Tests of restarts: the best of several fits, in processes, threads or one after the other."""

import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.utils import check_random_state

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.exceptions import ConvergenceError, ConvergenceWarning
from skae.objectives import SquaredError

KINDS = {
    "autoencoder": (AutoencoderTransformer, {}),
    "vae": (VAETransformer, {"likelihood": "gaussian"}),
    "vqvae": (VQVAETransformer, {"codebook_size": 8}),
}


def make(kind, **settings):
    """Return an estimator that fits in no time."""
    estimator, own = KINDS[kind]
    settings = {"max_iter": 4, "init": "random", "early_stopping": True, **own, **settings}
    return estimator(2, hidden_layer_sizes=(16,), **settings)


def seeds(random_state, n_init):
    """Return the seeds of restarts."""
    drawn = check_random_state(random_state).randint(2**31 - 1, size=n_init)
    return [int(seed) for seed in drawn]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["loky", "threading", "sequential"])
def test_the_best_of_separate_fits_is_kept_to_the_bit(kind, backend, digits):
    """Scores are those of fits from the seeds, of the same rows, and so is all else."""
    X = digits[:300].astype(np.float32)
    with joblib.parallel_config(backend, n_jobs=2):
        model = make(kind, n_init=3, random_state=7).fit(X)
    separate = [make(kind, random_state=seed).fit(X) for seed in seeds(7, 3)]
    best = separate[int(model.scores_per_init_.argmax())]
    scores = [each.score(X) for each in separate]

    np.testing.assert_allclose(model.scores_per_init_, scores, rtol=1e-12)
    assert model.scores_per_init_.shape == (3,)
    assert len(set(model.scores_per_init_)) == 3
    assert joblib.hash(model.transform(X)) == joblib.hash(best.transform(X))
    assert model.loss_curve_ == best.loss_curve_
    assert (model.n_init, model.random_state) == (3, 7)
    assert not hasattr(best, "scores_per_init_")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_of_the_rows_given_to_validate(kind, digits):
    """Given validation rows, or without any the training rows, they are plain scores."""
    X, X_val = digits[:300], digits[300:500]
    validated = make(kind, n_init=2, random_state=0).fit(X, X_val=X_val)
    alone = make(kind, n_init=2, random_state=0, early_stopping=False).fit(X)

    assert validated.scores_per_init_.max() == pytest.approx(validated.score(X_val), rel=1e-12)
    assert alone.scores_per_init_.max() == pytest.approx(alone.score(X), rel=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_going_on_is_one_fit(blobs):
    """A warm start and partial_fit go on from the network that was kept."""
    model = make("autoencoder", n_init=2, random_state=0, warm_start=True).fit(blobs)
    kept = model.transform(blobs)
    assert model.scores_per_init_.shape == (2,)
    model.fit(blobs)

    assert not hasattr(model, "scores_per_init_")
    assert not np.allclose(model.transform(blobs), kept)
    assert make("autoencoder", n_init=2).partial_fit(blobs).n_iter_ == 8  # of 4 steps each


@pytest.mark.filterwarnings("ignore")
def test_names_of_features_and_grids(digits):
    """Frames keep their names; a search in processes restarts inside of them."""
    frame = pd.DataFrame(digits[:200, 20:26]).add_prefix("pixel ")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*feature names.*")
        model = make("autoencoder", n_init=2, random_state=0).fit(frame)
    search = GridSearchCV(model, {"n_components": [1, 2]}, cv=2, n_jobs=2).fit(frame)

    assert list(model.feature_names_in_) == list(frame.columns)
    assert search.best_estimator_.scores_per_init_.shape == (2,)


def test_the_best_fit_s_warnings_arrive_where_fit_is_called(blobs):
    """What another process warns of is warned of here, once."""
    model = make("autoencoder", n_init=2, max_iter=2, random_state=0)
    with joblib.parallel_config("loky", n_jobs=2), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(blobs)
    ours = [warning for warning in caught if warning.category is ConvergenceWarning]
    assert len(ours) == 1
    assert ours[0].filename == __file__


def test_going_on_with_networks_of_one_s_own(blobs):
    """What was fitted in another process or as a copy still is the network of the parameter."""
    own = dict(encoder=torch.nn.Linear(6, 2), decoder=lambda n_in, n_out: torch.nn.Linear(2, 6))
    settings = dict(max_iter=1, random_state=0, warm_start=True, early_stopping=False)
    model = AutoencoderTransformer(2, n_init=2, **own, **settings).fit(blobs)
    first = model.transform(blobs)
    assert not np.array_equal(model.fit(blobs).transform(blobs), first)


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_left_of_the_last_fit(blobs):
    """Names of features and attributes that a new fit does not set are gone, also after parts."""
    model = make("autoencoder", n_init=2, init="pca", random_state=0)
    model.fit(pd.DataFrame(blobs).add_prefix("x"))
    assert hasattr(model, "gain_over_pca_")
    model.set_params(init="random").fit(blobs)
    assert not hasattr(model, "feature_names_in_")
    assert not hasattr(model, "gain_over_pca_")
    assert not hasattr(model.partial_fit(blobs), "scores_per_init_")


class DivergesAtTimes(SquaredError):
    """A loss that is not finite where the weights' seed is odd."""

    def __call__(self, x, out):
        """Return the squared error, or infinity."""
        odd = int(out.x_hat.detach().abs().sum() * 1e4) % 2
        return super().__call__(x, out) / (0 if odd else 1)


@pytest.mark.filterwarnings("ignore")
def test_a_start_that_diverges_is_passed_over(blobs):
    """It scores minus infinity; only if all do, the error is raised."""
    settings = dict(n_init=6, max_iter=1, batch_size=500, early_stopping=False, random_state=0)
    with joblib.parallel_config("sequential"):
        model = make("autoencoder", loss=DivergesAtTimes(), **settings).fit(blobs)
        diverged = np.isneginf(model.scores_per_init_)
        assert 0 < diverged.sum() < 6
        assert np.isfinite(model.transform(blobs)).all()
        with pytest.raises(ConvergenceError, match="diverged"):
            make("autoencoder", learning_rate=1e30, **{**settings, "max_iter": 3}).fit(blobs)


def test_errors_arrive_and_leave_the_fit_alone(blobs):
    """What a restart refuses is refused in its words."""
    model = make("autoencoder", n_init=2, random_state=0)
    with pytest.raises(ValueError, match=r"'n_init' parameter .* an int in the range \[1, inf\)"):
        model.set_params(n_init=0).fit(blobs)
    with pytest.raises(ValueError, match="contains NaN"):
        model.set_params(n_init=2).fit(blobs + np.nan)
    assert not hasattr(model, "n_iter_")
