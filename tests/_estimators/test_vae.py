"""Tests of VAETransformer against probabilistic PCA."""

from functools import partial

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from skae import VAETransformer

# Probabilistic PCA is the linear model with shared noise and N(0, I), which "auto" need not choose.
shared_noise = partial(VAETransformer, likelihood="gaussian", prior="normal")

ENDS_EARLY = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(params=["digits", "wine"])
def X(request, digits):
    """Return rows whose PCA likelihoods are known."""
    return digits if request.param == "digits" else scale(load_wine().data)


@pytest.mark.parametrize("k", [2, 5, 10])
@pytest.mark.parametrize("init_scale", ["global", None])
def test_the_start_has_pca_s_likelihood(X, k, init_scale):
    """Before any epoch the bound is tight: the mean log-likelihood equals ``PCA.score``."""
    start = shared_noise(k, max_iter=0, scale=init_scale).fit(X)

    assert start.score(X) == pytest.approx(PCA(k).fit(X).score(X), abs=2e-3)


def test_each_row_s_bound_is_its_log_density(digits):
    """At the start every row's bound is the density of N(mean, WW' + s^2 I), computed densely."""
    model = shared_noise(3, max_iter=0).fit(digits)
    variances, axes = np.linalg.eigh(np.cov(digits.T, bias=True))
    noise = variances[:-3].mean()
    covariance = (
        noise * np.eye(64) + axes[:, -3:] @ np.diag(variances[-3:] - noise) @ axes[:, -3:].T
    )
    centred = digits - digits.mean(0)
    mahalanobis = np.einsum("ij,ij->i", centred, np.linalg.solve(covariance, centred.T).T)
    log_density = -0.5 * (mahalanobis + np.linalg.slogdet(2 * np.pi * covariance)[1])

    np.testing.assert_allclose(model.score_samples(digits), log_density, atol=2e-3)
    assert model.noise_variance_ == pytest.approx(noise, rel=1e-5)


@pytest.mark.parametrize(("k", "tolerance"), [(2, 0.01), (10, 0.05)])
def test_a_linear_vae_trains_to_probabilistic_pca(k, tolerance):
    """From a random start the bound reaches the maximum likelihood and does not exceed it."""
    X = scale(load_wine().data)
    settings = dict(hidden_layer_sizes=(), init="random", early_stopping=False, random_state=0)
    settings = dict(settings, learning_rate=0.03, weight_decay=0.0, max_iter=1000)
    model = shared_noise(k, **settings).fit(X)
    best = PCA(k).fit(X).score(X)

    assert best - tolerance < model.score(X) < best + 2e-3


@pytest.mark.parametrize("k", [2, 5, 10])
def test_a_linear_vae_keeps_pca_s_likelihood(X, k):
    """Without early stopping too: where training does not help, the start is kept."""
    settings = dict(hidden_layer_sizes=(), early_stopping=False, max_iter=5, random_state=0)
    model = shared_noise(k, **settings).fit(X)

    assert model.score(X) == pytest.approx(PCA(k).fit(X).score(X), abs=2e-3)
    assert model.n_iter_ == 5


@ENDS_EARLY
def test_better_than_pca_s_likelihood_on_new_rows(digits):
    """On digits the held-out bound is several nats above ``PCA.score``."""
    train, test = digits[:1300], digits[1300:]
    model = VAETransformer(4, early_stopping=True, random_state=0).fit(train)

    assert model.score(test) > PCA(4).fit(train).score(test) + 5


@ENDS_EARLY
def test_units_of_a_feature_shift_the_score_by_their_logarithm(blobs):
    """A feature in eighths of its unit costs log 8 nats per row, when features are scaled."""
    scaled = blobs * [1, 8, 1, 1, 1, 1]
    model = VAETransformer(2, scale="standard", max_iter=3, random_state=0)
    scores = [model.fit(X).score(X) for X in (blobs, scaled)]

    assert scores[1] == pytest.approx(scores[0] - np.log(8), abs=1e-9)


def test_draws_have_the_model_s_moments(digits):
    """Draws include the likelihood's noise: their covariance is WW' + s^2 I."""
    model = shared_noise(3, max_iter=0).fit(digits)
    draws = model.sample(50_000, random_state=0)
    pca = PCA(3).fit(digits)

    np.testing.assert_allclose(draws.mean(0), digits.mean(0), atol=0.01)
    np.testing.assert_allclose(np.cov(draws.T), pca.get_covariance(), atol=0.01)


def test_noise_variance_is_in_x_s_units(blobs):
    """One number under one scale, one per feature otherwise; it follows the units squared."""
    one = shared_noise(2, max_iter=0).fit(blobs)
    tenfold = shared_noise(2, max_iter=0).fit(10 * blobs)
    each = shared_noise(2, max_iter=0, scale="standard").fit(blobs)

    assert isinstance(one.noise_variance_, float)
    assert tenfold.noise_variance_ == pytest.approx(100 * one.noise_variance_)
    np.testing.assert_allclose(
        each.noise_variance_ / blobs.var(0), each.noise_variance_[0] / blobs.var(0)[0]
    )


