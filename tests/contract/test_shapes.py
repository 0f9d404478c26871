"""Unusual shapes: one row, one column, more components than features, no variance."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, VAETransformer
from tests.contract.checks import CALM, each_reconstructing

pytestmark = CALM


def pca_score(X, n_components):
    """Return the fraction of X's variance that its principal components explain."""
    return PCA(n_components, svd_solver="full").fit(X).explained_variance_ratio_.sum()


@each_reconstructing
def test_one_row(model):
    """A single row is what the network reproduces."""
    X = np.array([[1.0, -2.5, 1e3]])
    model.set_params(n_components=1, **({"n_codes": 1} if hasattr(model, "n_codes") else {}))
    model.set_params(early_stopping="auto").fit(X)
    assert np.array_equal(model.inverse_transform(model.transform(X)), X)
    assert model.score(X) == 1.0


def test_one_row_of_many(fitted, blobs):
    """One row may be asked for, and scores as it does among others."""
    one, among = fitted.score_samples(blobs[7:8]), fitted.score_samples(blobs)
    assert abs(one[0] - among[7]) <= 1e-12 * abs(among).max()
    assert np.isfinite(fitted.score(blobs[7:8]))


def test_one_column(model):
    """One feature and one component: the autoencoder loses nothing, the others not much."""
    X = np.random.default_rng(1).normal(3.0, 2.0, size=(60, 1))
    model.set_params(n_components=1, **({"n_codes": 1} if hasattr(model, "n_codes") else {}))
    back = model.fit(X).inverse_transform(model.transform(X))
    assert back.shape == X.shape
    unexplained = np.square(X - back).sum() / np.square(X - X.mean()).sum()
    assert unexplained < (1e-6 if isinstance(model, AutoencoderTransformer) else 0.05)


def test_eight_rows(model, blobs):
    """With too few rows to hold any out, the start is kept: PCA, for the autoencoder."""
    X = blobs[:8]
    model.set_params(early_stopping="auto").fit(X)
    assert model.validation_loss_curve_ == []
    assert np.isfinite(model.transform(blobs)).all()
    if isinstance(model, AutoencoderTransformer):
        assert model.score(X) == pytest.approx(pca_score(X, 4), abs=1e-6)


def test_more_components_than_features(model, blobs):
    """More components than features: as many columns as asked for, and nothing is lost."""
    X = blobs[:, :3]
    codes = model.set_params(n_components=8).fit_transform(X)
    assert codes.shape == (200, 8)
    assert model.n_components_ == 8
    if isinstance(model, AutoencoderTransformer):
        assert model.score(X) > 1 - 1e-6
    assert np.isfinite(model.score(X))


def test_more_components_than_rows(model, blobs):
    """More components than rows: as many columns as asked for, finite for new rows too."""
    codes = model.set_params(n_components=10).fit(blobs[:6]).transform(blobs)
    assert codes.shape == (200, 10)
    assert np.isfinite(codes).all()
    assert np.isfinite(model.score(blobs[:6]))


@pytest.mark.parametrize("scale", ["global", "standard", None])
@pytest.mark.parametrize("value", [0.0, 3.7, -1e8, 1e-8])
def test_no_variance(model, value, scale):
    """Rows that are all the same come back, with a score of 1.0 or a finite likelihood."""
    X = np.full((30, 4), value)
    model.set_params(scale=scale).fit(X)
    assert np.isfinite(model.score(X))
    assert np.isfinite(model.sample(5, random_state=0)).all()
    back = model.inverse_transform(model.transform(X))
    if not isinstance(model, VAETransformer):
        assert model.score(X) == (1.0 if np.array_equal(back, X) else 0.0)
    if scale is not None:
        assert np.array_equal(back, X)


@each_reconstructing
def test_score_of_a_missed_constant(model, blobs):
    """Rows at the training mean have no variance to explain: not reproduced, they score 0.0."""
    model.set_params(init="random", early_stopping=False).fit(blobs)
    X = np.tile(model.mean_, (3, 1))
    assert not np.array_equal(model.inverse_transform(model.transform(X)), X)
    assert model.score(X) == 0.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("scale", ["global", "standard"])
def test_constant_columns(model, blobs, scale, init, dtype):
    """Features that never vary come back exactly, for rows with other values there as well."""
    X = np.insert(blobs, [0, 2, 6], [0.1, 1e6 + 1 / 3, 0.0], axis=1).astype(dtype)
    constant = [0, 3, 8]
    assert (X[:, constant] == X[0, constant]).all()
    model.set_params(scale=scale, init=init).fit(X)
    for row in (X, X + 1):
        back = model.inverse_transform(model.transform(row))
        assert np.array_equal(back[:, constant], X[:, constant])
    if not isinstance(model, VAETransformer):
        assert np.array_equal(
            model.sample(9, random_state=0)[:, constant], X[:9, constant].astype(np.float64)
        )
