"""The latent basis: codes of any kind become tidy ones and come back, and linear ones are PCA's."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae._latent.basis import permuted_basis, rotated_basis, untouched_basis
from skae._latent.moments import code_moments

from .estimators import expected_warnings
from .rows import normal_rows

UNITS = st.floats(0.01, 100)


@st.composite
def coded_rows(draw):
    """Return a strategy of raw codes, and their moments with rows that they stand for.

    Some codes may be constant or copies of another, and units of codes may differ by far.
    """
    X = draw(normal_rows())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    k = draw(st.integers(1, 5))
    codes = np.tanh(rng.normal(size=(len(X), k))) * 10.0 ** rng.integers(-3, 4, k)
    kinds = draw(st.lists(st.sampled_from(["free", "constant", "copy"]), min_size=k, max_size=k))
    for column, kind in enumerate(kinds):
        if kind != "free":
            codes[:, column] = 0.7 if kind == "constant" else codes[:, 0]
    readout = rng.normal(size=(k, X.shape[1])) / abs(codes).max(0)[:, None]

    def decode(codes):
        return np.sin(codes @ readout) + 0.1

    moments = code_moments(X, codes, X.mean(0), lambda: lambda codes: decode(codes) - X.mean(0))
    return codes, moments


def there_and_back(basis, raw):
    """Return codes in a basis, and raw codes made of them."""
    codes = basis.enter(torch.from_numpy(raw))
    return codes.numpy(), basis.leave(codes).numpy()


@given(coded=coded_rows())
def test_codes_come_back_from_the_rotated_basis(coded):
    """Whatever their rank: what the basis leaves out did not vary over the rows."""
    raw, moments = coded
    _, back = there_and_back(rotated_basis(moments)[0], raw)
    assert (abs(back - raw) <= 1e-8 * abs(raw).max(0)).all()


@given(coded=coded_rows())
def test_codes_in_the_rotated_basis_are_centred_uncorrelated_and_sorted(coded):
    """Their covariance is the diagonal of what the basis says are their variances."""
    raw, moments = coded
    basis, variances = rotated_basis(moments)
    codes, _ = there_and_back(basis, raw)
    assert (abs(codes.mean(0)) <= 1e-8 * abs(codes).max()).all()
    covariance = np.cov(codes.T, bias=True).reshape(len(variances), -1)
    assert abs(covariance - np.diag(variances)).max() <= 1e-8 * variances.max()
    assert (np.diff(variances) <= 0).all()


@given(coded=coded_rows(), unit=UNITS, make=st.sampled_from([permuted_basis, untouched_basis]))
def test_bases_that_keep_axes_only_sort_and_scale(coded, unit, make):
    """Each code is one raw code in the unit, and comes back to the last digits."""
    raw, moments = coded
    basis, variances = make(moments, unit)
    codes, back = there_and_back(basis, raw)
    order = basis.order
    assert sorted(order) == list(range(raw.shape[1]))
    np.testing.assert_allclose(codes, unit * raw[:, order], rtol=1e-14)
    np.testing.assert_allclose(back, raw, rtol=1e-14)
    assert (abs(variances - codes.var(0)) <= 1e-10 * np.square(codes).max(0)).all()


@given(coded=coded_rows(), drawn=st.data())
def test_the_first_codes_stand_for_rows_with_the_others_at_rest(coded, drawn):
    """Cutting a basis is holding the last codes where they rest."""
    raw, moments = coded
    basis, _ = permuted_basis(moments, 2.0)
    n_kept = drawn.draw(st.integers(1, raw.shape[1]))
    codes, back = there_and_back(basis.first(n_kept), raw)
    everything = np.tile(basis.rest, (len(raw), 1))
    everything[:, :n_kept] = codes
    np.testing.assert_allclose(back, basis.leave(torch.from_numpy(everything)).numpy(), rtol=1e-12)


@given(X=normal_rows(), fraction=st.floats(0.01, 1), scale=st.sampled_from(["global", None]))
def test_without_training_it_is_pca(X, fraction, scale):
    """Codes, reconstructions and attributes of ``max_iter=0`` are PCA's for any number of codes."""
    k = max(1, round(fraction * X.shape[1]))
    pca = PCA(k, svd_solver="full").fit(X)
    with expected_warnings():
        model = AutoencoderTransformer(k, max_iter=0, scale=scale, random_state=0).fit(X)
    size = abs(X - X.mean(0)).max()
    for name, unit in [
        ("mean_", abs(X).max()),
        ("explained_variance_", size**2),
        ("explained_variance_ratio_", 1),
        ("singular_values_", size * len(X) ** 0.5),
        ("noise_variance_", size**2),
    ]:
        found, expected = getattr(model, name), getattr(pca, name)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * unit, err_msg=name)
    codes = model.transform(X)
    back = pca.inverse_transform(pca.transform(X))
    np.testing.assert_allclose(model.inverse_transform(codes), back, rtol=0, atol=1e-5 * size)
    gaps = -np.diff(pca.explained_variance_, append=pca.noise_variance_ if k < X.shape[1] else 0)
    if gaps.min() > 1e-3 * pca.explained_variance_[0]:  # else directions are anybody's
        cosines = abs((model.components_ * pca.components_).sum(1))
        np.testing.assert_allclose(cosines, 1, rtol=0, atol=1e-6)
        np.testing.assert_allclose(abs(codes), abs(pca.transform(X)), rtol=0, atol=1e-3 * size)
