"""The mutual information gap: a fraction, whatever codes and levels are called."""

from functools import partial

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skae.metrics import mutual_information_gap

gap = partial(mutual_information_gap, multioutput="raw_values")


@st.composite
def coded_factors(draw):
    """Return codes, factors, bins and a permutation of the codes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows, n_codes = draw(st.integers(2, 60)), draw(st.integers(1, 5))
    factors = rng.integers(draw(st.integers(2, 5)), size=(n_rows, draw(st.integers(1, 3))))
    factors[:2] = [[0], [1]]
    codes = rng.normal(size=(n_rows, n_codes)).round(draw(st.integers(0, 3)))
    codes += draw(st.floats(0, 5)) * factors @ rng.normal(size=(factors.shape[1], n_codes))
    return codes, factors, draw(st.integers(1, 30)), rng.permutation(n_codes)


@given(coded_factors())
def test_gap_is_a_fraction_that_names_do_not_change(drawn):
    """It is in [0, 1]; order of codes, names of levels and increasing maps leave it as it is."""
    codes, factors, n_bins, order = drawn
    found = gap(codes, factors, n_bins=n_bins)

    assert (found >= 0).all()
    assert (found <= 1 + 1e-9).all()
    steps = np.unique(codes, return_inverse=True)[1].reshape(codes.shape)
    for other, levels in [
        (codes[:, order], factors),
        (codes, -7 * factors),
        (codes, factors.astype(str).astype(object)),
        (steps.astype(float) ** 3, factors),
    ]:
        np.testing.assert_allclose(gap(other, levels, n_bins=n_bins), found, atol=1e-12)
    wide = gap(codes, factors, n_bins=n_bins, strategy="uniform")
    assert ((wide >= 0) & (wide <= 1 + 1e-9)).all()
