"""Tests of the checks of rows: the short way out of them finds what scikit-learn's checks find."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_array

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


def refusal(check, *arguments, **options):
    """Return the error of a check."""
    with pytest.raises((ValueError, TypeError)) as caught:
        check(*arguments, **options)
    return caught.value


def in_frames(values, **options):
    """Return a frame of pandas of a column of numbers and one of `values`."""
    return pd.DataFrame({"size": [1.0, 2.0, 3.0], "colour": pd.Series(values, **options)})


IMAGES = {
    "array": np.zeros((5, 4, 3)),
    "array of objects": np.zeros((5, 4, 3), dtype=object),
    "array of strings": np.full((5, 4, 3), "a"),
    "tensor": torch.zeros(5, 4, 3),
    "lists": np.zeros((5, 4, 3)).tolist(),
    "colour images": np.zeros((5, 4, 3, 3)),
}


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("kind", IMAGES)
def test_images_and_series_get_advice(kind, reset):
    """The message has scikit-learn's words, the shape, and what to do for images and series."""
    X = IMAGES[kind]
    message = str(refusal(check_rows, Known(), X, reset=reset))
    for part in (
        str(tuple(np.shape(X))),
        "X.reshape(len(X), -1)",
        "encoder",
        "decoder",
        "convolutions",
    ):
        assert part in message
    if "strings" not in kind:
        numbers = np.asarray(X, dtype=float)
        assert message.startswith(str(refusal(check_array, numbers, estimator=Known())))


TEXTS = {
    "array": (np.array([["1", "x"], ["2", "y"]]), "column 1 of X"),
    "array of bytes": (np.array([[b"1", b"x"], [b"2", b"y"]]), "column 1 of X"),
    "array of objects": (np.array([[1.0, "x"], [2.0, "y"]], dtype=object), "column 1 of X"),
    "all strings": (np.full((3, 2), "x"), "column 0 of X"),
    "lists": ([[1.0, "x"], [2.0, "y"]], "column 1 of X"),
    "frame": (in_frames(["x", "y", "x"]), "column 'colour' of X"),
    "frame with a missing value": (in_frames(["x", None, "x"]), "column 'colour' of X"),
    "string column": (in_frames(["x", "y", "x"], dtype="string"), "column 'colour' of X"),
    "categories": (in_frames(["x", "y", "x"], dtype="category"), "column 'colour' of X"),
    "one column by itself": (pd.Series(["x", "y"]), "in X must"),
    "polars": (pl.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), "column 'b' of X"),
    "polars, categories": (
        pl.DataFrame({"a": [1.0, 2.0], "b": pl.Series(["x", "y"], dtype=pl.Categorical)}),
        "column 'b' of X",
    ),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_strings_and_categories_get_advice(kind):
    """The message has NumPy's words, the first column that is no number, and encoders for it."""
    X, column = TEXTS[kind]
    error = refusal(check_rows, Known(), X, reset=True)
    message = str(error)
    assert isinstance(error, ValueError)
    assert re.match(r"could not convert string to float: .*'[xy]'", message)
    for part in (column, "OneHotEncoder", "OrdinalEncoder", "make_column_transformer"):
        assert part in message


@pytest.mark.parametrize(
    "X",
    [
        np.array([["1.5", "2"], ["3", "4e1"]]),
        [["1.5", "2"], ["3", "4e1"]],
        pd.DataFrame({"a": pd.Categorical(["1.5", "3"]), "b": [2.0, 40.0]}),
        pl.DataFrame({"a": ["1.5", "3"], "b": [2.0, 40.0]}),
    ],
    ids=["array", "lists", "pandas", "polars"],
)
def test_numbers_that_are_written_out_are_numbers(X):
    """Strings of digits are converted, as by scikit-learn."""
    assert check_rows(Known(), X, reset=True).tolist() == [[1.5, 2.0], [3.0, 40.0]]


@pytest.mark.parametrize(
    "X",
    [
        WITH_NAN,
        ROWS[0],
        ROWS[:0],
        np.array([[{"a": 1}, 1.0]], dtype=object),
        [[1.0, 2.0], [1.0]],
        [[1.0, None]],
        ROWS.astype(complex),
        pd.DataFrame({"a string": ["nan"]}),
    ],
    ids=["NaN", "1-D", "no rows", "objects", "ragged", "None", "complex", "NaN as a string"],
)
def test_other_errors_are_scikit_learn_s(X):
    """They come as they are."""
    error = refusal(check_rows, Known(), X, reset=True)
    expected = refusal(check_array, X, dtype=[np.float64], estimator=Known(), input_name="X")
    assert (type(error), str(error)) == (type(expected), str(expected))
