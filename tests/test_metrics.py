"""Tests of the metrics: scorers on skae and its relatives, gap and correlation of codes."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import NMF, PCA, KernelPCA, TruncatedSVD
from sklearn.metrics import mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler

from skae import AutoencoderTransformer
from skae.metrics import (
    code_correlation,
    explained_variance_scorer,
    mutual_information_gap,
    neg_mean_absolute_error_scorer,
    neg_mean_squared_error_scorer,
)

ESTIMATORS = [
    PCA(5),
    KernelPCA(5, fit_inverse_transform=True),
    NMF(5, max_iter=500, tol=1e-2),
    TruncatedSVD(5, random_state=0),
    AutoencoderTransformer(5, max_iter=0),
    make_pipeline(MinMaxScaler(), PCA(5)),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_scores_are_those_of_the_reconstruction(estimator, digits):
    """All three equal NumPy's figures on the reconstruction in the input's units."""
    X = digits[:300]
    estimator = estimator.fit(X)
    error = X - estimator.inverse_transform(estimator.transform(X))
    explained = 1 - np.square(error).sum() / np.square(X - X.mean(0)).sum()

    assert explained_variance_scorer(estimator, X) == pytest.approx(explained)
    assert neg_mean_squared_error_scorer(estimator, X) == pytest.approx(-np.square(error).mean())
    assert neg_mean_absolute_error_scorer(estimator, X) == pytest.approx(-np.abs(error).mean())


def test_scores_take_csr_and_rows_without_variance(digits):
    """CSR rows score as dense ones; without variance the fraction is NaN."""
    pca = PCA(5).fit(digits)

    assert explained_variance_scorer(pca, sparse.csr_array(digits)) == pytest.approx(
        explained_variance_scorer(pca, digits)
    )
    assert explained_variance_scorer(pca, digits[:1]) == 0.0
    assert explained_variance_scorer(MaxAbsScaler().fit(digits[:1]), digits[:1]) == 1.0


def test_training_score_is_the_estimator_s_own(digits):
    """On training rows the scorer and `score` agree."""
    model = AutoencoderTransformer(5, max_iter=3, early_stopping=False, random_state=0).fit(digits)

    assert explained_variance_scorer(model, digits) == pytest.approx(model.score(digits))


def test_reconstructions_may_be_sparse(digits):
    """A transformer whose inverse returns CSR is scored as well."""
    X = sparse.csr_array(digits)

    assert explained_variance_scorer(MaxAbsScaler().fit(X), X) == pytest.approx(1.0)


def grid(*levels):
    """Return each combination of factors with these numbers of levels once."""
    return np.stack(np.meshgrid(*map(np.arange, levels), indexing="ij"), -1).reshape(
        -1, len(levels)
    )


def gap(codes, factors, **settings):
    """Return the gap of each factor."""
    settings = {"multioutput": "raw_values", **settings}
    return mutual_information_gap(codes, factors, **settings)


def test_codes_that_are_the_factors_have_a_gap_of_one():
    """Each factor is in one code and in no other; a second copy of one closes its gap."""
    factors = grid(2, 3, 4)
    copied = np.column_stack([factors, factors[:, 1]])

    np.testing.assert_allclose(gap(factors, factors), [1, 1, 1], atol=1e-12)
    np.testing.assert_allclose(gap(copied, factors), [1, 0, 1], atol=1e-12)
    assert mutual_information_gap(copied, factors) == pytest.approx(2 / 3)


def test_gap_is_information_by_hand():
    """Of four levels one code tells the upper bit, log 2 of log 4; a coarser one tells less."""
    factor = np.repeat(np.arange(4), 4)[:, None]
    upper, top = factor >= 2, factor == 3
    entropy_of_top = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))

    assert gap(upper, factor) == pytest.approx([0.5])
    expected = (np.log(2) - entropy_of_top) / np.log(4)
    assert gap(np.hstack([top, upper]), factor) == pytest.approx([expected])


def test_gap_is_that_of_scikit_learn_s_information():
    """The best code's mutual information less the second's, of codes that are integers."""
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(500, 2))
    codes = np.column_stack([factors.sum(1), factors[:, 0] // 2, rng.integers(3, size=500)])
    for factor, found in zip(factors.T, gap(codes, factors, n_bins=1000), strict=True):
        *_, second, first = sorted(mutual_info_score(code, factor) for code in codes.T)
        assert found == pytest.approx((first - second) / mutual_info_score(factor, factor))


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
def test_continuous_codes_are_put_into_bins(strategy):
    """A code that falls within a level's interval tells the level, if bins do not straddle it."""
    code = (np.arange(80) + 0.5)[:, None] / 80
    factor = np.floor(code * 4)

    assert gap(code, factor, n_bins=8, strategy=strategy) == pytest.approx([1.0])
    assert gap(code, factor, n_bins=2, strategy=strategy) == pytest.approx([0.5])
    assert gap(code, factor, n_bins=1, strategy=strategy) == pytest.approx([0.0])


