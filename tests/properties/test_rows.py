"""Hostile rows: results are finite or refused, whatever the storage, the scale and the company."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from skae import AutoencoderTransformer, VAETransformer

from .estimators import (
    ESTIMATORS,
    REFUSALS,
    assert_finite,
    assert_same,
    expected_warnings,
    results,
    small,
)
from .rows import DTYPES, LAYOUTS, hostile_rows, normal_rows, ordinary_rows


def models(kinds):
    """Return a strategy of small models of some kinds."""
    return st.builds(
        small,
        st.sampled_from(kinds),
        n_components=st.none() | st.integers(1, 3),
        max_iter=st.integers(0, 2),
        scale=st.sampled_from(["global", "standard", None]),
        init=st.sampled_from(["pca", "random"]),
        early_stopping=st.sampled_from([False, "auto"]),
    )


MODELS, CONTINUOUS = models(ESTIMATORS), models([AutoencoderTransformer, VAETransformer])


def outcome(model, X, use=results):
    """Return what a model fitted to X computes from X, or None where it refuses to."""
    with expected_warnings():
        try:
            return use(model.fit(X), X)
        except REFUSALS as error:
            if not str(error):
                raise
            return None


@given(model=MODELS, X=hostile_rows(), layout=st.sampled_from(sorted(LAYOUTS)))
def test_results_are_finite_or_refused(model, X, layout):
    """Every method returns finite numbers, or fit or the method says why it does not."""
    assert_finite(outcome(model, LAYOUTS[layout](X)) or {})


@given(model=MODELS, X=hostile_rows(), new=st.data())
def test_results_of_new_rows_are_finite_or_refused(model, X, new):
    """Rows that differ wildly from those of the fit give finite numbers, or an error."""
    others = new.draw(hostile_rows().map(lambda others: np.resize(others, (3, X.shape[1]))))
    assert_finite(outcome(model, X, lambda model, X: results(model, others)) or {})


@given(model=MODELS, X=hostile_rows(), layout=st.sampled_from(sorted(LAYOUTS)))
def test_storage_makes_no_difference(model, X, layout):
    """The same rows, stored in another way, give the same bits or are refused as well."""
    expected, found = outcome(clone(model), X), outcome(model, LAYOUTS[layout](X))
    assert (found is None) == (expected is None)
    if found is not None:
        assert_same(found, expected)


@given(model=MODELS, X=normal_rows(), dtype=DTYPES, order=st.data())
def test_rows_do_not_depend_on_their_company(model, X, dtype, order):
    """A row's code and reconstruction are the same among any others, to rounding by column."""
    for some, chosen, whole in in_company(model, X.astype(dtype), order):
        assert_rounding(some, chosen, abs(whole).max(0))


@given(model=CONTINUOUS, X=ordinary_rows(), dtype=DTYPES, order=st.data())
def test_odd_rows_do_not_depend_on_their_company(model, X, dtype, order):
    """Where columns differ in size by far, or are zero but for rounding, the largest one counts."""
    for some, chosen, whole in in_company(model, X.astype(dtype), order):
        assert_rounding(some, chosen, abs(whole).max())


def in_company(model, X, order):
    """Yield codes, then reconstructions, of some rows by themselves, among all, and of all."""
    index = order.draw(st.lists(st.integers(0, len(X) - 1), min_size=1, max_size=20))
    found = outcome(model, X, lambda model, X: (by_row(model, X[index]), by_row(model, X)))
    for some, whole in zip(*found or ((), ()), strict=True):
        yield some, whole[index], whole


def by_row(model, X):
    """Return codes and reconstructions."""
    codes = model.transform(X)
    return codes, model.inverse_transform(codes)


def assert_rounding(found, expected, size):
    """Assert that results differ by rounding of numbers of a size."""
    assert found.dtype == expected.dtype
    tolerance = 1e-12 if found.dtype == np.float64 else 1e-5
    assert (abs(found - expected) <= tolerance * size).all()
