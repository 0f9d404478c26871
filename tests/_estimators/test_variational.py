"""Tests of scores in nats, posteriors, draws and diagnostics of a variational model."""

import warnings
from functools import partial

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.decomposition import PCA

from skae import VAETransformer
from skae._estimators.activity import warn_of_inactive
from skae.objectives import LinearWarmup

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Probabilistic PCA is the linear model with shared noise, which "auto" need not choose.
shared_noise = partial(VAETransformer, likelihood="gaussian", prior="normal")


@pytest.fixture(scope="module")
def curve():
    """Return noisy rows along a curve in three dimensions."""
    rng = np.random.default_rng(0)
    t = rng.normal(size=600)
    X = np.column_stack([t, np.sin(2 * t), t**2])
    return X + 0.1 * rng.normal(size=X.shape)


@pytest.fixture(scope="module")
def model(curve):
    """Return a nonlinear model of it with one code."""
    settings = dict(hidden_layer_sizes=(32, 32), learning_rate=5e-3, max_iter=100)
    return VAETransformer(1, early_stopping=False, random_state=0, **settings).fit(curve)


def probabilistic_pca(X, k):
    """Return eigenvalues and noise variance of the maximum-likelihood model."""
    pca = PCA().fit(X)
    variances = pca.explained_variance_ * (len(X) - 1) / len(X)
    return variances[:k], variances[k:].sum() / (X.shape[1] - k)


# -- log p(x) ----------------------------------------------------------------------------------


def density_on_a_grid(model, X):
    """Return log p(x) of rows under a model with one code, by integration over the code."""
    z = np.linspace(-8, 8, 20_001)
    means = model.inverse_transform(z[:, None])
    noise, log_prior = model.noise_variance_, -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    noise = noise + np.zeros(X.shape[1])  # one variance, or one of each feature
    errors = cdist(X / np.sqrt(noise), means / np.sqrt(noise), "sqeuclidean")
    log_likelihood = -0.5 * (errors + np.log(2 * np.pi * noise).sum())
    return logsumexp(log_likelihood + log_prior, axis=1) + np.log(z[1] - z[0])


def test_log_likelihood_is_the_integral_over_codes(model, curve):
    """With many draws the estimate is what integration on a grid gives, of nearly every row.

    Where a posterior sits on one branch of two, draws do not find the other: the estimate is lower.
    """
    X = curve[np.abs(curve[:, 0]) < 2][:60]
    exact = density_on_a_grid(model, X)
    estimate = model.log_likelihood(X, n_samples=5000, random_state=0)

    assert np.median(estimate - exact) == pytest.approx(0, abs=0.01)
    assert np.all(estimate < exact + 0.2)
    assert np.mean(estimate > exact - 0.2) >= 0.9


def test_log_likelihood_tightens_from_the_bound_with_the_draws(model, curve):
    """One draw gives the bound on average, more draws come closer to the density from below."""
    X = curve[np.abs(curve[:, 0]) < 2]  # far out the posterior is too narrow for so few draws
    bound, exact = model.score(X), density_on_a_grid(model, X).mean()
    means = [model.log_likelihood(X, n, random_state=1).mean() for n in (1, 10, 200)]

    assert means[0] == pytest.approx(bound, abs=0.1)
    assert bound < means[1] < means[2] < exact + 0.01
    assert exact - means[2] < 0.5 * (exact - bound)


@pytest.mark.parametrize("scaling", ["global", None])
def test_log_likelihood_of_a_linear_model_needs_one_draw(digits, scaling):
    """Where posteriors are exact, every weight is p(x): that of ``PCA.score_samples``."""
    model = shared_noise(5, max_iter=0, scale=scaling).fit(digits)
    estimate = model.log_likelihood(digits[:200], n_samples=1, random_state=0)

    np.testing.assert_allclose(estimate, model.score_samples(digits[:200]), atol=2e-3)
    whole = model.log_likelihood(digits, n_samples=3).mean()
    assert whole == pytest.approx(PCA(5).fit(digits).score(digits), abs=2e-3)


@pytest.mark.parametrize("n_samples", [0, 1.5, "many"])
def test_number_of_draws_is_checked(model, curve, n_samples):
    """It is a positive integer everywhere."""
    for call in (model.log_likelihood, lambda X, n: model.sample(n)):
        with pytest.raises(ValueError, match=r"n_samples must be an int in the range \[1, inf\)"):
            call(curve, n_samples)


