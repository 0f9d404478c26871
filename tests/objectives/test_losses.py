"""Tests of the losses against SciPy's distributions, torch's own losses and the formulas."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit
from sklearn.base import clone
from sklearn.preprocessing import MinMaxScaler

from skae.objectives import (
    AbsoluteError,
    Bernoulli,
    Gaussian,
    Huber,
    Loss,
    NegativeBinomial,
    Poisson,
    SquaredError,
)

LOSSES = [
    AbsoluteError(),
    Bernoulli(),
    Gaussian(),
    Huber(),
    Poisson(),
    SquaredError(),
]


def evaluate(loss, x, x_hat):
    """Return the loss of NumPy arrays as one."""
    out = SimpleNamespace(x_hat=torch.tensor(x_hat), z=None, x_in=None)
    return loss(torch.tensor(x), out).numpy()


def gradient(loss, x, x_hat):
    """Return the derivative of the loss's sum for numbers, as a number."""
    x_hat = torch.tensor([[x_hat]], requires_grad=True)
    loss(torch.tensor([[x]]), SimpleNamespace(x_hat=x_hat, z=None, x_in=None)).sum().backward()
    return x_hat.grad.item()


@pytest.fixture
def rng():
    """Return a generator."""
    return np.random.default_rng(0)


def test_absolute_error_is_the_city_block_distance(rng):
    """The term is the L1 distance of each row."""
    x, x_hat = rng.normal(size=(2, 6, 4))

    np.testing.assert_allclose(
        evaluate(AbsoluteError(), x, x_hat), np.linalg.norm(x - x_hat, ord=1, axis=1)
    )


def test_huber_is_the_squared_error_within_delta(rng):
    """Small residuals cost their square, exactly as SquaredError has it."""
    x = rng.normal(size=(6, 4))
    x_hat = x + rng.uniform(-0.7, 0.7, size=x.shape)

    np.testing.assert_allclose(
        evaluate(Huber(delta=0.7), x, x_hat), evaluate(SquaredError(), x, x_hat)
    )


def test_huber_is_linear_beyond_delta():
    """The gradient stays what it is at delta and the two regimes meet there."""
    huber = Huber(delta=0.5)
    costs = evaluate(huber, np.zeros((4, 1)), np.array([[0.5], [0.5 + 1e-9], [3.0], [-4.0]]))

    np.testing.assert_allclose(costs[0], costs[1], rtol=1e-8)
    np.testing.assert_allclose(costs[2:], 2 * 0.5 * np.array([3.0, 4.0]) - 0.5**2)
    assert gradient(huber, 0.0, 100.0) == pytest.approx(2 * 0.5)


def test_huber_s_delta_is_checked():
    """A threshold of 0 would leave no loss at all."""
    with pytest.raises(ValueError, match=r"'delta' .* Huber must be .* \(0, inf\)\. Got 0 instead"):
        evaluate(Huber(delta=0), np.zeros((1, 1)), np.ones((1, 1)))


def test_huber_s_threshold_follows_a_gaussian_s_residuals(rng):
    """It is 1.345 standard deviations, 0.01 where nothing is left, and 1 before there is a fit."""
    residuals = rng.normal(0, 3, size=(20_000, 4))
    costs = evaluate(Huber(), np.zeros((1, 1)), np.full((1, 1), 3.0))

    assert Huber(weight=2.0).for_residuals(lambda: residuals).delta == pytest.approx(
        4.035, rel=0.02
    )
    assert Huber(weight=2.0).for_residuals(lambda: residuals).weight == 2.0
    assert Huber().for_residuals(lambda: residuals[:, :0]).delta == 0.01
    assert Huber(0.5).for_residuals(lambda: residuals).delta == 0.5
    assert costs == evaluate(Huber(1.0), np.zeros((1, 1)), np.full((1, 1), 3.0))


def test_bernoulli_is_minus_the_log_mass(rng):
    """On binary rows it is SciPy's log-mass, summed over features."""
    logits, x = rng.normal(size=(6, 4)), rng.integers(2, size=(6, 4))
    expected = -stats.bernoulli(expit(logits)).logpmf(x).sum(1)

    loss = Bernoulli()
    np.testing.assert_allclose(evaluate(loss, x.astype(float), logits), expected)


def test_bernoulli_takes_targets_between_0_and_1(rng):
    """On grey values it is the cross-entropy, smallest at the targets themselves."""
    logits, x = rng.normal(size=(6, 4)), rng.uniform(size=(6, 4))
    loss, p = Bernoulli(), expit(logits)
    cross_entropy = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(1)

    np.testing.assert_allclose(evaluate(loss, x, logits), cross_entropy)
    np.testing.assert_allclose(
        evaluate(loss, x, loss.natural(x)), stats.bernoulli(x).entropy().sum(1)
    )


@pytest.mark.parametrize(("x", "logit", "cost"), [(1, 1e4, 0), (0, 1e4, 1e4), (1, -1e4, 1e4)])
def test_bernoulli_survives_huge_logits(x, logit, cost):
    """A probability that rounds to 0 or 1 costs what its logit says, not infinity."""
    values = np.float32([[x]]), np.float32([[logit]])

    assert evaluate(Bernoulli(), *values) == pytest.approx([cost])


