"""Tests of the checks of rows: the short way out of them finds what scikit-learn's checks find."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from skae._sklearn import inputs
from skae._sklearn.inputs import check_rows

ROWS = np.arange(12.0).reshape(4, 3)
WITH_NAN, WITH_INFINITY = ROWS.copy(), ROWS.astype(np.float32)
WITH_NAN[3, 2], WITH_INFINITY[0, 0] = np.nan, -np.inf


class Known(BaseEstimator):
    """An estimator that knows its features."""

    def __init__(self, names=None):
        self.n_features_in_ = 3
        if names:
            self.feature_names_in_ = np.array(names, dtype=object)


def outcome(estimator, X):
    """Return what the check returns or raises, comparable."""
    try:
        checked = check_rows(estimator, X, reset=False)
    except (ValueError, TypeError) as error:
        return type(error), str(error)
    return type(checked), checked.dtype, checked.tolist(), checked is X


@pytest.mark.parametrize(
    "X",
    [
        ROWS,
        ROWS.astype(np.float32),
        np.asfortranarray(ROWS),
        ROWS[::-2, ::-1],
        ROWS.astype(">f8"),
        ROWS.astype(np.float16),
        ROWS.astype(int),
        ROWS.astype(object),
        ROWS.view(np.matrix),
        np.ma.array(ROWS),
        ROWS.tolist(),
        ROWS[0],
        ROWS[None],
        ROWS[:0],
        ROWS[:, :2],
        WITH_NAN,
        WITH_INFINITY,
        ROWS * 1e150,
        (ROWS * 1e36).astype(np.float32),
        ROWS.astype("datetime64[s]"),
    ],
    ids=lambda X: f"{type(X).__name__}-{getattr(X, 'dtype', '')}-{np.shape(X)}",
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.parametrize("names", [None, ["a", "b", "c"]])
def test_rows_that_need_no_check_are_those_that_pass_it(X, names, monkeypatch):
    """With and without the short way out: the same array, or the same error."""
    found = outcome(Known(names), X)
    monkeypatch.setattr(inputs, "_needs_no_check", lambda estimator, X: False)
    assert found == outcome(Known(names), X)


def test_rows_without_names_are_reported_where_there_were_names():
    """The short way out does not swallow scikit-learn's warning."""
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        check_rows(Known(["a", "b", "c"]), ROWS, reset=False)