# -- posteriors and draws ----------------------------------------------------------------------


def test_posteriors_of_a_linear_model_are_those_of_probabilistic_pca(digits):
    """Means are the codes, and variances noise divided by the variance along the axis."""
    model = shared_noise(5, max_iter=0).fit(digits)
    variances, noise = probabilistic_pca(digits, 5)
    mean, std = model.posterior(digits)

    np.testing.assert_array_equal(mean, model.transform(digits))
    np.testing.assert_allclose(std**2, np.tile(noise / variances, (len(digits), 1)), rtol=1e-3)


def test_draws_around_a_row_follow_its_posterior_and_the_likelihood(model, curve):
    """Draws like one row have the moments of codes from its posterior, decoded, plus noise."""
    many = np.tile(curve[:1], (20_000, 1))
    mean, std = model.posterior(curve[:1])
    codes = mean + std * norm.ppf((np.arange(20_000) + 0.5) / 20_000)[:, None]
    expected = model.inverse_transform(codes)
    clean = model.sample_like(many, random_state=0, mean=True)
    drawn = model.sample_like(many, random_state=0)

    np.testing.assert_allclose(clean.mean(0), expected.mean(0), atol=0.01)
    np.testing.assert_allclose(clean.std(0), expected.std(0), rtol=0.05)
    np.testing.assert_allclose((drawn - clean).var(0), model.noise_variance_, rtol=0.05)
    np.testing.assert_array_equal(drawn, model.sample_like(many, random_state=0))


def test_means_of_draws_are_draws_without_their_noise(model):
    """A seed gives the same codes with and without noise."""
    clean = model.sample(20_000, random_state=3, mean=True)
    noise = model.sample(20_000, random_state=3) - clean

    np.testing.assert_allclose(noise.var(0), model.noise_variance_, rtol=0.05)
    assert np.abs(np.corrcoef(noise[:, 0], clean[:, 0])[0, 1]) < 0.03


# -- diagnostics -------------------------------------------------------------------------------


def test_divergences_of_a_linear_model_are_in_closed_form(digits):
    """At the maximum likelihood a code tells log(variance / noise) / 2 nats about a row."""
    model = shared_noise(5, max_iter=0).fit(digits)
    variances, noise = probabilistic_pca(digits, 5)

    np.testing.assert_allclose(model.kl_per_component_, 0.5 * np.log(variances / noise), rtol=1e-4)
    assert model.active_components_.all()
    assert model.lower_bound_ == pytest.approx(model.score(digits[::8]), abs=1e-9)


@pytest.mark.parametrize("init", ["pca", "random"])
def test_codes_are_sorted_by_what_they_tell(digits, init):
    """Divergences descend, each code's image of the mean has PCA's sign, and codes decode."""
    settings = dict(early_stopping=False, max_iter=15, learning_rate=3e-3, random_state=0)
    model = shared_noise(6, init=init, **settings).fit(digits)
    assert np.all(np.diff(model.kl_per_component_) <= 0)
    mean, std = (part.astype(float) for part in model.posterior(digits))
    by_hand = 0.5 * (mean**2 + std**2 - 1 - np.log(std**2)).mean(0)
    np.testing.assert_allclose(by_hand, model.kl_per_component_, rtol=1e-6)

    steps = 1e-3 * np.vstack([np.eye(6), -np.eye(6)])
    gradients = np.subtract(*np.split(model.inverse_transform(steps), 2))
    largest = np.take_along_axis(gradients, np.abs(gradients).argmax(1)[:, None], 1)
    assert np.all(largest > 0)
    error = np.square(digits - model.inverse_transform(mean)).sum()
    assert error < 0.6 * np.square(digits - digits.mean(0)).sum()


def test_diagnostics_cover_all_parts(digits):
    """With `partial_fit` they describe all rows since the first call."""
    model = shared_noise(4, learning_rate=1e-30)
    for part in (digits[:300], digits[300:500], digits[500:]):
        model.partial_fit(part)
    mean, std = (part.astype(float) for part in model.posterior(digits))
    divergences = 0.5 * (mean**2 + std**2 - 1 - np.log(std**2)).mean(0)

    # The noise variance moves a little with every batch, and posteriors with it.
    np.testing.assert_allclose(model.kl_per_component_, divergences, rtol=0.05)


