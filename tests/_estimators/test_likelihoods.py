"""Tests of likelihoods as a part of the estimator: starts, exact models, support, draws."""

import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import gammaln, logsumexp
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import scale

from skae import VAETransformer
from skae.objectives import (
    Bernoulli,
    CosineDecay,
    Gaussian,
    Laplace,
    Likelihood,
    LinearWarmup,
    NegativeBinomial,
    Poisson,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NAMES = ["gaussian", "laplace", "bernoulli", "poisson", "negative_binomial"]
LINEAR = dict(hidden_layer_sizes=(), early_stopping=False, random_state=0)
SMALL = dict(hidden_layer_sizes=(16,), early_stopping=False, random_state=0)


def latent_rows(name, n_rows=600, seed=0):
    """Return rows of 8 features that depend on one code in a likelihood's own way."""
    rng = np.random.default_rng(seed)
    natural = rng.normal(size=(n_rows, 1)) * np.linspace(-1.5, 1.5, 8) + np.linspace(-1, 1, 8)
    return {
        "gaussian": lambda: natural + 0.3 * rng.normal(size=natural.shape),
        "laplace": lambda: natural + rng.laplace(scale=0.3, size=natural.shape),
        "bernoulli": lambda: (rng.random(natural.shape) < 1 / (1 + np.exp(-2 * natural))) + 0.0,
        "poisson": lambda: rng.poisson(np.exp(natural)) + 0.0,
        "negative_binomial": lambda: rng.poisson(rng.gamma(2, np.exp(natural) / 2)) + 0.0,
    }[name]()


def log_prob(model, X, means):
    """Return log p(x|z) of rows X, (n, 1, d), around means, (1, m, d), by SciPy."""
    name = model.likelihood
    if name == "gaussian":
        return stats.norm.logpdf(X, means, np.sqrt(model.noise_variance_)).sum(2)
    if name == "laplace":
        return stats.laplace.logpdf(X, means, np.sqrt(model.noise_variance_ / 2)).sum(2)
    if name == "bernoulli":
        return stats.bernoulli.logpmf(X, means).sum(2)
    if name == "poisson":
        return (X * np.log(means) - means - gammaln(X + 1)).sum(2)
    r = 1 / model.dispersion_
    return stats.nbinom.logpmf(X, r, r / (r + means)).sum(2)


# -- exact models ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_log_likelihood_is_the_integral_over_codes(name):
    """For every likelihood, in the units of X; the bound is below it and not far."""
    X = latent_rows(name)
    settings = dict(prior="normal", max_iter=40, batch_size=32, learning_rate=3e-3, **SMALL)
    model = VAETransformer(1, likelihood=name, **settings).fit(X)
    z = np.linspace(-7, 7, 4001)
    means = model.inverse_transform(z[:, None])
    some = X[:50]
    joint = log_prob(model, some[:, None], means[None]) + stats.norm.logpdf(z)
    exact = logsumexp(joint, axis=1) + np.log(z[1] - z[0])

    estimate = model.log_likelihood(some, n_samples=2000, random_state=0)
    # Too low on average for rows whose posterior is far from a Gaussian.
    assert exact.mean() - 0.05 < estimate.mean() < exact.mean() + 0.02
    assert np.quantile(np.abs(estimate - exact), 0.9) < 0.1
    bound = model.score_samples(some)
    assert exact.mean() - 0.5 < bound.mean() < exact.mean() + 0.01


@pytest.mark.parametrize(("k", "max_iter"), [(2, 0), (2, 20), (5, 0), (10, 0)])
def test_a_linear_model_with_variances_by_feature_is_factor_analysis(k, max_iter):
    """Its bound is the maximum likelihood, and noise variances are uniquenesses."""
    X = scale(load_wine().data)
    settings = dict(likelihood=Gaussian("per_feature"), prior="normal", max_iter=max_iter)
    model = VAETransformer(k, **settings, **LINEAR)
    reference = FactorAnalysis(k, tol=1e-8, max_iter=10_000, svd_method="lapack").fit(X)

    best = reference.score(X)
    assert best - 0.02 < model.fit(X).score(X) < best + 1e-3
    likelihood = model.log_likelihood(X, 100, random_state=0).mean()
    assert likelihood == pytest.approx(model.score(X), abs=0.02)
    if k == 2:
        np.testing.assert_allclose(model.noise_variance_, reference.noise_variance_, atol=0.01)


def test_factor_analysis_is_reached_from_a_random_start_too():
    """Where the optimum is not given away, training finds it."""
    X = scale(load_wine().data)
    settings = dict(learning_rate=CosineDecay(1e-2), max_iter=800, init="random", prior="normal")
    model = VAETransformer(2, likelihood=Gaussian("per_feature"), **settings, **LINEAR).fit(X)
    reference = FactorAnalysis(2, tol=1e-8, max_iter=10_000, svd_method="lapack").fit(X)

    assert reference.score(X) - 0.02 < model.score(X) < reference.score(X) + 1e-3
    np.testing.assert_allclose(model.noise_variance_, reference.noise_variance_, atol=0.06)


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("variances", ["shared", "per_feature"])
def test_the_start_is_a_linear_gaussian_model(k, variances):
    """Its bound is the density of N(mean, WW' + noise), with codes that are independent."""
    X = scale(load_wine().data)
    model = VAETransformer(k, likelihood=Gaussian(variances), prior="normal", max_iter=0).fit(X)
    loadings = model.inverse_transform(np.eye(k)) - model.inverse_transform(np.zeros((1, k)))
    covariance = loadings.T @ loadings + model.noise_variance_ * np.eye(X.shape[1])
    density = stats.multivariate_normal(X.mean(0), covariance).logpdf(X)

    np.testing.assert_allclose(model.score_samples(X), density, atol=2e-3)
    assert np.ndim(model.noise_variance_) == (variances == "per_feature")


@pytest.mark.parametrize("factor", [1e3, 1e6])
def test_an_outlier_leaves_the_start_at_the_best_linear_model(factor):
    """Variances of features are those of all rows, in float64, whatever is held out."""
    X = scale(load_wine().data)
    X = np.vstack([X, factor * X[0]])
    best = FactorAnalysis(2).fit(X).score(X)
    for seed in range(3):
        settings = dict(likelihood=Gaussian("per_feature"), max_iter=5, random_state=seed)
        assert VAETransformer(2, **settings).fit(X).score(X) > best - 0.01


@pytest.mark.parametrize("scaling", ["global", "standard", None])
@pytest.mark.parametrize("likelihood", [Gaussian(0.05), Laplace(0.05), NegativeBinomial(0.05)])
def test_a_fixed_dispersion_stays_in_the_units_of_x(likelihood, scaling):
    """Whatever the scaling, before training and after."""
    X = latent_rows("poisson") if likelihood.discrete else latent_rows("gaussian")
    for max_iter in (0, 3):
        settings = dict(likelihood=likelihood, scale=scaling, max_iter=max_iter, **SMALL)
        model = VAETransformer(1, **settings).fit(X)
        if isinstance(likelihood, NegativeBinomial):
            assert model.dispersion_ == 0.05
        else:
            expected = 0.05 if isinstance(likelihood, Gaussian) else 2 * 0.05**2
            assert model.noise_variance_ == expected
        unit = 1.0 if likelihood.raw_target else model._net.scaling.scale
        core = model._net.core(torch.float64, torch.device("cpu"))
        in_scaled_units = np.broadcast_to(core.dispersion.numpy(), X.shape[1])
        expected = np.broadcast_to(likelihood.fixed_dispersion(unit), X.shape[1])
        np.testing.assert_allclose(in_scaled_units, expected, rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["laplace", Gaussian("per_feature"), Laplace("per_feature")])
def test_units_of_a_feature_shift_the_score_by_their_logarithm(likelihood, blobs):
    """A feature in eighths of its unit costs log 8 nats per row, for densities of any kind."""
    settings = dict(scale="standard", early_stopping=True, max_iter=3, random_state=0)
    model = VAETransformer(2, likelihood=likelihood, **settings)
    scores = [model.fit(X).score(X) for X in (blobs, blobs * [1, 8, 1, 1, 1, 1])]

    assert scores[1] == pytest.approx(scores[0] - np.log(8), abs=1e-9)


# -- starts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "negative_binomial"])
def test_the_start_is_a_model(name):
    """Before training the code tells about rows, at about the score of independent features."""
    X = latent_rows(name)
    start = VAETransformer(1, likelihood=name, max_iter=0).fit(X)
    rates = X.mean(0)
    if name == "bernoulli":
        law = stats.bernoulli(rates)
    elif name == "poisson":
        law = stats.poisson(rates)
    else:
        dispersion = (X.var(0) - rates) / rates**2
        law = stats.nbinom(1 / dispersion, 1 / (1 + dispersion * rates))

    gain = start.score(X) - law.logpmf(X).sum(1).mean()
    assert gain > (0.3 if name == "bernoulli" else -0.3)
    assert start.active_components_.all()


def test_counts_of_rare_words_use_their_codes():
    """Where noise outweighs every axis of the rows, codes are not lost at the start."""
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(300, 0.05), size=5)
    X = rng.poisson(10 * rng.dirichlet(np.full(5, 0.3), size=800) @ topics) + 0.0
    settings = dict(early_stopping=True, max_iter=30, random_state=0)
    model = VAETransformer(4, likelihood="poisson", **settings).fit(X[:600])
    rates = np.maximum(X[:600].mean(0), 1e-6)

    assert model.active_components_.all()
    assert model.score(X[600:]) > stats.poisson.logpmf(X[600:], rates).sum(1).mean() + 0.3


