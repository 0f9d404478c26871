"""What is refused: rows, codes and parameters, each by name, and nothing is lost."""

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.contract.checks import CALM, assert_same, assert_unfitted, outputs

pytestmark = CALM


def _with(value, dtype=np.float64):
    X = np.arange(48.0).reshape(8, 6).astype(dtype)
    X[3, 2] = value
    return X


BAD_ROWS = {
    "NaN": (_with(np.nan), ValueError, "NaN"),
    "NaN, sparse": (sparse.csr_array(_with(np.nan)), ValueError, "NaN"),
    "infinite": (_with(np.inf), ValueError, "infinity"),
    "infinite, float32": (_with(-np.inf, np.float32), ValueError, "infinity"),
    "too large": (_with(1e300), ValueError, r"1\.0e\+300"),
    "strings": (np.full((8, 6), "a"), ValueError, "convert string.*column 0 .*OneHotEncoder"),
    "categories in a frame": (
        pd.DataFrame({"a": [1.0] * 8, "b": pd.Categorical(list("xyxyxyxy"))}),
        ValueError,
        "convert string.*column 'b' .*OneHotEncoder",
    ),
    "categories in a polars frame": (
        pl.DataFrame({"a": [1.0] * 8, "b": pl.Series(list("xyxyxyxy"), dtype=pl.Categorical)}),
        ValueError,
        "convert string.*column 'b' .*OneHotEncoder",
    ),
    "complex": (_with(1j, complex), ValueError, "[Cc]omplex"),
    "masked": (np.ma.masked_greater(_with(1.0), 40), ValueError, "[Mm]ask"),
    "dates": (np.full((8, 6), "2020-01-01", "M8[D]"), TypeError, "date|[Dd]atetime"),
    "durations": (np.full((8, 6), 3, "m8[s]"), TypeError, "duration|timedelta"),
    "dates in a frame": (
        pd.DataFrame({"a": [1.0] * 8, "b": pd.to_datetime(["2020-01-01"] * 8)}),
        TypeError,
        "date|[Dd]atetime",
    ),
    "dates in a polars frame": (
        pl.DataFrame({"a": [1.0] * 8, "b": pd.to_datetime(["2020-01-01"] * 8).to_numpy()}),
        TypeError,
        "date|[Dd]atetime",
    ),
    "1-D": (np.arange(6.0), ValueError, "Expected 2D array, got 1D array"),
    "3-D": (np.zeros((2, 3, 6)), ValueError, r"dim 3.*\(2, 3, 6\).*X\.reshape\(len\(X\), -1\)"),
    "scalar": (3.0, ValueError, "Expected 2D array, got scalar"),
    "no rows": (np.zeros((0, 6)), ValueError, "0 sample"),
    "no columns": (np.zeros((8, 0)), ValueError, "0 feature"),
    "None": (None, ValueError, "None|scalar|NaN"),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_rows_leave_nothing_half_fitted(model, kind, method):
    """Fitting to bad rows raises an error that names what is wrong, and nothing is learned."""
    X, error, message = BAD_ROWS[kind]
    with pytest.raises(error, match=message):
        getattr(model, method)(X)
    assert_unfitted(model)


# A frame of dates has names, which the fitted rows had not.
@pytest.mark.filterwarnings("ignore:X has feature names, but:UserWarning")
@pytest.mark.parametrize("kind", [*BAD_ROWS, "wrong width"])
def test_bad_rows_leave_a_fit_alone(fitted, blobs, kind):
    """Every method refuses bad rows on a fitted model, which works on as before."""
    bad = BAD_ROWS | {"wrong width": (blobs[:, :5], ValueError, "5 features.*6 features")}
    X, error, message = bad[kind]
    before, expected = joblib.hash(fitted), outputs(fitted, blobs)
    calls = [fitted.transform, fitted.score, fitted.score_samples, fitted.partial_fit]
    if kind != "wrong width":
        calls.append(fitted.fit)
    if X is not None:
        calls.append(lambda X: fitted.fit(blobs, X_val=X))
    for call in calls:
        with pytest.raises(error, match=message):
            call(X)
    assert joblib.hash(fitted) == before
    assert_same(outputs(fitted, blobs), expected)


def test_advice_on_rows_helps(model):
    """What the messages propose for images and for categories is accepted."""
    images = np.random.default_rng(0).normal(size=(30, 2, 3))
    assert len(clone(model).fit_transform(images.reshape(len(images), -1))) == 30
    X = pd.DataFrame({"a": images[:, 0, 0], "b": pd.Categorical(list("xyz") * 10)})
    encoded = make_column_transformer((OneHotEncoder(), ["b"]), remainder="passthrough")
    assert len(make_pipeline(encoded, clone(model)).fit_transform(X)) == 30


WRONG_SIZES = {
    "one row as 1-D": (-np.ones(6), {}, "Expected 2D array, got 1D array"),
    "no rows": (-np.ones((0, 6)), {}, "0 sample"),
    "no columns": (-np.ones((8, 0)), {}, "0 feature"),
    "no rows to train on": (-np.ones((1, 6)), {"early_stopping": True}, "n_samples=1 "),
}


@pytest.mark.parametrize("kind", WRONG_SIZES)
def test_sizes_are_checked_before_values(model, kind):
    """Too few rows or columns are reported as such, not as values that are no counts."""
    X, parameters, message = WRONG_SIZES[kind]
    slot = "likelihood" if hasattr(model, "likelihood") else "loss"
    model.set_params(**{slot: "poisson"}, **parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    assert_unfitted(model)
    with pytest.raises(ValueError, match="Negative values in data"):
        model.set_params(early_stopping="auto").fit(-np.ones((12, 6)))


def test_sizes_are_checked_before_values_in_parts(model, blobs):
    """Too few rows for the start, and another number of columns, come before values, too."""
    slot = "likelihood" if hasattr(model, "likelihood") else "loss"
    model.set_params(**{slot: "poisson"})
    with pytest.raises(ValueError, match=r"n_components=4 .* number of samples 1 "):
        model.partial_fit(-np.ones((1, 6)))
    model.partial_fit(np.rint(abs(blobs)))
    for method in (model.partial_fit, model.score_samples):
        with pytest.raises(ValueError, match=r"1 features.*6 features"):
            method(-np.ones((8, 1)))


@pytest.mark.filterwarnings("ignore:. of . components are active:UserWarning")
@pytest.mark.parametrize("shape", [(1, 6), (8, 1)])
def test_one_row_or_column_is_enough(model, shape):
    """There is nothing to report but values: of one row, of one column."""
    slot = "likelihood" if hasattr(model, "likelihood") else "loss"
    model.set_params(n_components=1, **{slot: "poisson"})
    model.set_params(**({"n_codes": 1} if hasattr(model, "n_codes") else {}))
    model.set_params(early_stopping="auto").fit(np.ones(shape))
    assert len(model.transform(np.ones(shape))) == shape[0]
    with pytest.raises(ValueError, match="Negative values in data"):
        model.fit(-np.ones(shape))


BAD_CODES = {
    "NaN": ([[0.0, np.nan, 0.0, 0.0]], ValueError, "NaN"),
    "infinite": ([[0.0, np.inf, 0.0, 0.0]], ValueError, "infinity"),
    "strings": ([["a", "b", "c", "d"]], ValueError, "convert|string"),
    "complex": (np.zeros((2, 4), complex), ValueError, "[Cc]omplex"),
    "masked": (np.ma.masked_less(np.zeros((2, 4)), 1), ValueError, "[Mm]ask"),
    "dates": (np.zeros((2, 4), "M8[D]"), TypeError, "date|[Dd]atetime"),
    "sparse": (sparse.csr_array(np.eye(4)), TypeError, "[Ss]parse"),
    "1-D": (np.zeros(4), ValueError, "Expected 2D array, got 1D array"),
    "no rows": (np.zeros((0, 4)), ValueError, "0 sample"),
}


@pytest.mark.parametrize("kind", BAD_CODES)
def test_bad_codes(fitted, kind):
    """Codes that are no numbers, or not finite, are refused by inverse_transform by name."""
    codes, error, message = BAD_CODES[kind]
    with pytest.raises(error, match=message):
        fitted.inverse_transform(codes)


BAD_PARAMETERS = [
    ("n_components", 0),
    ("n_components", -1),
    ("n_components", 2.5),
    ("n_components", 1.5),
    ("n_components", "mle"),
    ("n_components", True),
    ("hidden_layer_sizes", (8, 0)),
    ("hidden_layer_sizes", 8),
    ("hidden_layer_sizes", "big"),
    ("activation", "swish"),
    ("encoder", "linear"),
    ("decoder", 3),
    ("init", "zeros"),
    ("scale", "minmax"),
    ("batch_size", 0),
    ("max_iter", -1),
    ("max_iter", 1.5),
    ("learning_rate", 0.0),
    ("learning_rate", np.nan),
    ("dropout", 1.0),
    ("weight_decay", -1.0),
    ("early_stopping", "yes"),
    ("validation_fraction", 1.0),
    ("n_iter_no_change", 0),
    ("tol", -1e-9),
    ("warm_start", 1),
    ("device", "abacus"),
    ("device", 0),
    ("random_state", -1),
    ("random_state", "seed"),
    ("verbose", -1),
]


@pytest.mark.parametrize(("name", "value"), BAD_PARAMETERS)
def test_bad_parameters(fitted, blobs, name, value):
    """A wrong value is named together with its parameter; nothing is learned or lost."""
    for method in ("fit", "partial_fit"):
        bad = clone(fitted).set_params(**{name: value})
        with pytest.raises(ValueError, match=name) as caught:
            getattr(bad, method)(blobs)
        assert repr(value) in str(caught.value)
        assert_unfitted(bad)
    before = outputs(fitted, blobs)
    with pytest.raises(ValueError, match=name):
        fitted.set_params(**{name: value}).fit(blobs)
    fitted.set_params(device="cpu")
    assert_same(outputs(fitted, blobs), before)


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        ("vae", "beta", -0.1),
        ("vae", "beta", np.inf),
        ("vqvae", "n_codes", 0),
        ("vqvae", "n_codes", "many"),
        ("vqvae", "codebook_size", 0),
        ("vqvae", "decay", 1.0),
        ("vqvae", "commitment_weight", -1),
        ("vqvae", "dead_code_threshold", 1.0),
    ],
    indirect=["model"],
)
def test_bad_parameters_of_a_family(model, blobs, name, value):
    """A wrong value of a family's own parameter is named; nothing is learned."""
    with pytest.raises(ValueError, match=f"'{name}' parameter of {type(model).__name__}"):
        model.set_params(**{name: value}).fit(blobs)
    assert_unfitted(model)