def test_a_collapse_is_reported_with_a_remedy_that_works(digits):
    """A large beta switches codes off; with the beta that is advised they stay active."""
    settings = dict(early_stopping=False, max_iter=30, random_state=0)
    with pytest.warns(UserWarning, match=r"0 of 8 .* are active.* Lower beta, .* 100") as caught:
        collapsed = VAETransformer(8, beta=100, **settings).fit(digits[:600])
    assert caught[0].filename == __file__
    mended = VAETransformer(8, beta=LinearWarmup(), **settings).fit(digits[:600])

    assert not collapsed.active_components_.any()
    assert collapsed.kl_per_component_.max() < 0.05
    assert mended.active_components_.all()


def test_a_random_start_that_collapses_is_told_of_pca(digits):
    """Deep logistic nets lose their codes from random weights and keep them from PCA."""
    settings = dict(hidden_layer_sizes=(64, 64, 64), activation="logistic", random_state=0)
    model = VAETransformer(8, init="random", early_stopping=False, max_iter=15, **settings)
    with pytest.warns(UserWarning, match="0 of 8 components are active.* use init='pca'"):
        model.fit(digits)

    assert model.set_params(init="pca").fit(digits).active_components_.all()


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({}, "Lower n_components, or set free_bits."),
        ({"init": "random"}, "Lower n_components, or use init='pca', or set free_bits."),
        ({"n_importance_samples": 2}, "Lower n_components."),
        (
            {"likelihood": "bernoulli"},
            "Lower n_components, or use init='random', or set free_bits.",
        ),
        ({"beta": 3}, "Lower beta, which reaches 3."),
    ],
)
def test_remedies_fit_the_model(settings, remedy, digits):
    """What is advised changes something, and can be set."""
    X = (digits > 0.5)[:50].astype(float)
    model = VAETransformer(4, max_iter=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X)
    model.active_components_ = np.array([True, False, False, False])
    model._recipe = model._make_recipe()
    with pytest.warns(UserWarning, match="1 of 4 components are active: .* the others") as caught:
        warn_of_inactive(model, 4)
    assert str(caught[0].message).endswith(f"training rows. {remedy}")


@pytest.mark.parametrize("settings", [{"likelihood": "bernoulli"}, {"init": "random"}, {}])
def test_parts_have_a_lower_bound(settings, digits):
    """After each part it is the score of its rows."""
    X = (digits > 0.5)[:200].astype(float)
    model = VAETransformer(2, hidden_layer_sizes=(8,), random_state=0, **settings)
    for part in (X[:100], X[100:]):
        model.partial_fit(part)
        assert model.lower_bound_ == pytest.approx(model.score(part))


def test_signs_do_not_depend_on_units(blobs):
    """With features brought to one scale, a feature in other units changes no code."""
    codes = [
        VAETransformer(3, scale="standard", max_iter=0).fit_transform(blobs * units)
        for units in (1.0, np.array([1, 1, 1024, 1, 1, 1]), np.array([1, 1, 1, 1, 1, 2**-20]))
    ]

    np.testing.assert_allclose(codes[1], codes[0], atol=1e-4)
    np.testing.assert_allclose(codes[2], codes[0], atol=1e-4)


def test_codes_that_no_row_can_use_are_not_reported(blobs):
    """Constant rows, or more codes than features, leave codes inactive without a warning."""
    for X in (np.ones((20, 6)), blobs):
        model = VAETransformer(9, max_iter=2, early_stopping=False, random_state=0)
        if X is blobs:
            model.set_params(init="random")
        assert len(model.fit(X).active_components_) == 9


def test_free_bits_keep_codes_in_use(digits):
    """Under a large beta each code tells about as many nats as are free."""
    settings = dict(beta=100.0, early_stopping=False, max_iter=60, random_state=0)
    model = VAETransformer(4, free_bits=0.5, **settings).fit(digits)

    # Batches of 32 rows whose mean is above by chance push all of it down: it hovers below.
    assert (model.kl_per_component_ > 0.25).all()
    assert (model.kl_per_component_ < 0.55).all()
    assert model.active_components_.all()