@pytest.mark.filterwarnings("ignore:0 of 4 components are active:UserWarning")
def test_beta_weighs_the_divergence_and_not_the_score(digits):
    """A large beta gives codes with little information; the score stays a bound at beta 1."""
    settings = dict(early_stopping=False, max_iter=20, random_state=0)
    plain, heavy = (VAETransformer(4, beta=b, **settings).fit(digits[:600]) for b in (1.0, 50.0))

    assert heavy.transform(digits[:600]).var() < 0.5 * plain.transform(digits[:600]).var()
    assert heavy.score(digits[:600]) < plain.score(digits[:600])


def rows_with_variances(variances, n_rows=1000):
    """Return rows whose covariance has these eigenvalues exactly, along random axes."""
    rng, n_features = np.random.default_rng(0), len(variances)
    rows = rng.normal(size=(n_rows, n_features))
    scores = np.linalg.qr(rows - rows.mean(0))[0] * np.sqrt(n_rows)
    return scores * np.sqrt(variances) @ np.linalg.qr(rng.normal(size=(n_features, n_features)))[0]


@pytest.mark.parametrize(("beta", "n_kept"), [(2.0, 4), (3.0, 3)])
def test_the_start_does_not_undo_beta(beta, n_kept):
    """From PCA, whose codes are too many and tell too much, training finds the optimum for beta.

    Of d features, k codes are kept, those with variances above beta s^2, where s^2 is the sum of
    the other variances over d - k beta. A code's divergence is log(variance / (beta s^2)) / 2.
    """
    variances = np.array([16.0, 9.0, 4.0, 2.0] + 16 * [0.5])
    X = rows_with_variances(variances)
    noise = variances[n_kept:].sum() / (20 - n_kept * beta)
    divergences = 0.5 * np.log(np.maximum(variances[:4] / (beta * noise), 1))
    model = shared_noise(4, beta=beta, hidden_layer_sizes=(), random_state=0).fit(X)

    assert np.count_nonzero(divergences) == n_kept
    assert model.noise_variance_ == pytest.approx(noise, rel=0.05)
    np.testing.assert_allclose(model.kl_per_component_, divergences, atol=0.04)
    assert shared_noise(4, max_iter=0).fit(X).kl_per_component_[3] > 0.6


def test_codes_are_the_posterior_mean(digits):
    """From the start they are probabilistic PCA's, shrunk by 1 - s^2 / variance."""
    model = shared_noise(3, max_iter=0).fit(digits)
    pca = PCA(3).fit(digits)
    variances = pca.explained_variance_ * (len(digits) - 1) / len(digits)
    shrunk = pca.transform(digits) / variances * np.sqrt(variances - model.noise_variance_)

    np.testing.assert_allclose(model.transform(digits), shrunk, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("init_scale", ["global", "standard", None])
def test_as_many_components_as_features(init_scale, offset):
    """With no direction left for noise the start has the full Gaussian's likelihood."""
    X = load_iris().data + offset
    start = shared_noise(max_iter=0, scale=init_scale).fit(X)
    full = PCA().fit(X).score(X)

    # Nothing but the rounding of float32 weights is noise, and it is divided by a tiny variance.
    assert start.score(X) == pytest.approx(full, abs=5e-3)
    if offset == 0:
        assert start.score(X.astype(np.float32)) == pytest.approx(start.score(X), abs=1e-3)


def test_training_with_as_many_components_as_features_does_little_harm():
    """Where the start is the best linear model, the gradient's noise costs no more than this."""
    X = load_iris().data
    settings = dict(early_stopping=False, random_state=0)
    trained = shared_noise(max_iter=60, **settings).fit(X)

    assert trained.score(X) > PCA().fit(X).score(X) - 0.5


def test_more_components_than_scoring_points():
    """The bound of a linear model is exact with 150 components too."""
    X = np.random.default_rng(0).normal(size=(400, 160)) * np.geomspace(3, 0.3, 160)
    start = shared_noise(150, max_iter=0).fit(X)

    assert start.score(X) == pytest.approx(PCA(150).fit(X).score(X), abs=2e-2)


def test_small_noise_under_large_features_is_found():
    """Features of very different units, and an outlier, leave the start's likelihood exact."""
    X = np.random.default_rng(0).normal(size=(400, 5)) * [1e5, 1e4, 1, 1, 0.1]

    assert shared_noise(2, max_iter=0).fit(X).score(X) == pytest.approx(
        PCA(2).fit(X).score(X), abs=0.02
    )