def test_training_leaves_a_start_without_noise():
    """With as many codes as features probabilistic PCA has none, which training has to find."""
    rng = np.random.default_rng(0)
    u = rng.uniform(-1.5, 1.5, (800, 1))
    X = np.hstack([np.sin(2 * u), np.cos(2 * u), u**2, u]) @ rng.normal(size=(4, 6))
    X = X + 0.1 * rng.normal(size=X.shape)
    settings = dict(likelihood="gaussian", early_stopping=True, max_iter=60, random_state=0)
    model = VAETransformer(**settings).fit(X[:600])

    assert model.score(X[600:]) > PCA().fit(X[:600]).score(X[600:]) + 0.5
    assert model.noise_variance_ == pytest.approx(0.01, rel=1)


def test_parts_do_not_widen_a_fitted_likelihood():
    """Where the start was kept, one more part costs no more than its own few steps do."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 3)) @ rng.normal(size=(3, 20)) + 0.03 * rng.normal(size=(1000, 20))
    model = VAETransformer(3, hidden_layer_sizes=(), random_state=0, max_iter=20).fit(X)
    before, noise = model.score(X), model.noise_variance_
    model.partial_fit(X[:100])

    assert model.score(X) > before - 4
    assert np.mean(model.noise_variance_) == pytest.approx(np.mean(noise), rel=0.5)


# -- each likelihood finds what is there -------------------------------------------------------


def test_heavy_tails_are_better_told_by_laplace():
    """On rows with Laplace noise that likelihood is the better one, and with Gaussian the other."""
    for right, wrong in (("laplace", "gaussian"), ("gaussian", "laplace")):
        train, test = latent_rows(right), latent_rows(right, seed=1)
        scores = [
            VAETransformer(1, likelihood=name, max_iter=40, **SMALL).fit(train).score(test)
            for name in (right, wrong)
        ]
        assert scores[0] > scores[1] + 0.05


def test_dispersed_counts_are_better_told_by_a_negative_binomial():
    """The dispersion is found; counts that are Poisson's are found to have little."""
    X = latent_rows("negative_binomial", 1500)
    settings = dict(max_iter=40, **SMALL)
    dispersed = VAETransformer(1, likelihood=NegativeBinomial("shared"), **settings).fit(X)
    poisson = VAETransformer(1, likelihood="poisson", **settings).fit(X)
    counts = latent_rows("poisson", 1500)
    calm = VAETransformer(1, likelihood=NegativeBinomial("shared"), **settings).fit(counts)

    assert dispersed.score(X) > poisson.score(X) + 0.5
    assert dispersed.dispersion_ == pytest.approx(0.5, abs=0.1)
    assert calm.dispersion_ < 0.1


