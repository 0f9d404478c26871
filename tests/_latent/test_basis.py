"""Tests of the latent basis against PCA and against its own inverse."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skae._latent.basis import rotated_basis
from skae._latent.explained import errors_of_the_first
from skae._latent.moments import code_moments


def linear_coder(X, pca, mixing):
    """Return encode and decode of a linear network that spans PCA's subspace in another basis."""
    shift, unmixing = np.arange(len(mixing)), np.linalg.inv(mixing)

    def encode(rows):
        return pca.transform(rows) @ mixing.T + shift

    def decode(codes):
        return pca.inverse_transform((codes - shift) @ unmixing.T)

    return encode, decode


def moments_of(X, encode, decode):
    """Return the moments of codes and reconstructions of rows."""
    return code_moments(X, encode(X), X.mean(0), less_mean(X, decode))


def less_mean(X, decode):
    """Return what makes a decoder of rows less the mean of X."""
    return lambda: lambda codes: decode(codes) - X.mean(0)


@pytest.mark.parametrize("seed", range(5))
def test_a_linear_network_in_any_basis_gives_pca(digits, seed):
    """Codes mixed by a random matrix come back as principal components, signs included."""
    pca = PCA(4, svd_solver="full").fit(digits)
    mixing = np.random.default_rng(seed).normal(size=(4, 4))
    encode, decode = linear_coder(digits, pca, mixing)
    basis, variances = rotated_basis(moments_of(digits, encode, decode))
    codes = basis.enter(torch.from_numpy(encode(digits))).numpy()

    np.testing.assert_allclose(codes, pca.transform(digits), atol=1e-9)
    np.testing.assert_allclose(variances * 1797 / 1796, pca.explained_variance_, rtol=1e-10)


@pytest.mark.parametrize("n_constant", [0, 2])
def test_any_codes_become_centred_uncorrelated_and_ordered_and_come_back(n_constant):
    """Nonlinear codes, some of them constant: moments, order and the way back."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 7))
    weights = rng.normal(size=(7, 5))
    weights[:, :n_constant] = 0.0

    def encode(rows):
        return np.tanh(rows @ weights) + 3

    def decode(codes):
        return np.sin(codes @ weights.T) * np.arange(7)

    basis, variances = rotated_basis(moments_of(X, encode, decode))
    raw = torch.from_numpy(encode(X))
    codes = basis.enter(raw)
    covariance = codes.T @ codes / len(codes)

    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-9)
    assert np.all(np.diff(variances) <= 0)
    assert np.count_nonzero(variances) == 5 - n_constant
    assert not codes[:, 5 - n_constant :].any()
    np.testing.assert_allclose(basis.leave(codes), raw, atol=1e-9)


def test_a_decoder_without_a_linear_part_loses_nothing():
    """Codes that the reconstruction depends on evenly are kept, though no linear map sees them."""
    X = np.vstack([np.linspace(-1, 1, 101)] * 2).T
    encode, decode = (lambda rows: rows[:, :1]), (lambda codes: np.hstack([codes**2, codes**2]))
    basis, _ = rotated_basis(moments_of(X, encode, decode))
    raw = torch.from_numpy(encode(X))

    np.testing.assert_allclose(basis.leave(basis.enter(raw)), raw, atol=1e-12)


def test_whitening_divides_and_the_first_codes_are_a_projection(digits):
    """Unit variance where there is any; the first codes are left as they are."""
    pca = PCA(3).fit(digits)
    encode, decode = linear_coder(digits, pca, np.eye(3))
    basis, _ = rotated_basis(moments_of(digits, encode, decode))
    raw = torch.from_numpy(encode(digits))
    deviations = np.array([2.0, 4.0, 0.0])
    white = basis.divided_by(deviations)

    expected = basis.enter(raw).numpy()[:, :2] / deviations[:2]
    np.testing.assert_allclose(white.enter(raw)[:, :2], expected)
    assert not white.enter(raw)[:, 2].any()
    np.testing.assert_array_equal(basis.first(2).enter(raw), basis.enter(raw)[:, :2])


def test_errors_of_the_first_codes_are_those_of_truncated_pca(digits):
    """With j codes let through the error is that of PCA with j components."""
    pca = PCA(5).fit(digits)
    decoder = less_mean(digits, pca.inverse_transform)
    codes, mean = pca.transform(digits), digits.mean(0)
    errors = errors_of_the_first(digits, codes, mean, decoder, np.zeros(5))
    for j in range(5):
        smaller = PCA(j + 1, svd_solver="full").fit(digits)
        reconstruction = smaller.inverse_transform(smaller.transform(digits))
        assert errors[j] == pytest.approx(np.square(digits - reconstruction).sum(), rel=1e-9)


def test_moments_add_up_what_pieces_of_rows_have(digits):
    """Covariances, and sums of squares, are those of all rows at once."""
    pca = PCA(3).fit(digits)
    encode, decode = linear_coder(digits, pca, np.eye(3) + 0.5)
    X = np.vstack([digits, digits[:500]])
    codes, mean = encode(X), X.mean(0)
    found = code_moments(X, codes, mean, less_mean(X, decode))

    centred = codes - codes.mean(0)
    np.testing.assert_allclose(found.covariance, centred.T @ centred / len(X), rtol=1e-10)
    np.testing.assert_allclose(found.cross, decode(codes).T @ centred / len(X), atol=1e-10)
    assert found.total == pytest.approx(np.square(X - mean).sum(), rel=1e-12)
    assert found.unexplained == pytest.approx(np.square(X - decode(codes)).sum(), rel=1e-12)
