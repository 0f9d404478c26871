"""How many Gaussians codes are a mixture of."""

import pickle

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skae._latent.density import (
    Fitted,
    MixtureOnDemand,
    count_mixed,
    density_of,
    fit_mixture,
)


@pytest.fixture
def rng():
    """Return a source of numbers."""
    return np.random.default_rng(0)


@pytest.mark.parametrize("seed", range(5))
def test_one_gaussian_is_one_component(seed):
    """Codes of a correlated Gaussian need no mixture; standard normal ones not even that."""
    codes = np.random.default_rng(seed).normal(size=(1500, 3))
    assert count_mixed(codes, 0, beside_normal=True) == 0
    assert count_mixed(codes @ [[1, 0.5, 0], [0, 1, -2], [0, 0, 0.1]] + 7, 0) == 1
    assert count_mixed(3 * codes, 0, beside_normal=True) == 1


def test_clusters_are_found_in_their_proportions(rng):
    """Two far clusters of 70 and 30 in 100 codes are drawn as often, wherever they lie."""
    is_far = rng.random(1000) < 0.3
    codes = rng.normal(size=(1000, 2)) + 50 * is_far[:, None] + 1e3
    assert count_mixed(codes, 0) >= 2
    draws, _ = fit_mixture(count_mixed(codes, 0), codes, 0).sample(20_000)
    assert np.mean(draws[:, 0] > 1025) == pytest.approx(is_far.mean(), abs=0.02)
    np.testing.assert_allclose(draws.mean(0), codes.mean(0), atol=1)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(codes.T), rtol=0.05)


def test_curved_codes_need_many(rng):
    """Points on a circle are held-out for a mixture of some, and few for one of two."""
    angles = rng.uniform(0, 2 * np.pi, 2000)
    circle = np.column_stack([np.cos(angles), np.sin(angles)]) + 0.02 * rng.normal(size=(2000, 2))
    radii = np.linalg.norm(fit_mixture(count_mixed(circle, 0), circle, 0).sample(5000)[0], axis=1)
    assert count_mixed(circle, 0) >= 8
    assert abs(radii - 1).mean() < 0.05


@pytest.mark.parametrize("seed", range(5))
def test_a_small_ring_is_found_though_two_components_are_no_better_than_one(seed):
    """Some hundred of its points ask for eight or more, of which one and two tell nothing."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 2 * np.pi, 300)
    ring = np.column_stack([np.cos(angles), np.sin(angles)]) * 2**0.5
    ring += 0.05 * rng.normal(size=ring.shape)
    assert count_mixed(ring, seed, beside_normal=True) >= 4


@pytest.mark.parametrize(
    "codes",
    [np.zeros((500, 2)), np.arange(6.0).reshape(3, 2), np.repeat([[0.0], [1.0]], 300, axis=0)],
)
def test_few_distinct_codes_are_not_compared(codes):
    """They say nothing about a density."""
    assert count_mixed(codes, 0) == 0


def test_large_tables_are_as_cheap_as_some_rows(rng):
    """Some thousand codes are looked at, and the choice follows the seed alone."""
    codes = rng.normal(size=(60_000, 32)).astype(np.float32)
    assert count_mixed(codes, 0) == count_mixed(codes, 0) == 1
    mixtures = [fit_mixture(2, codes, 3) for _ in range(2)]
    assert np.array_equal(mixtures[0].means_, mixtures[1].means_)


@pytest.mark.parametrize("unit", [1e-100, 1.0, 1e100])
def test_a_mixture_on_demand_is_learned_once_and_left_out_of_pickles(unit):
    """It is that of the codes in whatever unit, and the same after a pickle."""
    rng = np.random.default_rng(0)
    codes = unit * np.vstack([rng.normal(size=(300, 2)), 20 + rng.normal(size=(300, 2))])
    late = MixtureOnDemand(codes, 0)
    before = pickle.dumps(late)
    assert late.found is late.found
    assert late.found.n_components >= 2
    assert pickle.dumps(late) == before
    again = pickle.loads(before)
    assert "found" not in vars(again)
    draws = [each.found.sample(400)[0] / unit for each in (late, again)]
    assert np.array_equal(*draws)
    assert np.mean(draws[0][:, 0] > 10) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("n_codes", [5, 2000])
def test_beside_n_0_i_no_code_is_impossible(n_codes, rng):
    """It is a component with the weight of one code, so nothing is far less probable than there."""
    codes = 0.1 * rng.normal(size=(n_codes, 2)) + [2, 0]
    alone, guarded = (fit_mixture(2, codes, 0, beside_normal=b) for b in (False, True))
    points = np.vstack([codes, 30 * rng.normal(size=(200, 2))])
    normal = multivariate_normal([0, 0]).logpdf(points)
    expected = np.logaddexp(
        np.log(n_codes / (n_codes + 1)) + alone.score_samples(points),
        np.log(1 / (n_codes + 1)) + normal,
    )
    np.testing.assert_allclose(guarded.score_samples(points), expected)
    assert (guarded.score_samples(points) >= normal - np.log(n_codes + 1) - 1e-9).all()
    assert alone.score_samples(points).min() < normal.min() - 1e4
    assert guarded.n_components == len(guarded.weights_) == 3
    assert guarded.sample(100)[0].shape == (100, 2)


def test_without_a_mixture_there_is_no_attribute():
    """One component is none where two are asked for."""
    codes = np.random.default_rng(0).normal(size=(300, 2))
    with pytest.raises(AttributeError, match="prior_ is not set"):
        density_of(MixtureOnDemand(codes, 0), "prior_")
    with pytest.raises(AttributeError, match="prior_ is not set"):
        density_of(None, "prior_")
    assert density_of(Fitted("given"), "prior_") == "given"


def test_a_mixture_in_each_code_s_unit_is_one_density():
    """Its scores are those of its means and covariances, whatever the codes' units."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(500, 2)) * [30.0, 0.1]
    mixture = fit_mixture(2, codes, 0)
    expected = logsumexp(
        [
            np.log(weight) + multivariate_normal(mean, covariance).logpdf(codes)
            for weight, mean, covariance in zip(
                mixture.weights_, mixture.means_, mixture.covariances_, strict=True
            )
        ],
        axis=0,
    )
    np.testing.assert_allclose(mixture.score_samples(codes), expected, rtol=1e-9)
    np.testing.assert_allclose(
        mixture.precisions_ @ mixture.covariances_, [np.eye(2)] * 2, atol=1e-6
    )
    assert mixture.lower_bound_ == pytest.approx(expected.mean(), abs=0.05)
