"""What rows may come as: frames, sparse matrices, memory maps, any layout and kind of number."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import clone

from tests.contract.checks import CALM, assert_same, outputs

pytestmark = CALM


FRAMES = {
    "pandas": lambda X, names: pd.DataFrame(X, columns=names, index=np.arange(len(X)) + 1000),
    "polars": lambda X, names: pl.DataFrame(X, schema=names),
}
NAMES = [f"column {letter}" for letter in "abcdef"]


@pytest.mark.parametrize("library", FRAMES)
def test_frames_in(model, blobs, library):
    """A frame gives what its values give; its column names are kept and held against others."""
    frame = FRAMES[library](blobs, NAMES)
    by_frame = clone(model).fit(frame)
    assert_same(outputs(by_frame, frame), outputs(model.fit(blobs), blobs))
    assert by_frame.feature_names_in_.tolist() == NAMES
    with pytest.raises(ValueError, match="feature names"):
        by_frame.transform(frame[NAMES[::-1]])


@pytest.mark.parametrize("library", FRAMES)
def test_frames_out(model, blobs, library):
    """As a frame the codes have their names, their values and, in pandas, the rows' index."""
    frame = FRAMES[library](blobs, NAMES)
    expected = clone(model).fit(blobs).transform(blobs)
    model.set_output(transform=library)
    for out in (model.fit_transform(frame), model.fit(frame).transform(frame)):
        assert type(out) is type(frame)
        assert list(out.columns) == model.get_feature_names_out().tolist()
        assert np.array_equal(out.to_numpy(), expected)
        if library == "pandas":
            assert out.index.equals(frame.index)


@pytest.fixture
def counts():
    """Return 90 rows of 7 features, mostly zero, float64."""
    rng = np.random.default_rng(5)
    return rng.poisson(0.6, size=(90, 7)) * rng.gamma(2.0, size=(90, 7))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csr_array, sparse.csc_array])
def test_sparse_rows(model, counts, form, dtype):
    """Sparse rows give bit for bit what the same rows give densely, in every method."""
    counts = counts.astype(dtype)
    rows = form(counts)
    expected = outputs(clone(model).fit(counts), counts)
    by_sparse = clone(model).fit(rows)
    assert_same(outputs(by_sparse, rows), expected)
    assert_same(outputs(by_sparse, counts), expected)
    by_parts = [clone(model).partial_fit(X).partial_fit(X) for X in (rows, counts)]
    assert_same(outputs(by_parts[0], counts), outputs(by_parts[1], counts))


def test_read_only_memmap(model, blobs, tmp_path):
    """Rows on disk, mapped read-only, give what they give in memory."""
    np.save(tmp_path / "rows.npy", blobs)
    on_disk = np.load(tmp_path / "rows.npy", mmap_mode="r")
    expected = outputs(clone(model).fit(blobs), blobs)
    assert_same(outputs(model.fit(on_disk), on_disk), expected)
    model.partial_fit(on_disk)


def test_memory_layouts(model, blobs):
    """Order, byte order and strides of the rows in memory make no difference."""
    expected = outputs(clone(model).fit(blobs), blobs)
    wide = np.zeros((400, 12))
    wide[::2, ::2] = blobs
    for X in (
        np.asfortranarray(blobs),
        blobs.astype(">f8"),
        blobs[::-1, ::-1].copy()[::-1, ::-1],
        wide[::2, ::2],
        blobs.tolist(),
    ):
        assert_same(outputs(clone(model).fit(X), X), expected)
    # As everywhere in scikit-learn, swapped float32 counts as another kind of number: float64.
    swapped = blobs.astype(">f4")
    expected = outputs(clone(model).fit(swapped.astype(np.float64)), swapped.astype(np.float64))
    assert_same(outputs(clone(model).fit(swapped), swapped), expected)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, bool, np.float16])
def test_other_numbers(model, dtype):
    """Integers and booleans give what they give as float64."""
    X = np.random.default_rng(0).integers(0, 2 if dtype is bool else 100, (60, 5)).astype(dtype)
    expected = outputs(clone(model).fit(X.astype(np.float64)), X.astype(np.float64))
    assert_same(outputs(model.fit(X), X), expected)


def test_float32(model, blobs):
    """Codes and reconstructions of float32 rows are float32 and close to those of float64 rows."""
    narrow = blobs.astype(np.float32)
    expected, got = outputs(model.fit(blobs), blobs), outputs(model, narrow)
    assert got["transform"].dtype == got["inverse_transform"].dtype == np.float32
    if "codebook_" not in vars(model):  # a row between two codes may go to either
        np.testing.assert_allclose(got["transform"], expected["transform"], rtol=1e-3, atol=1e-5)
    assert got["score"] == pytest.approx(expected["score"], rel=1e-4)
    assert model.fit(narrow).score(narrow) == pytest.approx(expected["score"], rel=1e-2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_rows_are_not_modified(model, blobs, dtype):
    """No method writes into the rows or codes that it is given."""
    X = blobs.astype(dtype)
    kept = X.copy()
    model.fit(X).partial_fit(X).fit(X, X_val=X)
    codes = model.fit_transform(X)
    model.score(X), model.score_samples(X), model.transform(X)
    assert np.array_equal(X, kept)
    kept = codes.copy()
    model.inverse_transform(codes)[:] = 0
    assert np.array_equal(codes, kept)


def test_results_belong_to_the_caller(fitted, blobs):
    """Writing into what a method returned changes neither the model nor the next result."""
    before = outputs(fitted, blobs)
    for value in outputs(fitted, blobs).values():
        if isinstance(value, np.ndarray):
            value[:] = 0
    assert_same(outputs(fitted, blobs), before)


def test_refit_forgets_feature_names(model, blobs):
    """A refit to an array drops the names and the width that a frame had set."""
    model.fit(pd.DataFrame(blobs, columns=NAMES))
    model.fit(blobs[:, :5])
    assert not hasattr(model, "feature_names_in_")
    assert model.n_features_in_ == 5
