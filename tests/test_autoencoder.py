"""Tests of AutoencoderTransformer against PCA."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

ENDS_EARLY = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("storage", [np.asarray, csr_array])
@pytest.mark.parametrize("rows", [1797, 40])
def test_the_start_is_pca(digits, storage, rows):
    """Before any epoch codes, reconstructions and score are PCA's, tall or wide, dense or CSR."""
    X = digits[:rows]
    pca = PCA(5).fit(X)
    start = AutoencoderTransformer(5, max_iter=0).fit(storage(X))
    codes = start.transform(X)

    unit = np.sqrt(X.var(0).sum() / np.count_nonzero(X.var(0)))
    np.testing.assert_allclose(codes * unit, pca.transform(X), atol=1e-5)
    np.testing.assert_allclose(
        start.inverse_transform(codes), pca.inverse_transform(pca.transform(X)), atol=1e-5
    )
    assert start.score(X) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)
    np.testing.assert_allclose(start.mean_, pca.mean_, rtol=1e-12)


@ENDS_EARLY
@pytest.mark.parametrize(
    "load", [load_iris, load_wine, load_breast_cancer, load_diabetes], ids=lambda f: f.__name__
)
def test_never_worse_than_pca_on_new_rows(load):
    """With all defaults, rows that fit never saw are reconstructed at least as well."""
    train, test = train_test_split(load().data, random_state=0)
    pca = PCA(2).fit(train)
    error = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
    total = np.square(test - train.mean(0)).sum()
    model = AutoencoderTransformer(2, random_state=0).fit(train)

    assert model.score(test) >= 1 - error / total - 0.002


@ENDS_EARLY
def test_better_than_pca_where_rows_are_curved(digits):
    """On digits an eighth of the unexplained variance and more goes away."""
    train, test = digits[:1300], digits[1300:]
    pca = PCA(8).fit(train)
    error = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
    model = AutoencoderTransformer(8, random_state=0).fit(train)

    assert -model.score_samples(test).sum() < 7 / 8 * error


def test_a_linear_net_from_a_random_start_spans_pca_s_subspace(blobs):
    """Principal angles are small; Adam at a constant rate leaves a few hundredths of a radian."""
    model = AutoencoderTransformer(
        2,
        hidden_layer_sizes=(),
        init="random",
        early_stopping=False,
        learning_rate=0.01,
        max_iter=300,
        random_state=0,
    ).fit(blobs)
    directions = model.inverse_transform(np.eye(2)) - model.inverse_transform(np.zeros((1, 2)))
    pca = PCA(2).fit(blobs)

    assert subspace_angles(directions.T, pca.components_.T).max() < 0.05
    assert model.score(blobs) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=2e-3)


def test_score_is_the_explained_fraction_with_the_training_mean(digits):
    """`score` and `score_samples` agree with NumPy on new rows."""
    train, test = digits[:800], digits[800:]
    model = AutoencoderTransformer(4, early_stopping=False, max_iter=3, random_state=0).fit(train)
    errors = np.square(test - model.inverse_transform(model.transform(test))).sum(1)

    np.testing.assert_allclose(model.score_samples(test), -errors, rtol=1e-9)
    total = np.square(test - train.mean(0)).sum()
    assert model.score(test) == pytest.approx(1 - errors.sum() / total)


def test_samples_have_the_moments_of_the_codes(digits):
    """From the PCA start, draws have the mean and covariance of the reconstructions."""
    model = AutoencoderTransformer(3, max_iter=0).fit(digits)
    reconstructions = model.inverse_transform(model.transform(digits))
    draws = model.sample(20_000, random_state=0)

    np.testing.assert_allclose(draws.mean(0), reconstructions.mean(0), atol=0.02)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(reconstructions.T), atol=0.01)


@ENDS_EARLY
def test_too_few_rows_to_hold_any_out_keep_the_start(digits):
    """With nine rows "auto" stays at PCA; with held-out rows of one's own it trains."""
    few = AutoencoderTransformer(2, random_state=0).fit(digits[:9])
    own = AutoencoderTransformer(2, max_iter=2, n_iter_no_change=1, random_state=0)

    assert few.n_iter_ == 0
    assert few.loss_curve_ == []
    assert own.fit(digits[:9], X_val=digits[9:60]).n_iter_ > 0


@ENDS_EARLY
def test_held_out_rows_choose_the_epoch(digits):
    """The best loss is the smallest of the curve and that of the model that is kept."""
    X, X_val = digits[:600], digits[600:900]
    model = AutoencoderTransformer(4, max_iter=15, random_state=0).fit(X, X_val=X_val)
    unit = X.var(0).sum() / np.count_nonzero(X.var(0))

    assert model.best_loss_ == min(model.validation_loss_curve_)
    assert -model.score_samples(X_val).mean() / unit == pytest.approx(model.best_loss_, rel=1e-4)


@pytest.mark.parametrize("kind", ["global", "standard", None])
def test_weight_decay_shrinks_the_network(digits, kind):
    """A strong decay pulls reconstructions towards the mean under every scaling."""
    settings = dict(early_stopping=False, max_iter=20, random_state=0, scale=kind)
    free = AutoencoderTransformer(4, **settings).fit(digits)
    decayed = AutoencoderTransformer(4, weight_decay=10.0, **settings).fit(digits)

    assert decayed.score(digits) < free.score(digits) - 0.05
