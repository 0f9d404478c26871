"""Tests of what a VAE decides by itself: whose noise it is, and when codes have to count."""

import numpy as np
import pytest
from sklearn.decomposition import PCA, FactorAnalysis

from skae import VAETransformer
from skae._data.centred import CentredRows
from skae._data.scaling import fit_scaling
from skae._init.pca import principal_axes
from skae._init.probabilistic_pca import _factors, gain_of_noise_per_feature
from skae.objectives import Gaussian

ENDS_EARLY = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def linear_rows(noise, n_samples=400, seed=0):
    """Return rows of two factors with noise of these standard deviations."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(2, len(noise)))
    return rng.normal(size=(n_samples, 2)) @ weights + noise * rng.normal(
        size=(n_samples, len(noise))
    )


UNEQUAL = np.array([0.1, 1.0, 0.2, 2.0, 0.3, 1.5])
EQUAL = np.full(6, 0.7)


@pytest.mark.parametrize(("noise", "least", "most"), [(UNEQUAL, 0.5, 9), (EQUAL, -0.05, 0.05)])
@pytest.mark.parametrize("seed", range(3))
def test_linear_models_say_whose_noise_it_is(noise, least, most, seed):
    """Noise that differs a lot by feature is found, and equal noise makes no difference."""
    gain = gain_of_noise_per_feature(linear_rows(noise, seed=seed), "global", 2)
    assert least < gain < most


@ENDS_EARLY
def test_trained_networks_overrule_linear_models():
    """Rows are on a surface with the same noise in all features, which a plane does not see."""
    rng = np.random.default_rng(0)
    z = rng.uniform(-1, 1, size=(700, 2))
    surface = np.hstack([2 * z, 2 * z**2, 2 * z[:, :1] * z[:, 1:]])
    X = surface + 0.2 * rng.normal(size=surface.shape)
    assert gain_of_noise_per_feature(X, "global", 2) > 0
    model = VAETransformer(2, early_stopping=True, max_iter=60, random_state=0).fit(X)

    assert model.likelihood_.noise_variance == "shared"
    assert PCA(2).fit(X).score(X) + 1 < model.score(X)


@pytest.mark.parametrize("shape", [(99, 4), (130, 1025)])
def test_noise_is_shared_where_it_cannot_be_compared(shape):
    """Of fewer than a hundred rows or more than 1024 features nothing is asked."""
    X = np.random.default_rng(0).normal(size=shape)
    assert gain_of_noise_per_feature(X, "global", 2) == -np.inf


def test_a_feature_that_is_constant_among_most_rows_speaks_for_shared_noise(digits):
    """Noise of its own would make the rows in which it does vary all but impossible."""
    assert gain_of_noise_per_feature(digits, "global", 8) < -1
    model = VAETransformer(8, random_state=0).fit(digits[:1000])

    assert np.ndim(model.noise_variance_) == 0
    assert model.score(digits[1000:]) > PCA(8).fit(digits[:1000]).score(digits[1000:]) + 1


@pytest.mark.parametrize("max_iter", [0, 2])
def test_the_automatic_choice_is_published_and_is_that_model(max_iter):
    """It equals the estimator with the likelihood that it names."""
    X = linear_rows(UNEQUAL)
    settings = dict(max_iter=max_iter, random_state=0, early_stopping=False)
    automatic = VAETransformer(2, **settings).fit(X)
    named = VAETransformer(2, likelihood=Gaussian("per_feature"), **settings).fit(X)

    assert isinstance(automatic.likelihood_, Gaussian)
    assert automatic.likelihood_.noise_variance == "per_feature"
    assert automatic.score(X) == named.score(X)


def test_at_the_start_the_default_is_the_better_of_pca_and_factor_analysis():
    """Held-out rows are as likely as under the linear model that fits them better, to 0.05 nats."""
    for noise in (UNEQUAL, EQUAL):
        train, test = np.split(linear_rows(noise, 800), 2)
        best = max(model.fit(train).score(test) for model in (PCA(2), FactorAnalysis(2)))
        assert VAETransformer(2, max_iter=0).fit(train).score(test) > best - 0.05


def test_a_choice_stays_what_it_was():
    """More rows do not change whose noise it is."""
    model = VAETransformer(2, max_iter=1, random_state=0).partial_fit(linear_rows(UNEQUAL))
    model.partial_fit(linear_rows(EQUAL))

    assert model.likelihood_.noise_variance == "per_feature"
    assert np.shape(model.noise_variance_) == (6,)


def test_factor_analysis_takes_the_better_of_two_starts():
    """It is as likely as scikit-learn's on a table where one start ends at a lower maximum."""
    from sklearn.datasets import load_breast_cancer

    X = load_breast_cancer().data
    X = (X - X.mean(0)) / X.std(0)
    scaling = fit_scaling(X, None)
    rows = CentredRows(X, scaling)
    axes = principal_axes(rows, 15, scaling.constant)
    shared = np.full(30, axes.residual)
    signal = np.sqrt(np.maximum(axes.variances - axes.residual, 0))
    loadings, noise = _factors(axes.components.T * signal, shared, rows, 1e-12)
    covariance = loadings @ loadings.T + np.diag(noise)
    _, logdet = np.linalg.slogdet(covariance)
    mean = -0.5 * (
        30 * np.log(2 * np.pi) + logdet + np.trace(np.linalg.solve(covariance, X.T @ X)) / 569
    )

    assert mean > FactorAnalysis(15).fit(X).score(X) - 0.05


def test_draws_of_features_with_units_of_their_own_have_their_spread():
    """A column in thousands with heavy tails does not blur zeros and ones beside it."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(700, 2))
    wide = 100 * np.exp(1.5 * z[:, 0] + 0.5 * rng.normal(size=700))
    X = np.column_stack([wide, z[:, 1] > 0, z[:, 0] > 1, z[:, 1] * 0.01 + rng.normal(size=700)])
    model = VAETransformer(2, max_iter=100, random_state=0).fit(X)
    drawn = model.sample(20_000, random_state=0)

    np.testing.assert_allclose(drawn.std(0), X.std(0), rtol=0.1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_epochs_that_choose_the_noise_are_not_reported(capsys):
    """With rows held out once, lines are those of the network that is kept."""
    settings = dict(hidden_layer_sizes=(8,), max_iter=3, early_stopping=True, random_state=0)
    model = VAETransformer(2, verbose=1, **settings).fit(linear_rows(UNEQUAL))
    assert len(capsys.readouterr().out.splitlines()) == model.n_iter_