def test_noise_variances_of_features_are_found():
    """Features with noise of their own get a variance of their own."""
    rng = np.random.default_rng(0)
    deviations = np.linspace(0.3, 1.0, 8)
    X = rng.normal(size=(2000, 1)) * np.linspace(-2, 2, 8)
    X = X + deviations * rng.normal(size=X.shape)
    settings = dict(learning_rate=CosineDecay(1e-2), max_iter=60, **LINEAR)
    model = VAETransformer(1, likelihood=Gaussian("per_feature"), **settings).fit(X)

    np.testing.assert_allclose(model.noise_variance_, deviations**2, rtol=0.15)


# -- support -----------------------------------------------------------------------------------

OUTSIDE = [
    ("bernoulli", 2.0, r"Bernoulli is defined for values in \[0, 1\], and feature 1 .* 2.0"),
    ("bernoulli", 0.5, r"Bernoulli likelihood is defined for whole numbers, and feature 1 .* 0.5"),
    ("poisson", -1.0, r"Poisson is defined for values in \[0, inf\), and feature 1 .* -1.0"),
    ("negative_binomial", 0.25, r"NegativeBinomial likelihood .* whole numbers.* 0.25"),
]


@pytest.mark.parametrize(("name", "value", "words"), OUTSIDE)
@pytest.mark.filterwarnings("ignore:0 of 1 components are active:UserWarning")
def test_rows_outside_of_the_support_are_refused(name, value, words):
    """In fit, in held-out rows, in later parts and where likelihoods are computed."""
    X = latent_rows("bernoulli", 60)
    bad = X.copy()
    bad[7, 1] = value
    model = VAETransformer(1, likelihood=name, max_iter=1, random_state=0).fit(X)
    for method in (model.fit, model.partial_fit, model.score_samples, model.log_likelihood):
        with pytest.raises(ValueError, match=words):
            method(bad)
    with pytest.raises(ValueError, match=words):
        model.fit(X, X_val=bad)
    assert model.transform(bad).shape == (60, 1)