def test_poisson_is_minus_the_log_mass(rng):
    """It is SciPy's log-mass, log-factorial included, summed over features."""
    log_rates = rng.normal(size=(6, 4))
    x = rng.poisson(np.exp(log_rates))
    expected = -stats.poisson(np.exp(log_rates)).logpmf(x).sum(1)

    loss = Poisson()
    np.testing.assert_allclose(evaluate(loss, x.astype(float), log_rates), expected)


def test_poisson_survives_huge_log_rates():
    """Where the exponential would overflow, costs and means are finite and pull the right way."""
    loss, far = Poisson(), np.float32(1000)
    means = loss.mean(torch.tensor([[30.0, 30.001, 1000.0]], dtype=torch.float64))[0]

    assert np.isfinite(evaluate(loss, np.float32([[3]]), np.full((1, 1), far)))
    assert 0 < gradient(loss, np.float32(3), far) < np.inf
    torch.testing.assert_close(means[1], means[0] * 1.001)
    assert bool((means.diff() > 0).all())


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_natural_is_the_inverse_of_mean(loss, rng):
    """A reconstruction inside of the support survives the way there and back."""
    mean = rng.uniform(0.01, 0.99, size=(6, 4))
    natural = loss.natural(mean)

    np.testing.assert_allclose(loss.mean(torch.tensor(natural)).numpy(), mean)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("loss", "borders"),
    [(Bernoulli(), [0, 1]), (Poisson(), [0, 1e30])],
)
def test_natural_is_finite_at_the_borders(loss, borders, dtype):
    """A pixel that is always black has a decoder output, and one whose mean is nearly black."""
    natural = loss.natural(np.array(borders, dtype=dtype))

    assert natural.dtype == dtype
    assert np.isfinite(natural).all()
    assert loss.mean(torch.tensor(natural))[0] == pytest.approx(0, abs=1.1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_losses_with_raw_targets_are_those_with_a_link(loss):
    """Rows stay in the user's units exactly where the decoder returns something else."""
    one = torch.ones(1)

    assert loss.raw_target == bool(loss.mean(one) != one)
    assert isinstance(loss, Loss)


@pytest.mark.parametrize(
    ("loss", "low", "high", "words"),
    [
        (Bernoulli(), [0, -2, -3], [1, 1, 1], r"\[0, 1\].* 1 .* -2\.0.*Scale"),
        (
            Bernoulli(),
            [0, 0, 0],
            [1, 1, 255],
            r"\[0, 1\].* 2 .* 255\.0.*Scale",
        ),
        (
            Poisson(),
            [0, 0, -0.5],
            [9, 9, 9],
            r"\[0, inf\).* 2 .* -0\.5.*counts",
        ),
    ],
)
def test_values_outside_of_the_support_are_refused(loss, low, high, words):
    """The message names the loss, the first feature that is wrong and its value."""
    with pytest.raises(ValueError, match=f"{type(loss).__name__}.*{words}"):
        loss.check_support(np.array(low, dtype=float), np.array(high, dtype=float))


@pytest.mark.parametrize("loss", [Bernoulli(), Poisson(), NegativeBinomial()])
def test_negative_values_are_reported_as_such(loss):
    """Scikit-learn's checks look for these words, wherever other values are too large."""
    assert loss.non_negative
    low, high = np.array([0.0, 0.0, -2.0]), np.array([1.0, 1e40, 1.0])
    with pytest.raises(ValueError, match=r"^Negative values in data.* feature 2 of X .* -2\.0"):
        loss.check_support(low, high)


def test_a_loss_that_says_so_refuses_negative_values():
    """A class of one's own sets the attribute; others are defined for any real numbers."""

    class Relative(SquaredError):
        non_negative = True

    assert not SquaredError().non_negative
    zero, one = np.zeros(2), np.ones(2)
    Relative().check_support(zero, 1e9 * one)
    with pytest.raises(ValueError, match=r"^Negative values in data: Relative is .* feature 0"):
        Relative().check_support(-one, one)


def test_values_on_the_borders_are_accepted():
    """The borders belong to the support, and a scaler's rounding beyond them does no harm."""
    zero, one = np.zeros(2), np.ones(2)
    Bernoulli().check_support(zero, np.nextafter(one, 2))
    Poisson().check_support(zero, 1e9 * one)
    SquaredError().check_support(-1e9 * one, 1e9 * one)


def test_the_advice_on_bernoulli_s_support_helps(rng):
    """What MinMaxScaler returns is accepted."""
    X = MinMaxScaler().fit_transform(rng.normal(size=(200, 50)))

    Bernoulli().check_support(X.min(0), X.max(0))


def test_losses_are_estimators():
    """A loss's parameters are known to clone, set_params and repr."""
    loss = clone(Huber(delta=2.0)).set_params(weight=0.5)

    assert loss.get_params() == {"delta": 2.0, "weight": 0.5}
    assert repr(loss) == "Huber(delta=2.0, weight=0.5)"