def test_unknown_parameters(model, blobs):
    """A parameter that does not exist is named wherever it is passed."""
    with pytest.raises(TypeError, match="latent_dim"):
        type(model)(latent_dim=3)
    with pytest.raises(ValueError, match="latent_dim"):
        model.set_params(latent_dim=3)
    with pytest.raises(TypeError, match="epochs"):
        model.fit(blobs, epochs=3)
    with pytest.raises(TypeError, match="positional"):
        type(model)(4, (8,))


def test_number_of_components(model, blobs):
    """None means all that the rows can carry; NumPy integers count as integers."""
    model.set_params(**({"n_codes": "auto"} if hasattr(model, "n_codes") else {}))
    assert model.set_params(n_components=None).fit(blobs).transform(blobs).shape == (200, 6)
    assert clone(model).fit(blobs[:5]).n_components_ == 5
    assert model.set_params(n_components=np.int64(3)).fit(blobs).n_components_ == 3


@pytest.mark.parametrize("model", ["vqvae"], indirect=True)
def test_codes_must_divide_components(model, blobs):
    """A number of codes that does not divide the components is refused with both numbers."""
    with pytest.raises(ValueError, match=r"n_codes=3 .*n_components=4"):
        model.set_params(n_codes=3).fit(blobs)
    assert_unfitted(model)


def test_inverse_transform_of_a_wrong_width(fitted):
    """Codes of another width are refused with both widths and the method's name."""
    name = type(fitted).__name__
    message = f"X has 3 components, but {name}.inverse_transform is expecting 4 components"
    with pytest.raises(ValueError, match=message):
        fitted.inverse_transform(np.zeros((2, 3)))