def test_parameters_are_checked(blobs):
    """In scikit-learn's words."""
    for wrong in (Gaussian(None), Laplace([1.0]), Gaussian(0.0)):
        with pytest.raises(ValueError, match="must be a str among"):
            VAETransformer(2, likelihood=wrong).fit(blobs)
    for n_draws in (1, 5):
        with pytest.raises(ValueError, match=r"Gaussian\(weight=2.0\) has another weight than 1"):
            VAETransformer(2, likelihood=Gaussian(weight=2.0), n_importance_samples=n_draws).fit(
                blobs
            )
    with pytest.raises(ValueError, match=r"'likelihood' parameter of VAETransformer must be a str"):
        VAETransformer(2, likelihood="binomial").fit(blobs)
    with pytest.raises(ValueError, match=r"'noise_variance' parameter of Gaussian must be a str"):
        VAETransformer(2, likelihood=Gaussian("all")).fit(blobs)
    with pytest.raises(ValueError, match="'n_importance_samples' parameter"):
        VAETransformer(2, n_importance_samples=0).fit(blobs)
    for wrong in (dict(beta=2.0), dict(free_bits=0.1), dict(beta=LinearWarmup())):
        with pytest.raises(ValueError, match="Leave beta at 1 and free_bits at 0"):
            VAETransformer(2, n_importance_samples=5, **wrong).fit(blobs)


# -- one's own ---------------------------------------------------------------------------------


class StudentT(Likelihood):
    """Student's t with three degrees of freedom, of fixed scale in scaled units."""

    def log_prob(self, x, output, dispersion):
        """Return the log-density."""
        return torch.distributions.StudentT(3.0, scale=0.2).log_prob(x - output).sum(1)

    def sample(self, mean, dispersion, rng):
        """Add noise."""
        return mean + 0.2 * rng.standard_t(3, size=mean.shape)


