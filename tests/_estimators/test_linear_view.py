"""PCA's attributes in all families: what they are for linear models, and what always holds."""

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.metrics import explained_variance_scorer
from skae.objectives import ACAI, L1, Gaussian, TopK

CALM = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:.*of.*are (active|used):UserWarning",
    "ignore:n_components=0.6.*All are kept:UserWarning",
)
VARIANTS = [
    AutoencoderTransformer(4),
    AutoencoderTransformer(4, init="random"),
    AutoencoderTransformer(4, hidden_layer_sizes=()),
    AutoencoderTransformer(4, whiten=True, scale="standard"),
    AutoencoderTransformer(4, loss="huber", corruption="swap"),
    AutoencoderTransformer(8, code_activation=TopK(2)),
    AutoencoderTransformer(4, code_activation="logistic", penalty="kl_sparsity"),
    AutoencoderTransformer(4, penalty=[L1(0.1), ACAI()]),
    AutoencoderTransformer(4, ordered=True, tied_weights=True),
    AutoencoderTransformer(0.6, init="random", learning_rate=0.05),
    VAETransformer(4),
    VAETransformer(4, whiten=True, likelihood="laplace"),
    VAETransformer(4, likelihood=Gaussian("per_feature"), scale="standard"),
    VAETransformer(0.5, init="random"),
    VQVAETransformer(4),
    VQVAETransformer(0.5, n_codes=2, quantizer="residual"),
    VQVAETransformer(4, quantizer="finite_scalar", init="random"),
]


@pytest.fixture(scope="module")
def wine():
    """Return standardised wines."""
    return StandardScaler().fit_transform(load_wine().data)


@CALM
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("model", VARIANTS, ids=lambda model: repr(model)[:60])
def test_ratios_are_the_score_shared_out(wine, model, seed):
    """Never negative, summing to the training score or zero; descending where codes are sorted."""
    model.set_params(early_stopping=True, max_iter=8, random_state=seed).fit(wine)
    ratios, score = model.explained_variance_ratio_, explained_variance_scorer(model, wine)
    assert (ratios >= 0).all()
    assert ratios.sum() == pytest.approx(max(score, 0), abs=1e-6)
    assert ratios.shape == model.singular_values_.shape == (model.n_components_,)
    assert model.components_.shape == (model.n_components_, 13)
    rotated = isinstance(model, AutoencoderTransformer) and not model._code_covariance.ndim == 1
    if rotated:
        assert (np.diff(ratios) <= 1e-12).all()
    eigenvalues = np.linalg.eigvalsh(model.get_covariance())
    assert eigenvalues.min() > -1e-9


