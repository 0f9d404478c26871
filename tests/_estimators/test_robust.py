"""Tests of robust losses: outliers hardly matter, by default."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.objectives import AbsoluteError, Gaussian, Huber, Laplace, SquaredError

# Fits are cut short.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROBUST = {
    "huber": lambda **how: AutoencoderTransformer(8, loss="huber", random_state=0, **how),
    "absolute_error": lambda **how: AutoencoderTransformer(
        8, loss="absolute_error", random_state=0, **how
    ),
    "laplace": lambda **how: VAETransformer(8, likelihood="laplace", random_state=0, **how),
}


@pytest.fixture(scope="module")
def digits():
    """Return clean training rows, the same with 2 % of noise, and clean rows beside these."""
    X, _ = load_digits(return_X_y=True)
    rng, spoiled = np.random.default_rng(0), X[:1200].copy()
    spoiled[:24] = rng.normal(0, 200, size=(24, 64))
    return X[24:1200], spoiled, X[1200:]


def explained(model, X, mean):
    """Return how much of the rows' variance about a mean is reconstructed."""
    found = model.inverse_transform(model.transform(X))
    return 1 - np.square(X - found).sum() / np.square(X - mean).sum()


@pytest.mark.parametrize("name", ROBUST)
def test_the_start_is_pca_of_clean_rows(name, digits):
    """Without an epoch, rows are reconstructed nearly as by PCA that never saw an outlier."""
    clean, spoiled, test = digits
    expected = explained(PCA(8).fit(clean), test, clean.mean(0))
    model = ROBUST[name](max_iter=0).fit(spoiled)

    assert explained(PCA(8).fit(spoiled), test, clean.mean(0)) < 0.2
    assert explained(model, test, clean.mean(0)) > expected - 0.03
    np.testing.assert_allclose(model.mean_, spoiled.mean(0))  # as `score` has it


@pytest.mark.parametrize("name", ["huber", "absolute_error"])
def test_training_gains_beside_outliers(name, digits):
    """Some epochs are better on clean rows than the start, and are kept."""
    clean, spoiled, test = digits
    model, start = (ROBUST[name](max_iter=n).fit(spoiled) for n in (30, 0))

    assert explained(model, test, clean.mean(0)) > explained(start, test, clean.mean(0)) + 0.02


def test_losses_say_whether_they_are_robust():
    """Those whose gradient is bounded are."""
    robust = [AbsoluteError(), Huber(), Laplace()]
    assert all(loss.is_robust for loss in robust)
    assert not any(loss.is_robust for loss in (SquaredError(), Gaussian()))


def test_huber_s_threshold_follows_what_the_start_leaves(digits):
    """It is 1.345 times the scaled median deviation of the residuals, in scaled units."""
    X = digits[0][:200]
    model = AutoencoderTransformer(8, loss="huber", max_iter=0, random_state=0).fit(X)
    residuals = (
        X - PCA(8).fit(X).inverse_transform(PCA(8).fit_transform(X))
    ) / model._net.scaling.scale
    varies = X.std(0) > 0
    expected = 1.345 * 1.4826 * np.median(np.abs(residuals[:, varies]))

    assert model._net.loss.delta == pytest.approx(expected, rel=1e-4)
    assert model.loss == "huber"


@pytest.mark.parametrize("family", [AutoencoderTransformer, VQVAETransformer])
def test_a_later_fit_goes_on_with_the_threshold(family, digits):
    """A warm start and partial_fit minimise the same loss as before, whatever rows come."""
    model = family(4, loss=Huber(), max_iter=1, warm_start=True, random_state=0)
    delta = model.fit(digits[0][:300])._net.loss.delta

    assert model.fit(5 * digits[0][:300])._net.loss.delta == delta
    assert model.partial_fit(digits[0][300:400])._net.loss.delta == delta
    assert model.loss.delta == "auto"


def test_a_number_stays_the_threshold(digits):
    """Who sets it gets it."""
    model = AutoencoderTransformer(8, loss=Huber(0.3), max_iter=1, random_state=0)

    assert model.fit(digits[0][:200])._net.loss.delta == 0.3


def test_a_start_that_reproduces_rows_has_a_threshold(digits):
    """With as many codes as features the residuals are rounding, which is no unit."""
    model = AutoencoderTransformer(loss="huber", max_iter=1, random_state=0).fit(digits[0][:200])

    assert model._net.loss.delta == 0.01


@pytest.mark.parametrize("loss", ["huber", "squared_error"])
def test_held_out_outliers_decide_nothing_for_robust_losses(loss, digits):
    """Held-out losses are those without the outlier, and so is what is kept."""
    X, _, test = digits
    spoiled = np.vstack([test[:100], np.full((1, 64), 1e4)])
    how = dict(loss=loss, max_iter=4, random_state=0)
    expected, found = (
        AutoencoderTransformer(8, **how).fit(X[:300], X_val=rows) for rows in (test[:100], spoiled)
    )

    same = np.allclose(expected.validation_loss_curve_, found.validation_loss_curve_)
    assert same == (loss == "huber")
    if same:
        np.testing.assert_array_equal(expected.transform(test), found.transform(test))