class Exponential(Likelihood):
    """Waiting times, whose decoder returns log-means of them."""

    raw_target = True

    def log_prob(self, x, output, dispersion):
        """Return the log-density."""
        return -(output + x * (-output).exp()).sum(1)

    def sample(self, mean, dispersion, rng):
        """Draw waiting times."""
        return rng.exponential(mean)

    def mean(self, x_hat):
        """Return means of log-means."""
        return x_hat.exp()

    def natural(self, mean):
        """Return log-means."""
        return np.log(mean)


@pytest.mark.parametrize("own", [StudentT(), Exponential()], ids=repr)
def test_a_likelihood_of_one_s_own(own):
    """It fits better than a Gaussian, draws, clones and pickles as the built-in ones do."""
    rng = np.random.default_rng(0)
    natural = rng.normal(size=(1000, 1)) * np.linspace(-1, 1, 6)
    noise = 0.1 * rng.standard_t(3, size=natural.shape)
    X = rng.exponential(np.exp(natural)) if own.raw_target else natural + noise
    settings = dict(max_iter=40, learning_rate=5e-3, **SMALL)
    gaussian = VAETransformer(1, **settings).fit(X)
    model = clone(gaussian).set_params(likelihood=own).fit(X)

    assert model.score(X) > gaussian.score(X) + 0.2
    assert model.log_likelihood(X, 200, random_state=0).mean() >= model.score(X) - 0.02
    draws = model.sample(20_000, random_state=0)
    np.testing.assert_allclose(draws.mean(0), X.mean(0), atol=0.2 * X.std())
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.score_samples(X), model.score_samples(X))
    assert np.array_equal(again.sample(20_000, random_state=0), draws)


class Scaled(Likelihood):
    """Gaussian noise that says what its variance follows, and nothing else."""

    def log_prob(self, x, output, dispersion):
        """Return the log-density."""
        return torch.distributions.Normal(output, dispersion.sqrt()).log_prob(x).sum(1)

    def sample(self, mean, dispersion, rng):
        """Add noise."""
        return mean + np.sqrt(dispersion) * rng.standard_normal(mean.shape)

    def residual(self, x, output):
        """Return squared errors."""
        return (x - output).square()


class RawScaled(Scaled):
    """The same in the user's units, where gradients have to find the variance."""

    raw_target = True
    learned_by_gradient = True


class RawByFeature(RawScaled):
    """And each feature's own."""

    per_feature = True


class Flat(Scaled):
    """A likelihood that forgets to sum over features."""

    def log_prob(self, x, output, dispersion):
        """Return one value per entry."""
        return -(x - output).square()


def test_a_dispersion_of_one_s_own_is_learned():
    """It follows the residual's mean, or gradients where rows are in the user's units."""
    X = latent_rows("gaussian")
    settings = dict(max_iter=20, learning_rate=5e-3, **SMALL)
    reference = VAETransformer(1, **settings).fit(X)
    own = clone(reference).set_params(likelihood=Scaled()).fit(X)
    settings = dict(likelihood=RawScaled(), init="random", max_iter=60, learning_rate=1e-2)
    raw = clone(reference).set_params(**settings).fit(X)

    assert own.score(X) == pytest.approx(reference.score(X), abs=0.1)
    unit = own._net.scaling.unit
    assert own.dispersion_ * unit**2 == pytest.approx(reference.noise_variance_, rel=0.1)
    assert raw.dispersion_ == pytest.approx(reference.noise_variance_, rel=0.5)


class Narrow(Scaled):
    """A likelihood that sums its residual over features."""

    def residual(self, x, output):
        """Return one value per row."""
        return super().residual(x, output).sum(1)


def test_a_residual_must_have_the_rows_shape(blobs):
    """Anything else would be a wrong dispersion."""
    with pytest.raises(ValueError, match=r"Narrow.residual must return .* shape \(64, 6\), but"):
        VAETransformer(2, likelihood=Narrow(), init="random", max_iter=1).fit(blobs)


