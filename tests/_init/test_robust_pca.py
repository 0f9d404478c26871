"""Tests of the robust start: PCA where there are no outliers, and hardly turned where there are."""

import numpy as np
import pytest
from scipy import sparse
from scipy.linalg import subspace_angles

from skae._data.centred import CentredRows
from skae._data.scaling import fit_scaling
from skae._init.pca import principal_axes
from skae._init.robust_pca import robust_axes, without_outliers

K = 3


def gaussian(n_samples=600, n_features=12, seed=0):
    """Return Gaussian rows of which three directions stand out, away from the origin."""
    rng = np.random.default_rng(seed)
    loadings = np.linalg.qr(rng.normal(size=(n_features, K)))[0] * [6.0, 4.0, 3.0]
    noise = rng.normal(size=(n_samples, n_features))
    return 5 + rng.normal(size=(n_samples, K)) @ loadings.T + 0.7 * noise


def contaminated(share, kind, seed=1):
    """Return Gaussian rows and the same with a share of gross outliers in place of the first."""
    X, rng = gaussian(), np.random.default_rng(seed)
    n = int(share * len(X))
    spoiled = X.copy()
    if kind == "scattered":
        spoiled[:n] = rng.normal(0, 200, size=(n, X.shape[1]))
    else:  # all in one direction, which PCA takes for its first axis
        spoiled[:n] = X[:n] + 100 * np.eye(X.shape[1])[0]
    return X, spoiled


def axes_of(X, robust):
    """Return the axes and the scaling of rows."""
    scaling = fit_scaling(X, "global", robust=robust)
    if robust:
        return robust_axes(X, scaling, K), scaling
    return principal_axes(CentredRows(X, scaling), K, scaling.constant), scaling


def angle(one, other):
    """Return the largest angle between two planes, in degrees."""
    return np.degrees(subspace_angles(one.components.T, other.components.T).max())


def test_without_outliers_the_start_is_pca_itself():
    """No row of Gaussian data is left out, so scaling and axes are the classical ones."""
    X = gaussian()
    (robust, scaling), (classical, expected) = axes_of(X, True), axes_of(X, False)

    np.testing.assert_array_equal(robust.components, classical.components)
    np.testing.assert_array_equal(robust.variances, classical.variances)
    np.testing.assert_array_equal(scaling.center, expected.center)
    np.testing.assert_array_equal(scaling.scale, expected.scale)


@pytest.mark.parametrize("kind", ["scattered", "in one direction"])
@pytest.mark.parametrize("share", [0.02, 0.1])
def test_gross_outliers_hardly_turn_the_axes(share, kind):
    """The plane stays within 3 degrees of that of the clean rows, where PCA's is far from it."""
    clean, spoiled = contaminated(share, kind)
    expected, _ = axes_of(clean, False)

    assert angle(axes_of(spoiled, True)[0], expected) < 3
    assert angle(axes_of(spoiled, False)[0], expected) > 30


def test_mean_and_scale_are_those_of_the_other_rows():
    """What is subtracted and divided by is as if the outliers were not there."""
    _, spoiled = contaminated(0.1, "scattered")
    expected = fit_scaling(spoiled[60:], "global")
    found = fit_scaling(spoiled, "global", robust=True)

    np.testing.assert_allclose(found.center, expected.center)
    np.testing.assert_allclose(found.scale, expected.scale)
    np.testing.assert_allclose(found.variance, expected.variance)


def test_features_are_standardized_without_outliers_of_small_features():
    """With a unit for each feature an outlier is one in the units of the feature it is in."""
    X = gaussian() * np.logspace(-3, 3, 12)
    spoiled = X.copy()
    spoiled[:12, 0] += 100 * X[:, 0].std()
    found = fit_scaling(spoiled, "standard", robust=True)

    np.testing.assert_allclose(found.scale, X[12:].std(0))


def test_a_feature_that_only_outliers_have_is_not_taken_for_a_constant():
    """Its variance is that of all rows, so that networks do not leave it out."""
    X = np.column_stack([gaussian(), np.zeros(600)])
    X[:5, -1] = 1e4
    scaling = fit_scaling(X, "global", robust=True)

    assert not scaling.constant.any()
    assert scaling.scale[0] == pytest.approx(gaussian()[5:].std(0).mean(), rel=0.2)


@pytest.mark.parametrize("wide", [False, True])
def test_sparse_rows_have_the_axes_of_dense_ones(wide):
    """Outliers are left out of CSR and of wide rows as of others."""
    _, spoiled = contaminated(0.05, "scattered")
    X = np.tile(spoiled[:80] if wide else spoiled, (1, 10 if wide else 1))
    scaling = fit_scaling(X, "global", robust=True)
    found = robust_axes(sparse.csr_array(X), scaling, K)

    np.testing.assert_allclose(found.components, robust_axes(X, scaling, K).components, atol=1e-8)


def test_rows_that_are_left_out_are_rows_of_zeros():
    """All products are those of the matrix without them."""
    _, spoiled = contaminated(0.05, "scattered")
    axes, scaling = axes_of(spoiled, True)
    rng = np.random.default_rng(0)
    vector, other, matrix = rng.normal(size=12), rng.normal(size=600), rng.normal(size=(12, 4))
    kept = (spoiled[30:] - scaling.mean) / scaling.scale
    for X in (spoiled, sparse.csr_array(spoiled)):
        rows = without_outliers(X, scaling, axes)
        assert rows.n_kept == 570
        assert rows.sum_of_squares == pytest.approx(np.square(kept).sum())
        np.testing.assert_allclose(np.concatenate(list(rows.blocks()))[30:], kept)
        np.testing.assert_allclose(np.concatenate(list(rows.column_blocks()), 1)[30:], kept)
        np.testing.assert_allclose(rows.times(vector)[30:], kept @ vector)
        np.testing.assert_array_equal(rows.times(vector)[:30], 0)
        np.testing.assert_allclose(rows.transposed_times(other), kept.T @ other[30:])
        np.testing.assert_allclose(rows.gram_times(matrix), kept.T @ kept @ matrix)


def test_a_plane_that_holds_all_rows_leaves_no_outliers():
    """With as many axes as features, residuals are rounding, and no row is left out for it."""
    X = gaussian()
    scaling = fit_scaling(X, "global", robust=True)

    assert without_outliers(X, scaling, robust_axes(X, scaling, 12)).n_kept == len(X)
