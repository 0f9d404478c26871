"""What the autoencoder and the VAE draw: densities of codes, learned priors, noise."""

import pickle

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.decomposition import PCA as LinearPCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from skae import AutoencoderTransformer, VAETransformer
from skae.decomposition import PCA


@pytest.fixture
def groups():
    """Return rows in two far groups, of 70 and 30 in 100, in a plane, and noise beside it."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(800, 2)) + 12 * (rng.random((800, 1)) < 0.3)
    return plane @ [[1, 0, 1, 0], [0, 1, 0, 1]] + 0.3 * rng.normal(size=(800, 4)) + 5


@pytest.fixture
def cloud():
    """Return rows of one Gaussian."""
    mixing = np.random.default_rng(1).normal(size=(4, 4))
    return np.random.default_rng(0).normal(size=(800, 4)) @ mixing


def model_of(kind, **settings):
    """Return a model that stays at its start."""
    return kind(2, max_iter=0, random_state=0, **settings)


KINDS = [(AutoencoderTransformer, "latent_density_"), (VAETransformer, "prior_")]


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_a_mixture_is_learned_where_rows_are_one(kind, name, groups, cloud):
    """Groups are drawn in their proportions; one Gaussian needs nothing beside the moments."""
    model = model_of(kind).fit(groups)
    draws = model.sample(10_000, random_state=0)
    far = groups.mean(1) > 9
    assert getattr(model, name).n_components >= 2
    assert np.mean(draws.mean(1) > 9) == pytest.approx(far.mean(), abs=0.02)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(groups.T), rtol=0.1, atol=0.5)
    assert not hasattr(model.fit(cloud), name)


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_learned_densities_are_repeated(kind, name, groups):
    """Equal fits draw the same, as do pickles, and draws leave a model as it was."""
    model = model_of(kind).fit(groups)
    before = pickle.dumps(model)
    draws = model.sample(50, random_state=3)
    assert pickle.dumps(model) == before
    for other in (pickle.loads(before), clone(model).fit(groups)):
        assert np.array_equal(other.sample(50, random_state=3), draws)
    assert not np.array_equal(model.sample(50, random_state=4), draws)
    assert not hasattr(clone(model), name)


def test_draws_of_units_far_apart_keep_each_spread():
    """A mixture is fitted to each code in its own unit."""
    rng = np.random.default_rng(0)
    large = np.where(rng.random(800) < 0.5, 1000.0, -1000.0) * (1 + 0.05 * rng.normal(size=800))
    X = np.column_stack([large, 0.1 * rng.normal(size=800)])
    model = AutoencoderTransformer(2, max_iter=0, random_state=0).fit(X)
    assert model.latent_density_.n_components >= 2
    drawn = model.sample(20_000, random_state=0)
    np.testing.assert_allclose(drawn.std(0), X.std(0), rtol=0.1)


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_auto_follows_all_rows_of_a_stream(kind, name, groups):
    """It learns a mixture in `fit` alone, and later rows undo it."""
    assert not hasattr(model_of(kind).partial_fit(groups), name)
    model = model_of(kind).fit(groups)
    assert not hasattr(model.partial_fit(groups[:50]), name)


def test_single_codes_are_drawn_by_themselves(groups):
    """Sparse and ordered codes have the Gaussian of each."""
    for settings in (dict(penalty="l1"), dict(ordered=True), dict(code_activation="logistic")):
        model = model_of(AutoencoderTransformer, **settings).fit(groups)
        assert not hasattr(model, "latent_density_")
        assert np.isfinite(model.sample(9, random_state=0)).all()


def test_densities_are_searched_over(groups):
    """Strings and estimators are values of one parameter."""
    values = ["auto", "gaussian", GaussianMixture(2)]
    search = GridSearchCV(model_of(AutoencoderTransformer), {"latent_density": values}, cv=2)
    assert np.isfinite(search.fit(groups).cv_results_["mean_test_score"]).all()
    search = GridSearchCV(model_of(VAETransformer), {"prior": ["normal", "mixture"]}, cv=2)
    assert search.fit(groups).best_params_ == {"prior": "mixture"}


# -- noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2])
def test_draws_have_the_rows_variance(cloud, k):
    """What reconstructions miss is added, unless the mean is asked for."""
    model = AutoencoderTransformer(k, max_iter=0, random_state=0).fit(cloud)
    draws, means = (model.sample(20_000, random_state=0, mean=mean) for mean in (False, True))
    rebuilt = model.inverse_transform(model.transform(cloud))
    np.testing.assert_allclose(np.cov(means.T), np.cov(rebuilt.T), atol=0.15)
    assert np.linalg.matrix_rank(means - means.mean(0), tol=1e-2) == k
    assert np.var(draws, axis=0).sum() == pytest.approx(np.var(cloud, axis=0).sum(), rel=0.05)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(cloud.T), atol=0.3)


def test_draws_of_probabilities_are_zeros_and_ones(digits):
    """With a loss that is a likelihood, rows are drawn from it."""
    settings = dict(early_stopping=False, max_iter=1, random_state=0)
    model = AutoencoderTransformer(2, loss="bernoulli", **settings)
    model.fit((digits > 0.5).astype(float))
    assert set(np.unique(model.sample(20, random_state=0))) == {0.0, 1.0}
    assert np.ptp(model.sample(20, random_state=0, mean=True)) < 1


def test_noise_of_parts_is_that_of_all(cloud):
    """Parts have a share of what is kept."""
    model = AutoencoderTransformer(1, max_iter=0, random_state=0)
    for start in range(0, 800, 100):
        model.partial_fit(cloud[start : start + 100])
    draws = model.sample(20_000, random_state=0)
    assert np.var(draws, axis=0).sum() == pytest.approx(np.var(cloud, axis=0).sum(), rel=0.1)


def test_a_cut_model_draws_what_it_has_lost_as_noise(cloud):
    """Components that are dropped by hand are drawn with the rest."""
    model = PCA(3, max_iter=0).fit(cloud)
    model.components_ = model.components_[:1]
    draws = model.sample(20_000, random_state=0)
    assert np.var(draws, axis=0).sum() == pytest.approx(np.var(cloud, axis=0).sum(), rel=0.1)


# -- the learned prior -------------------------------------------------------------------------


def densities(model, X):
    """Return log p(x) and the lower bound of rows of a model with one code, by quadrature."""
    z = np.linspace(-12, 12, 6001)
    rows = model.inverse_transform(z[:, None])
    noise = model.noise_variance_ + np.zeros(X.shape[1])  # one variance, or one of each feature
    errors = (np.square(X[:, None] - rows) / noise).sum(2)
    likelihood = -0.5 * (errors + np.log(2 * np.pi * noise).sum())
    joint = likelihood + model.prior_.score_samples(z[:, None])
    means, deviations = model.posterior(X)
    posterior = norm(means, deviations)
    weights = posterior.pdf(z) * (z[1] - z[0])
    most = joint.max(1, keepdims=True)
    log_p_x = np.log(np.exp(joint - most).sum(1) * (z[1] - z[0])) + most[:, 0]
    return log_p_x, (weights * (joint - posterior.logpdf(z))).sum(1)


@pytest.mark.parametrize("prior", ["mixture", KernelDensity(bandwidth=0.3)])
def test_scores_are_of_the_learned_prior(groups, prior):
    """The bound and log p(x) are what quadrature over the code makes of them."""
    model = VAETransformer(1, prior=prior, max_iter=0, random_state=0).fit(groups)
    X = groups[:60]
    log_p_x, bound = densities(model, X)
    assert (bound <= log_p_x + 1e-6).all()
    assert model.score(X) == pytest.approx(bound.mean(), abs=0.02)
    np.testing.assert_allclose(model.score_samples(X), bound, atol=0.3)
    found = model.log_likelihood(X[:15], n_samples=2000, random_state=0)
    np.testing.assert_allclose(found, log_p_x[:15], atol=0.1)
    normal = VAETransformer(1, prior="normal", max_iter=0, random_state=0).fit(groups)
    assert model.score(X) > normal.score(X) + 0.1
    assert model.lower_bound_ == normal.lower_bound_


def test_auto_scores_by_the_prior_that_held_out_codes_ask_for(groups, cloud):
    """A mixture of groups is scored as one by name; N(0, I) is that of probabilistic PCA."""
    for rows, learns in ((groups, True), (cloud, False)):
        auto, mixture, normal = (
            model_of(VAETransformer, likelihood="gaussian", prior=p).fit(rows)
            for p in ("auto", "mixture", "normal")
        )
        pca = LinearPCA(2).fit(rows).score(rows)
        assert normal.score(rows) == pytest.approx(pca, abs=2e-3)
        assert hasattr(auto, "prior_") == learns
        expected = (mixture if learns else normal).score(rows)
        assert auto.score(rows) == pytest.approx(expected, abs=1e-5)  # codes are kept in float32
        assert (auto.score(rows) > normal.score(rows) + 0.1) == learns
        assert auto.lower_bound_ == normal.lower_bound_


def test_an_outlier_is_no_less_probable_than_its_prior_lets_it_be(groups):
    """A row that no mixture has seen costs the logarithm of the number of rows, and no more."""
    far = groups[:1] + 1e4
    auto, normal = (model_of(VAETransformer, prior=p).fit(groups) for p in ("auto", "normal"))
    assert auto.prior_.n_components > 1
    loss = normal.score_samples(far) - auto.score_samples(far)
    assert loss[0] == pytest.approx(np.log(len(groups) + 1), abs=1e-3)


def test_a_learned_prior_follows_the_last_part(groups):
    """After `partial_fit` its codes are those of the last call, in the unit of N(0, I)."""
    model = model_of(VAETransformer, prior="mixture", whiten=True).fit(groups)
    near = groups[groups.mean(1) < 9]
    model.partial_fit(near)
    assert (model.sample(500, random_state=0).mean(1) < 9).all()
    for n_rows in (1, 9):
        few = model_of(VAETransformer, prior="mixture").fit(groups[:n_rows])
        assert few.prior_.n_components == 2  # one beside N(0, I)
        assert np.isfinite(few.score(groups))


def test_a_prior_without_density_somewhere_is_named(groups):
    """It cannot score all rows."""
    model = model_of(VAETransformer, prior=KernelDensity(kernel="tophat", bandwidth=0.1))
    with pytest.raises(ValueError, match=r"KernelDensity.*no density"):
        model.fit(groups[::2]).score(groups)


@pytest.mark.parametrize("prior", ["gaussian", KernelDensity, None])
def test_other_priors_are_refused(groups, prior):
    """By name, before rows are looked at."""
    with pytest.raises(ValueError, match=r"'prior' .*score_samples"):
        VAETransformer(2, prior=prior).fit(groups)