def test_a_linear_variational_one_is_probabilistic_pca(digits):
    """Axes, variances and covariance are PCA's, with n_samples as divisor."""
    pca = PCA(5, svd_solver="full").fit(digits)
    model = VAETransformer(5, likelihood="gaussian", max_iter=0).fit(digits)
    factor = 1797 / 1796
    np.testing.assert_allclose(model.components_, pca.components_, atol=1e-6)
    found = model.explained_variance_ * factor
    np.testing.assert_allclose(found, pca.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(model.get_covariance() * factor, pca.get_covariance(), atol=1e-4)


def test_noise_of_each_feature_is_in_the_covariance(wine):
    """It is near that of factor analysis, and the precision is its inverse."""
    model = VAETransformer(3, likelihood=Gaussian("per_feature"), max_iter=0).fit(wine)
    analysis = FactorAnalysis(3, tol=1e-8, max_iter=5000).fit(wine)
    np.testing.assert_allclose(model.get_covariance(), analysis.get_covariance(), atol=0.02)
    product = model.get_covariance() @ model.get_precision()
    np.testing.assert_allclose(product, np.eye(13), atol=1e-6)


@CALM
def test_noise_that_follows_the_mean_has_no_covariance(wine):
    """The error names the likelihood."""
    model = VAETransformer(2, likelihood="bernoulli", max_iter=1).fit((wine > 0).astype(float))
    assert model.components_.shape == (2, 13)
    for method in (model.get_covariance, model.get_precision):
        with pytest.raises(ValueError, match=r"likelihood='bernoulli'.*'gaussian'"):
            method()


@CALM
@pytest.mark.parametrize("k", [2, 5])
def test_the_linear_model_of_a_trained_net_is_one_of_the_rows(digits, k):
    """Components are orthonormal and regress rows on codes; its total variance is that of rows."""
    model = AutoencoderTransformer(k, early_stopping=True, max_iter=25, random_state=0)
    model.fit(digits)
    assert model.gain_over_pca_ > 0.05
    Z, X = model.transform(digits), digits - digits.mean(0)
    np.testing.assert_allclose(model.components_ @ model.components_.T, np.eye(k), atol=1e-6)
    reconstructions = model.inverse_transform(Z) - digits.mean(0)
    expected = np.linalg.lstsq(Z, reconstructions, rcond=None)[0]
    np.testing.assert_allclose(model.components_, expected, atol=1e-6)
    by_hand = 1 - np.square(X - Z @ model.components_).sum() / np.square(X).sum()
    assert by_hand > 0.7 * model.explained_variance_.sum() / X.var(0, ddof=1).sum()
    assert np.trace(model.get_covariance()) == pytest.approx(X.var(0, ddof=1).sum(), rel=1e-6)


@CALM
def test_signs_follow_the_nearest_principal_axes(digits):
    """Whatever the seed: codes of two seeds that are alike do not mirror each other."""
    axes = PCA(4, svd_solver="full").fit(digits).components_
    for seed in range(3):
        settings = dict(early_stopping=True, max_iter=10, random_state=seed)
        model = AutoencoderTransformer(4, **settings).fit(digits)
        overlap = model.components_ @ axes.T
        assert (np.take_along_axis(overlap, abs(overlap).argmax(1)[:, None], 1) > 0).all()


@CALM
def test_whitened_codes_have_unit_variance_and_change_nothing_else(wine):
    """Posteriors are in their unit; rows, scores and draws are the same."""
    settings = dict(early_stopping=True, max_iter=5, random_state=0)
    plain, white = (
        VAETransformer(3, whiten=whiten, **settings).fit(wine) for whiten in (False, True)
    )
    codes = white.transform(wine)
    np.testing.assert_allclose(codes.std(0), 1, rtol=1e-9)
    deviations = plain.transform(wine).std(0)
    for found, expected in zip(white.posterior(wine), plain.posterior(wine), strict=True):
        np.testing.assert_allclose(found, expected / deviations, rtol=1e-9)
    rows = plain.inverse_transform(plain.transform(wine))
    np.testing.assert_allclose(white.inverse_transform(codes), rows, atol=1e-9)
    for name in ("score_samples", "sample_like"):
        more = {} if name == "score_samples" else {"random_state": 0}
        found, expected = (getattr(each, name)(wine, **more) for each in (white, plain))
        np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(white.sample(5, 0), plain.sample(5, 0), atol=1e-9)
    np.testing.assert_allclose(white.components_, plain.components_, atol=1e-9)


def test_quantized_rows_have_about_their_covariance(digits):
    """With a codebook for each of many components it is that of the rows."""
    model = VQVAETransformer(32, n_codes=32, codebook_size=64, max_iter=0, random_state=0)
    found, expected = model.fit(digits).get_covariance(), np.cov(digits.T)
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", [VAETransformer, VQVAETransformer])
def test_a_share_of_the_variance_chooses_the_number_of_codes(digits, kind):
    """As many as PCA needs; with a number of codes, the next that it divides."""
    needed = PCA(0.8, svd_solver="full").fit(digits).n_components_
    assert kind(0.8, max_iter=0).fit(digits).n_components_ == needed == 13
    if kind is VQVAETransformer:
        assert kind(0.8, n_codes=5, max_iter=0).fit(digits).n_components_ == 15


@pytest.mark.parametrize("kind", [AutoencoderTransformer, VAETransformer, VQVAETransformer])
def test_components_have_the_dtype_of_rows_and_are_read_only(wine, kind):
    """Nothing that is written to them is lost in silence."""
    model = kind(2, max_iter=0).fit(wine.astype(np.float32))
    assert model.components_.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        model.components_[0] = 0
    with pytest.raises(AttributeError):
        model.components_ = model.components_[:1]