def test_a_constant_column_has_a_dispersion_to_start_from(blobs):
    """Also in the user's units and by gradients."""
    X = np.hstack([latent_rows("gaussian"), np.full((600, 1), 2.0)])
    model = VAETransformer(1, likelihood=RawByFeature(), init="random", max_iter=3, **SMALL)

    assert np.isfinite(model.fit(X).score(X))
    assert model.dispersion_.shape == (9,)


@pytest.mark.parametrize("settings", [{}, {"n_importance_samples": 3}, {"max_iter": 0}])
def test_a_likelihood_must_return_one_value_per_row(settings, blobs):
    """Whoever asks."""
    with pytest.raises(ValueError, match=r"Flat.log_prob must return one value per row, .* shape"):
        VAETransformer(2, likelihood=Flat(), **settings).fit(blobs)


# -- draws -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_draws_are_like_the_rows(name):
    """They have the rows' support, means and standard deviations, and follow seeds."""
    X = latent_rows(name, 2000)
    model = VAETransformer(1, likelihood=name, max_iter=15, learning_rate=5e-3, **SMALL).fit(X)
    draws = model.sample(20_000, random_state=0)

    low, high = np.quantile(X, [0.01, 0.99], axis=0)
    inner, inner_draws = X.clip(low, high), draws.clip(low, high)
    spread = inner.std(0)
    np.testing.assert_allclose(inner_draws.mean(0) / spread, inner.mean(0) / spread, atol=0.15)
    np.testing.assert_allclose(inner_draws.std(0) / spread, 1, atol=0.35)
    if name in NAMES[2:]:
        assert np.array_equal(draws, draws.round())
        assert draws.min() >= 0
    assert np.array_equal(draws, model.sample(20_000, random_state=0))
    around = model.sample_like(X, random_state=0)
    together = np.corrcoef(np.hstack([X, around]).T)[:8, 8:].diagonal()
    assert together[0] > 0.15
    assert together[-1] > 0.15


def test_draws_pass_for_rows():
    """A classifier hardly tells draws from a mixture's rows; of one Gaussian's it does."""
    rng = np.random.default_rng(0)
    centers = 4 * rng.normal(size=(5, 4))
    X = centers[rng.integers(0, 5, 4000)] + 0.5 * rng.normal(size=(4000, 4))
    train, test = X[:2000], X[2000:]
    settings = dict(hidden_layer_sizes=(128, 128), n_importance_samples=5)
    settings = dict(settings, max_iter=45, early_stopping=False)
    vae = VAETransformer(2, random_state=0, **settings).fit(train)
    gaussian = GaussianMixture(1).fit(train)

    def auc(draws):
        both, label = np.vstack([test, draws]), np.repeat([0, 1], 2000)
        classifier = HistGradientBoostingClassifier(max_iter=50, random_state=0)
        return cross_val_score(classifier, both, label, scoring="roc_auc", cv=3).mean()

    draws = vae.sample(2000, random_state=0)
    assert auc(gaussian.sample(2000)[0]) > 0.8
    assert auc(draws) < 0.65
    np.testing.assert_allclose(draws.mean(0), test.mean(0), atol=0.15 * X.std())
    np.testing.assert_allclose(np.cov(draws.T), np.cov(test.T), atol=0.15 * X.var())


class FlatDraws(Gaussian):
    """A Gaussian that draws one row however many are asked for."""

    def sample(self, mean, dispersion, rng):
        """Return the first mean."""
        return mean[0]


def test_draws_of_another_shape_are_refused():
    """The error names the likelihood and both shapes."""
    model = VAETransformer(1, likelihood=FlatDraws(), max_iter=1, **SMALL)
    model.fit(latent_rows("gaussian"))
    with pytest.raises(ValueError, match=r"FlatDraws.sample must return rows of shape \(3, "):
        model.sample(3)