def test_bins_have_equal_counts_or_equal_widths():
    """After an exponential, bins of equal counts are what they were, and those of width not."""
    code = np.linspace(0, 20, 100)[:, None]
    factor = code > 10

    assert gap(np.exp(code), factor, n_bins=2) == pytest.approx([1.0])
    assert gap(np.exp(code), factor, n_bins=2, strategy="uniform")[0] < 0.1


def test_independent_codes_have_a_gap_of_about_zero():
    """What counts of finitely many rows pretend is below the docstring's bound."""
    rng = np.random.default_rng(0)
    codes, factors = rng.normal(size=(4000, 5)), rng.integers(4, size=(4000, 3))

    assert (gap(codes, factors) * np.log(4) < 19 * 3 / (2 * 4000)).all()


def test_rotated_factors_have_a_small_gap():
    """Two codes that mix two uniform factors equally tell each as well as the other."""
    factors = grid(32, 32)
    mixed = factors @ np.array([[1.0, 1.0], [1.0, -1.0]])

    assert gap(factors, factors).min() > 0.8
    assert gap(mixed, factors).max() < 0.01


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"factors": np.zeros((4, 1))}, "one level only"),
        ({"factors": grid(3)}, "inconsistent numbers of samples"),
        ({"factors": np.full((4, 1), np.nan)}, "NaN"),
        ({"codes": np.full((4, 1), np.inf)}, "infinity"),
        ({"n_bins": 0}, r"n_bins must be an int in the range \[1, inf\)\. Got 0"),
        ({"n_bins": 2.5}, "n_bins must be"),
        ({"strategy": "kmeans"}, "strategy must be 'quantile' or 'uniform'. Got 'kmeans'"),
        ({"multioutput": "sum"}, "multioutput must be 'uniform_average' or 'raw_values'"),
    ],
)
def test_gap_refuses_what_it_is_not_defined_for(wrong, message):
    """Factors that do not vary, other numbers of rows, missing values, unknown words."""
    settings = {"codes": grid(4), "factors": grid(4), **wrong}
    with pytest.raises(ValueError, match=message):
        mutual_information_gap(**settings)


def test_correlation_is_the_mean_over_pairs_of_codes():
    """It is NumPy's, without signs, whatever the codes' units; constant codes are left out."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 3))
    expected = np.abs(np.corrcoef(z.T)[[0, 0, 1], [1, 2, 2]]).mean()

    assert code_correlation(z) == pytest.approx(expected)
    assert code_correlation(z * [1e-200, -1.0, 1e200] + [0, 5, 0]) == pytest.approx(expected)
    assert code_correlation(np.column_stack([z, np.full(50, 0.1)])) == pytest.approx(expected)
    assert code_correlation(z[:, :1]) == 0.0


def test_principal_components_are_uncorrelated(digits):
    """PCA's codes of training rows have none, and mixtures of them have."""
    codes = PCA(5).fit_transform(digits)

    assert code_correlation(codes) == pytest.approx(0, abs=1e-10)
    assert code_correlation(codes @ np.triu(np.ones((5, 5)))) > 0.1
