"""Discrete codes: integers, one-hot columns and vectors are three forms of the same codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skae import VQVAETransformer
from skae._data.codes import check_integer_codes, codes_of_one_hot, count_codes, one_hot
from skae.quantization import FiniteScalarQuantization, VectorQuantization

from .estimators import expected_warnings, share_of_examples
from .rows import normal_rows


@st.composite
def integer_codes(draw):
    """Return a strategy of integer codes, (n_rows, n_codes), and their number of values."""
    size = draw(st.integers(1, 6))
    shape = draw(st.tuples(st.integers(1, 8), st.integers(1, 5)))
    return draw(hnp.arrays(np.int64, shape, elements=st.integers(0, size - 1))), size


@given(coded=integer_codes(), container=st.sampled_from(["csr", "csc", "coo", "dense", "list"]))
def test_one_hot_codes_come_back(coded, container):
    """One-hot codes, in whatever holds them, become the integers that they were made of."""
    codes, size = coded
    X = one_hot(codes, size)
    held = X.toarray() if container in ("dense", "list") else X.asformat(container)
    held = held.tolist() if container == "list" else held
    found = codes_of_one_hot(held, codes.shape[1], size)

    assert found.dtype == np.int64
    assert np.array_equal(found, codes)
    assert np.all(X.sum(1) == codes.shape[1])


@given(coded=integer_codes(), place=st.data(), value=st.sampled_from([0.0, 1.0, 0.5, -1.0, 2.0]))
def test_anything_but_one_hot_is_refused(coded, place, value):
    """A single entry that is changed is found, and its row is named."""
    codes, size = coded
    X = one_hot(codes, size).toarray()
    row, column = (place.draw(st.integers(0, n - 1)) for n in X.shape)
    if X[row, column] == value:
        assert np.array_equal(codes_of_one_hot(X, codes.shape[1], size), codes)
        return
    X[row, column] = value
    with pytest.raises(ValueError, match=f"row {row} has not"):
        codes_of_one_hot(X, codes.shape[1], size)


@given(coded=integer_codes(), dtype=st.sampled_from([np.int8, np.int64, np.float32, np.float64]))
def test_integer_codes_are_taken_in_any_type(coded, dtype):
    """Codes that went through floats are themselves again."""
    codes, size = coded
    found = check_integer_codes(codes.astype(dtype), size)
    assert found.dtype == np.int64
    assert np.array_equal(found, codes)


@given(coded=integer_codes(), place=st.data(), off=st.sampled_from([0.5, -0.25, np.inf, np.nan]))
def test_what_is_no_code_is_refused(coded, place, off):
    """Fractions, negative numbers and numbers that are too large are shown."""
    codes, size = coded
    index = tuple(place.draw(st.integers(0, n - 1)) for n in codes.shape)
    for wrong in (codes[index] + off, -1.0, float(size)):
        changed = codes.astype(np.float64)
        changed[index] = wrong
        with pytest.raises(ValueError, match="is not a code"):
            check_integer_codes(changed, size)


@given(coded=integer_codes())
def test_counts_are_those_of_one_hot_columns(coded):
    """Two ways of counting agree."""
    codes, size = coded
    counts = count_codes(codes, size)
    assert np.array_equal(counts.ravel(), np.asarray(one_hot(codes, size).sum(0)).ravel())


QUANTIZERS = st.one_of(
    st.builds(VectorQuantization, n_stages=st.integers(1, 3), shared=st.booleans()),
    st.just(FiniteScalarQuantization()),
)


@share_of_examples(0.5)
@given(
    X=normal_rows(),
    quantizer=QUANTIZERS,
    n_codes=st.integers(1, 3),
    dim=st.integers(1, 2),
    size=st.integers(4, 9),
    max_iter=st.integers(0, 1),
    scale=st.sampled_from(["global", "standard"]),
)
def test_all_forms_of_codes_decode_to_the_same_rows(
    X, quantizer, n_codes, dim, size, max_iter, scale
):
    """One fit in three forms: the forms say the same, and decode to the same rows."""
    settings = dict(hidden_layer_sizes=(4,), max_iter=max_iter, random_state=0, scale=scale)
    settings |= dict(early_stopping=True)
    models = {
        encode: VQVAETransformer(
            n_codes * dim,
            n_codes=n_codes,
            codebook_size=size,
            quantizer=quantizer,
            encode=encode,
            **settings,
        )
        for encode in ("codes", "onehot", "vectors")
    }
    with expected_warnings():
        encoded = {encode: model.fit_transform(X) for encode, model in models.items()}
    rows = {encode: models[encode].inverse_transform(Z) for encode, Z in encoded.items()}
    codes, fitted = encoded["codes"], models["codes"]

    assert np.array_equal(
        codes_of_one_hot(encoded["onehot"], fitted.n_codes_, fitted.codebook_usage_.shape[1]), codes
    )
    assert np.array_equal(rows["codes"], rows["onehot"])
    np.testing.assert_allclose(rows["codes"], rows["vectors"], rtol=1e-12, atol=1e-12)
    assert len(np.unique(encoded["vectors"], axis=0)) <= len(np.unique(codes, axis=0))
    again = fitted.inverse_transform(fitted.transform(X))
    assert np.array_equal(again, rows["codes"])