# -- in a search -------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, None])
def test_a_search_picks_by_held_out_likelihood(k):
    """On a curve with noise the VAE wins; on linear-Gaussian rows it ties with PCA."""
    rng = np.random.default_rng(0)
    t = rng.normal(size=(600, 1))
    curve = np.hstack([t, t**2, np.sin(3 * t)]) + 0.1 * rng.normal(size=(600, 3))
    plane = rng.normal(size=(600, 1)) @ [[1.0, -2.0, 0.5]] + 0.3 * rng.normal(size=(600, 3))
    settings = dict(likelihood="gaussian", early_stopping=True, max_iter=15, random_state=0)
    vae = VAETransformer(k, **settings)
    steps = [PCA(k), FactorAnalysis(k), vae]
    pipeline = Pipeline([("reduce", steps[0])])
    search = GridSearchCV(pipeline, {"reduce": steps}, cv=3, refit=False)

    assert isinstance(search.fit(curve).best_params_["reduce"], VAETransformer)
    pca, _, vae = search.fit(plane).cv_results_["mean_test_score"]
    assert vae == pytest.approx(pca, abs=0.05)


def test_parameters_of_a_likelihood_are_searched_by_name():
    """As those of any estimator in a slot."""
    model = VAETransformer(1, likelihood=Gaussian(), max_iter=5, **SMALL)
    grid = {"likelihood__noise_variance": ["shared", "per_feature", 1.0]}
    search = GridSearchCV(model, grid, cv=2).fit(latent_rows("gaussian"))

    assert search.best_params_["likelihood__noise_variance"] != 1.0


# -- importance-weighted training --------------------------------------------------------------


def test_training_with_importance_weights_raises_the_likelihood(digits):
    """The tighter bound gives the better model of rows not seen; the divergence is larger."""
    X = (digits > 0.5).astype(float)
    settings = dict(likelihood="bernoulli", learning_rate=CosineDecay(3e-3), max_iter=30)
    settings = dict(settings, prior="normal", **{**SMALL, "hidden_layer_sizes": (64,)})
    plain, weighted = (
        VAETransformer(8, n_importance_samples=n, **settings).fit(X[:1200]) for n in (1, 10)
    )
    likelihoods = [
        model.log_likelihood(X[1200:], 300, random_state=0).mean() for model in (plain, weighted)
    ]

    assert likelihoods[1] > likelihoods[0] + 0.1
    assert weighted.score(X) < plain.score(X)


# -- nothing explodes --------------------------------------------------------------------------

HARD = {
    "outlier": lambda X: np.vstack([X, np.full((1, 8), 1e6)]),
    "three rows": lambda X: X[:3],
    "constant column": lambda X: np.hstack([X[:, :4], np.ones((len(X), 1)), X[:, 4:]]),
    "constant": lambda X: np.ones_like(X),
    "perfect fit": lambda X: np.repeat(X[:2], 50, axis=0),
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize(
    "likelihood",
    [
        Gaussian(),
        Gaussian("per_feature"),
        Laplace("per_feature"),
        Bernoulli(),
        Poisson(),
        NegativeBinomial(),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore:.*components are active:UserWarning")
def test_nothing_explodes(likelihood, kind):
    """Scores and draws of hard rows are finite, and so are those of new rows."""
    name = "bernoulli" if isinstance(likelihood, Bernoulli) else "poisson"
    X = HARD[kind](latent_rows(name, 100))
    if name == "bernoulli" and kind == "outlier":
        X = X.clip(0, 1)
    model = VAETransformer(2, likelihood=likelihood, max_iter=5, **SMALL).fit(X)

    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.score(X[::-1] if kind == "constant" else 1 - X.clip(0, 1)))
    assert np.isfinite(model.sample(20, random_state=0)).all()
    assert np.isfinite(model.log_likelihood(X, 8, random_state=0)).all()


@pytest.mark.parametrize("likelihood", [Gaussian("per_feature"), Laplace("per_feature")])
def test_more_components_than_features_with_variances_by_feature(likelihood):
    """The surplus codes say nothing."""
    X = np.random.default_rng(0).normal(size=(50, 3)) * [1.0, 2.0, 3.0]
    model = VAETransformer(5, likelihood=likelihood, max_iter=0).fit(X)
    assert np.isfinite(model.score(X))
    assert not model.active_components_[3:].any()
