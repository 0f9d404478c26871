"""Extreme values, diverging training, and PCA as the start and the floor."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer
from skae.exceptions import ConvergenceError
from tests.contract.checks import (
    CALM,
    assert_same,
    assert_unfitted,
    outputs,
)

pytestmark = CALM


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e-8, 1e8, 1e30, 1e100])
def test_units_of_the_rows(model, blobs, size):
    """Rows in very small or very large units are fitted as the same rows in their own units."""
    X = (blobs - blobs.mean(0)) * size
    plain = clone(model).fit(blobs - blobs.mean(0))
    try:
        model.fit(X)
    except ValueError as error:
        assert "too large" in str(error) or "too small" in str(error)  # noqa: PT017
        assert size in (1e-300, 1e100)
        return
    back = model.inverse_transform(model.transform(X))
    assert np.isfinite(back).all()
    if not isinstance(model, VAETransformer):
        error = np.square((X - back) / size).sum() / np.square(X / size).sum()
        assert 1 - error == pytest.approx(plain.score(blobs - blobs.mean(0)), abs=0.02)


@pytest.mark.parametrize("value", [1e300, -1e300, 1e200])
@pytest.mark.parametrize("scale", ["global", "standard", None])
def test_huge_values(model, blobs, value, scale):
    """Values whose squares overflow are refused with their size."""
    X = blobs.copy()
    X[0, 0] = value
    with pytest.raises(ValueError, match=f"{abs(value):.1e}".replace("+", r"\+")):
        model.set_params(scale=scale).fit(X)
    assert_unfitted(model)


@pytest.mark.parametrize("value", [1e20, 1e100, 1e149])
def test_huge_values_in_new_rows(fitted, blobs, value):
    """A row far outside the training rows gives finite numbers or an error, never NaN."""
    X = blobs.copy()
    X[0, 0] = value
    for rows in (X, X.astype(np.float32)) if value < 1e38 else (X,):
        for method in (fitted.transform, fitted.score_samples, fitted.score):
            try:
                result = method(rows)
            except ValueError as error:
                assert "not finite" in str(error) or "too large" in str(error)  # noqa: PT017
            else:
                assert np.isfinite(result).all()


def test_huge_values_in_rows_to_learn_from(fitted, blobs):
    """Rows too large for the scale of an earlier fit are refused by name, and nothing is lost."""
    expected = outputs(fitted, blobs)
    huge = np.where(np.arange(6) == 2, 1e60, blobs)
    with pytest.raises(ValueError, match=r"Feature 2 of X reaches \d\.\de\+\d\d .*float32"):
        fitted.partial_fit(huge)
    with pytest.raises(ValueError, match=r"Feature 2 of X reaches \d\.\de\+\d\d .*float32"):
        clone(fitted).fit(blobs, X_val=huge)
    assert_same(outputs(fitted, blobs), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_unchecked_rows(model, blobs, bad):
    """With ``assume_finite`` NaN gets past the checks of scikit-learn, but not into a fit."""
    X = blobs.copy()
    X[3, 1] = bad
    with config_context(assume_finite=True), pytest.raises(ValueError, match="inf"):
        model.fit(X)
    assert_unfitted(model)


# Steps of 10 from a random start leave finite networks whose codes are, truly, not in use.
@pytest.mark.filterwarnings("ignore:. of (4 components|32 codes) are (active|used):UserWarning")
@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("learning_rate", [10.0, 1e6, 1e30])
def test_diverging_training(model, blobs, learning_rate, early_stopping, init):
    """Absurd learning rates end in ConvergenceError or in finite numbers, never in NaN."""
    model.set_params(learning_rate=learning_rate, early_stopping=early_stopping, init=init)
    model.set_params(max_iter=6)
    try:
        model.fit(blobs)
    except ConvergenceError:
        assert_unfitted(model)
    else:
        for name, value in outputs(model, blobs).items():
            assert np.isfinite(value).all(), name
        assert np.isfinite(model.loss_curve_).all()


def test_diverging_refit(model, blobs):
    """A refit that diverges leaves the fit before it, and grid search can score it as failed."""
    assert issubclass(ConvergenceError, ValueError)
    model.fit(blobs)
    before = outputs(model, blobs)
    model.set_params(learning_rate=1e30, early_stopping=False, init="random")
    with pytest.raises(ConvergenceError, match="learning_rate"):
        model.fit(blobs)
    assert_same(outputs(model, blobs), before)


@pytest.mark.parametrize("scale", ["global", None])
def test_no_epoch_is_pca(digits, scale):
    """Without an epoch the autoencoder is PCA: its score and its reconstructions."""
    X = digits[:500]
    model = AutoencoderTransformer(10, max_iter=0, scale=scale, random_state=0).fit(X)
    pca = PCA(10, svd_solver="full").fit(X)
    assert model.score(X) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)
    expected = pca.inverse_transform(pca.transform(digits[500:]))
    back = model.inverse_transform(model.transform(digits[500:]))
    np.testing.assert_allclose(back, expected, rtol=0, atol=1e-5)


def test_no_epoch_is_pca_of_standardised_rows(blobs):
    """Scaled per feature, the autoencoder without an epoch is PCA after a StandardScaler."""
    X = blobs * 10.0 ** np.arange(-3, 3)
    model = AutoencoderTransformer(3, max_iter=0, scale="standard", random_state=0).fit(X)
    pipeline = make_pipeline(StandardScaler(), PCA(3, svd_solver="full")).fit(X)
    expected = pipeline.inverse_transform(pipeline.transform(X))
    back = model.inverse_transform(model.transform(X))
    np.testing.assert_allclose(back, expected, rtol=1e-4, atol=1e-5 * X.std(0).max())


def test_training_is_not_worse_than_pca(digits):
    """After training the autoencoder reconstructs held-out digits at least as well as PCA."""
    model = AutoencoderTransformer(5, max_iter=5, random_state=0).fit(digits[:900])
    start = clone(model).set_params(max_iter=0).fit(digits[:900])
    assert model.score(digits[900:]) > start.score(digits[900:])
