"""Tests of validation and scaling."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from skae import AutoencoderTransformer
from skae._data import rows
from skae._data.rows import dense_blocks, summarize
from skae._data.scaling import fit_scaling
from skae._sklearn.inputs import check_rows


@pytest.mark.parametrize("kind", ["global", "standard", None])
def test_scaling_is_undone(kind):
    """Going to scaled units and back gives the rows, and constant columns exactly."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 4)) * [1, 100, 0.01, 0] + [0, 5, -3, 1 / 3]
    scaling = fit_scaling(X, kind)

    np.testing.assert_allclose(scaling.from_scaled(scaling.to_scaled(X)), X, rtol=1e-12)
    assert np.all(scaling.from_scaled(scaling.to_scaled(X))[:, 3] == 1 / 3)
    assert list(scaling.constant) == [False] * 3 + [True]


def test_global_scaling_keeps_geometry_and_standard_does_not():
    """Scaled units have mean zero; unit mean variance under one number, or unit variances."""
    X = np.random.default_rng(0).normal(size=(500, 3)) * [1, 10, 100] + 7
    one, each = (fit_scaling(X, kind).to_scaled(X) for kind in ("global", "standard"))

    np.testing.assert_allclose(one.mean(0), 0, atol=1e-12)
    assert one.var(0).mean() == pytest.approx(1)
    np.testing.assert_allclose(one.std(0) / one.std(0)[0], X.std(0) / X.std(0)[0])
    np.testing.assert_allclose(each.var(0), 1)


def test_statistics_do_not_depend_on_blocks_or_storage(monkeypatch):
    """Dense and CSR rows give the same bits; a large offset costs no accuracy."""
    rng = np.random.default_rng(0)
    X = np.where(rng.random((300, 5)) < 0.3, rng.normal(size=(300, 5)), 0.0)
    monkeypatch.setattr(rows, "_BLOCK_BYTES", 8 * 5 * 70)
    dense, csr = fit_scaling(X, "standard"), fit_scaling(sparse.csr_array(X), "standard")
    shifted = fit_scaling(X + 1e9, "standard")

    assert np.array_equal(dense.mean, csr.mean)
    assert np.array_equal(dense.scale, csr.scale)
    assert len(list(dense_blocks(X))) == 5
    np.testing.assert_allclose(shifted.scale, dense.scale, rtol=1e-6)


def test_spread_within_rounding_error_is_not_blown_up():
    """A feature that varies by less than its mean's rounding error keeps scale 1."""
    X = np.full((40, 1), 1e16)
    X[::2] += 2.0

    assert fit_scaling(X, "standard").scale == 1.0


@pytest.mark.parametrize(
    ("X", "kind", "message"),
    [
        (np.ma.masked_array(np.ones((4, 2)), mask=np.eye(4, 2)), ValueError, "Masked arrays"),
        (np.ones((4, 2), dtype="datetime64[s]"), TypeError, "datetime64.*not numbers"),
        (np.array([[1.0, -1e200]]), ValueError, "1.0e\\+200, whose squares overflow"),
    ],
)
def test_what_scikit_learn_lets_through_is_refused(X, kind, message):
    """Masks, dates and values whose squares overflow are told in words."""
    with pytest.raises(kind, match=message):
        check_rows(AutoencoderTransformer(), X, reset=True)


def test_frames_with_dates_are_refused():
    """A pandas frame with one date column is told which dtype it is."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": pd.to_datetime(["2020-01-01", "2020-01-02"])})

    with pytest.raises(TypeError, match="datetime64"):
        check_rows(AutoencoderTransformer(), frame, reset=True)


def test_values_beyond_float32_are_refused_unless_scaled_away():
    """The error names the feature and the remedy; global scaling takes the same rows."""
    X = np.random.default_rng(0).normal(size=(20, 3)) * [1.0, 1.0, 1e40]

    with pytest.raises(ValueError, match=r"Feature 2 of X reaches .* Divide X by a constant"):
        fit_scaling(X, None).check_reach(summarize(X))
    assert np.abs(fit_scaling(X, "global").to_scaled(X)).max() < 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_frames_keep_their_precision(library, dtype):
    """Float32 columns give float32 rows, whichever library they are of."""
    X = np.random.default_rng(0).normal(size=(30, 3)).astype(dtype)
    frame = library({name: X[:, i] for i, name in enumerate("abc")})
    model = AutoencoderTransformer(2, max_iter=0).fit(frame)
    assert model.transform(frame).dtype == dtype


def test_float32_rows_whose_sums_overflow_are_refused():
    """The value is named, and nothing overflows on the way."""
    X = np.array([[0, 2.9e38]] + [[0, 0]] * 11, dtype=np.float32)
    with pytest.raises(ValueError, match=r"2\.9e\+38.*overflow float32"):
        AutoencoderTransformer(1, max_iter=0).fit(X)
