"""Tests of the principal axes against scikit-learn's PCA."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackNoConvergence
from sklearn.decomposition import PCA

from skae._data import rows as row_blocks
from skae._data.centred import CentredRows
from skae._data.scaling import fit_scaling
from skae._init import pca as module
from skae._init.pca import patch_axes, principal_axes


def axes_of(X, k):
    """Return the axes of X, dense or CSR."""
    scaling = fit_scaling(X, "global")
    unit = replace(scaling, scale=np.ones(X.shape[1]))
    return principal_axes(CentredRows(X, unit), k, scaling.constant)


@pytest.mark.parametrize("shape", [(200, 12), (9, 40), (12, 12)])
@pytest.mark.parametrize("path", ["exact", "iterated"])
@pytest.mark.parametrize("storage", [np.asarray, csr_array])
def test_axes_are_pca_s(shape, path, storage, monkeypatch):
    """Components, signs, variances and the rest equal PCA's for tall, wide and square rows."""
    monkeypatch.setattr(row_blocks, "_BLOCK_BYTES", 8 * 40 * 5)
    if path == "iterated":
        monkeypatch.setattr(module, "_LARGEST_GRAM", 8)
        monkeypatch.setattr(module, "_LARGEST_SPARSE_GRAM", 8)
    k = 1 if path == "iterated" else 5
    X = np.random.default_rng(0).normal(size=shape) * np.geomspace(3, 0.1, shape[1])
    pca, axes = PCA(k).fit(X), axes_of(storage(X), k)
    n_samples = shape[0]

    np.testing.assert_allclose(axes.components, pca.components_, atol=1e-7)
    np.testing.assert_allclose(
        axes.variances * n_samples / (n_samples - 1), pca.explained_variance_, rtol=1e-8
    )
    left_out = X.var(0).sum() - axes.variances.sum()
    assert axes.residual == pytest.approx(left_out / (shape[1] - k))


def test_axes_beyond_the_rank_are_zero():
    """Rows on a line have one axis, whatever was asked for."""
    X = np.outer(np.arange(6.0), [3.0, 4.0, 0.0])
    axes = axes_of(X, 5)

    np.testing.assert_allclose(axes.components[0], [0.6, 0.8, 0.0], atol=1e-12)
    assert not axes.components[1:].any()
    assert not axes.variances[1:].any()
    assert axes.residual == 0.0


@pytest.mark.parametrize("rank", [1, 3])
def test_axes_are_orthonormal_or_zero_whatever_the_rank(rank):
    """Wide rows of low rank have as many axes as their rank, and these reproduce the rows."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(30, rank)) @ rng.normal(size=(rank, 100))
        axes = axes_of(X, 20).components
        centred = X - X.mean(0)

        np.testing.assert_allclose(axes @ axes.T, np.diag(np.arange(20) < rank), atol=1e-10)
        np.testing.assert_allclose(centred @ axes.T @ axes, centred, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.float32])
def test_wide_sparse_counts_have_pca_s_axes(dtype):
    """More features than rows, both too many for a Gram matrix: the leading axes are PCA's."""
    rng = np.random.default_rng(0)
    topics = rng.integers(0, 3, 600)
    X = (rng.random((600, 900)) < 0.02 + 0.1 * (np.arange(900) % 3 == topics[:, None])).astype(
        dtype
    )
    axes = axes_of(csr_array(X).astype(np.float64), 2)
    pca = PCA(2, svd_solver="full").fit(X.astype(np.float64))

    np.testing.assert_allclose(np.abs(axes.components @ pca.components_.T), np.eye(2), atol=1e-5)
    np.testing.assert_allclose(axes.variances * 600 / 599, pca.explained_variance_, rtol=1e-8)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_rows_without_variance_have_no_axes(value):
    """Whatever the storage, the axes of equal rows are zero."""
    X = np.full((600, 900), value)
    for rows in (X, csr_array(X)):
        axes = axes_of(rows, 3)
        assert not axes.components.any()
        assert not axes.variances.any()
        assert axes.residual == 0.0


def test_the_exact_way_is_taken_where_lanczos_fails(monkeypatch):
    """An iteration that does not converge costs time, not the start."""
    X = np.random.default_rng(0).normal(size=(20, 9))
    expected = axes_of(X, 1).components

    def fail(*args, **kwargs):
        raise ArpackNoConvergence("none", np.empty(0), np.empty(0))

    monkeypatch.setattr(module, "_LARGEST_SPARSE_GRAM", 8)
    monkeypatch.setattr(module, "svds", fail)
    np.testing.assert_allclose(axes_of(csr_array(X), 1).components, expected, atol=1e-12)


@pytest.mark.parametrize("storage", [np.asarray, csr_array])
@pytest.mark.parametrize("shape", [(900, 1100), (1100, 900)])
def test_a_few_passes_find_the_leading_axes(storage, shape, monkeypatch):
    """Of rows too many for a Gram matrix, the ones that matter as exactly as all at once."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(shape[0], 60)) * np.geomspace(10, 1, 60) @ rng.normal(size=(60, shape[1]))
    X += rng.normal(size=shape)
    expected = axes_of(X, 200)
    monkeypatch.setattr(module, "_LARGEST_GRAM", 8)
    monkeypatch.setattr(module, "_MOST_BY_LANCZOS", 0)
    found = axes_of(storage(X), 200)
    np.testing.assert_allclose(found.components[:50], expected.components[:50], atol=1e-6)
    np.testing.assert_allclose(found.variances[:60], expected.variances[:60], rtol=1e-9)
    assert expected.variances.sum() > found.variances.sum() > 0.98 * expected.variances.sum()
    assert abs(found.components @ found.components.T - np.eye(200)).max() < 1e-10


def test_constant_features_have_loadings_of_exactly_zero(digits):
    """No rounding error leaks into pixels that never vary."""
    constant = digits.min(0) == digits.max(0)
    axes = axes_of(digits, 10)

    assert constant.any()
    assert not axes.components[:, constant].any()


def test_axes_of_patches_are_those_of_each_part():
    """Each part's are scikit-learn's, of orthonormal rows that are zero elsewhere."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 7)) @ rng.normal(size=(7, 7))
    patches = [np.array([0, 2, 4, 6]), np.array([1, 5]), np.array([3])]
    scaling = fit_scaling(X, "global")
    axes = patch_axes(CentredRows(X, scaling), patches, 3)
    assert axes.components.shape == (9, 7)
    for i, patch in enumerate(patches):
        pca = PCA(min(3, len(patch))).fit((X / scaling.scale)[:, patch])
        found = axes.components[3 * i : 3 * i + len(pca.components_)]
        expected = pca.components_ * np.sign((found[:, patch] * pca.components_).sum(1))[:, None]
        np.testing.assert_allclose(found[:, patch], expected, atol=1e-10)
        np.testing.assert_allclose(
            axes.variances[3 * i : 3 * i + len(found)], pca.explained_variance_ * 79 / 80
        )
        assert (np.delete(found, patch, axis=1) == 0).all()
    assert (axes.components[[5, 7, 8]] == 0).all()
