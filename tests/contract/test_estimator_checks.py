"""scikit-learn's estimator checks, those it runs on itself only, and array-API input as NumPy."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.objectives import Bernoulli, Laplace, NegativeBinomial, Poisson, SquaredError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ESTIMATORS = [AutoencoderTransformer, VAETransformer, VQVAETransformer]
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 3, "early_stopping": True}
CONFIGURATIONS = [
    {"max_iter": 5},  # the defaults, but for the time that they take
    {**SMALL, "init": "random"},
    {**SMALL, "scale": "standard"},
    {**SMALL, "scale": None},
    {**SMALL, "max_iter": 3, "encoder": torch.nn.Linear, "decoder": torch.nn.Linear},
]
# What is no different in the three: checked of one.
FURTHER_CONFIGURATIONS = [
    {**SMALL, "hidden_layer_sizes": ()},
    {**SMALL, "hidden_layer_sizes": (8, 6), "activation": "tanh"},
    {**SMALL, "early_stopping": False},
    {**SMALL, "early_stopping": "auto"},
]
DISCRETE = [
    {"encode": "codes", "quantizer": "residual", "codebook_update": "gradient"},
    {"encode": "onehot", "quantizer": "finite_scalar", "prior": "autoregressive"},
]
# Checks that scikit-learn runs on its own estimators, but leaves out of check_estimator.
FURTHER_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_estimators_partial_fit_n_features",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]


def to_float32(X):
    """Return float64 arrays and sparse matrices as float32, anything else as it is."""
    return X.astype(np.float32) if getattr(X, "dtype", None) == np.float64 else X


class Float32Mixin:
    """An estimator that is given float32 rows wherever scikit-learn's checks pass float64."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X, y=None, *, X_val=None):
        return super().fit(to_float32(X), y, X_val=to_float32(X_val))

    def partial_fit(self, X, y=None):
        return super().partial_fit(to_float32(X), y)

    def transform(self, X):
        return super().transform(to_float32(X))

    def score(self, X, y=None):
        return super().score(to_float32(X), y)

    def score_samples(self, X):
        return super().score_samples(to_float32(X))


class Float32Autoencoder(Float32Mixin, AutoencoderTransformer):
    """AutoencoderTransformer on float32 rows."""


class Float32VAE(Float32Mixin, VAETransformer):
    """VAETransformer on float32 rows."""


class Float32VQVAE(Float32Mixin, VQVAETransformer):
    """VQVAETransformer on float32 rows."""


@parametrize_with_checks(
    [
        *(estimator(**parameters) for estimator in ESTIMATORS for parameters in CONFIGURATIONS),
        *(AutoencoderTransformer(**parameters) for parameters in FURTHER_CONFIGURATIONS),
        *(VQVAETransformer(**parameters, **SMALL) for parameters in DISCRETE),
        VAETransformer(likelihood=Laplace("per_feature"), n_importance_samples=3, **SMALL),
    ]
)
def test_estimator_checks(estimator, check):
    """Every estimator check passes in every configuration, none is expected to fail."""
    check(estimator)


@parametrize_with_checks(
    [estimator(**SMALL) for estimator in (Float32Autoencoder, Float32VAE, Float32VQVAE)]
)
def test_estimator_checks_in_float32(estimator, check):
    """Every estimator check passes with rows in float32."""
    check(estimator)


# -- rows that must not be negative ------------------------------------------------------------

NON_NEGATIVE = [
    AutoencoderTransformer(loss="poisson", **SMALL),
    AutoencoderTransformer(loss=Poisson(), init="random", **SMALL),
    VQVAETransformer(loss="poisson", **SMALL),
    VQVAETransformer(loss=Poisson(), encode="codes", **SMALL),
]


@parametrize_with_checks(NON_NEGATIVE)
def test_estimator_checks_of_non_negative_rows(estimator, check):
    """Every estimator check passes where a tag tells the checks that rows are not negative."""
    check(estimator)


def further_check(name):
    """Return a check by its name, which is not part of scikit-learn's documented interface."""
    if not hasattr(estimator_checks, name):
        pytest.skip(f"scikit-learn has no {name} any more")
    return getattr(estimator_checks, name)


# The checks mix frames and arrays on purpose.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.filterwarnings("ignore:X has feature names, but:UserWarning")
@pytest.mark.parametrize("check", FURTHER_CHECKS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_further_checks(estimator, check):
    """The checks that scikit-learn runs on its own transformers only pass too."""
    further_check(check)(estimator.__name__, estimator(n_components=2, **SMALL))


@pytest.mark.parametrize("name", [*FURTHER_CHECKS, "check_param_validation"])
def test_further_checks_exist(name):
    """A further check that scikit-learn has renamed or removed is noticed, not skipped for good."""
    assert callable(getattr(estimator_checks, name, None))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_param_validation(estimator):
    """Values of a wrong type or range are refused in scikit-learn's words by all fit methods."""
    further_check("check_param_validation")(estimator.__name__, estimator())


# No tag asks scikit-learn's checks for whole numbers, which discrete likelihoods need, or for
# values up to 1, which Bernoulli's needs: these estimators fail the checks on the rows they bring.
COUNTING = [VAETransformer(likelihood=name, **SMALL) for name in ("poisson", "negative_binomial")]
BINARY = [
    VAETransformer(likelihood="bernoulli", **SMALL),
    AutoencoderTransformer(loss="bernoulli", **SMALL),
    VQVAETransformer(loss="bernoulli", **SMALL),
]


def make_checks_round(monkeypatch, most):
    """Have scikit-learn's checks make rows of whole numbers, none of which is larger than `most`.

    The function that makes rows follow an estimator's tags is private.
    """
    follow_tags = further_check("_enforce_estimator_tags_X")

    def round_too(*arguments, **options):
        made = follow_tags(*arguments, **options)
        if isinstance(made, tuple):
            return tuple(np.minimum(np.rint(each), most) for each in made)
        return np.minimum(np.rint(made), most)

    monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", round_too)


@pytest.mark.filterwarnings("ignore:.+ of .+ components are active:UserWarning")
@parametrize_with_checks(COUNTING)
def test_estimator_checks_of_counts(estimator, check, monkeypatch):
    """Every estimator check passes once its rows are whole numbers."""
    make_checks_round(monkeypatch, most=np.inf)
    check(estimator)


@pytest.mark.filterwarnings("ignore:.+ of .+ components are active:UserWarning")
@parametrize_with_checks(BINARY)
def test_estimator_checks_of_binary_rows(estimator, check, monkeypatch):
    """Every estimator check passes once its rows are zeros and ones."""
    make_checks_round(monkeypatch, most=1)
    check(estimator)


@pytest.mark.parametrize("estimator", [*COUNTING, *BINARY], ids=repr)
def test_rows_of_the_checks_need_rounding(estimator):
    """As they are, they are refused for their values, whatever their tag says."""
    with pytest.raises(ValueError, match=r"whole numbers|values in \[0, 1\]"):
        estimator_checks.check_estimators_dtypes(type(estimator).__name__, estimator)


class Shy:
    """An object that no slot takes, with an attribute that means something else."""

    non_negative = "perhaps"

    def __repr__(self):
        return "Shy()"


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        *((estimator(), False) for estimator in ESTIMATORS),
        (AutoencoderTransformer(loss="poisson"), True),
        (AutoencoderTransformer(loss=Poisson()), True),
        (AutoencoderTransformer(loss="bernoulli"), True),
        (AutoencoderTransformer(loss="huber"), False),
        (AutoencoderTransformer(loss=SquaredError()), False),
        (VQVAETransformer(loss="bernoulli"), True),
        (VQVAETransformer(loss=Bernoulli()), True),
        (VAETransformer(likelihood="poisson"), True),
        (VAETransformer(likelihood="bernoulli"), True),
        (VAETransformer(likelihood="negative_binomial"), True),
        (VAETransformer(likelihood=NegativeBinomial(0.1)), True),
        (VAETransformer(likelihood=Laplace()), False),
        # What no slot takes is reported by fit, not by tags.
        (AutoencoderTransformer(loss="poison"), False),
        (AutoencoderTransformer(loss=None), False),
        (AutoencoderTransformer(loss=["poisson"]), False),
        (VQVAETransformer(loss=Shy()), False),
        (VAETransformer(likelihood=np.ones(3)), False),
    ],
    ids=lambda value: repr(value).replace("\n", ""),
)
def test_tag_of_rows_that_must_not_be_negative(estimator, expected):
    """The slot's word or object decides, whatever is in it."""
    assert get_tags(estimator).input_tags.positive_only is expected


# -- array-API input -------------------------------------------------------------------------


@pytest.fixture
def rows():
    """Return 40 rows of 5 features, float64."""
    return np.random.default_rng(3).normal(size=(40, 5))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_array_api_dispatch(estimator, rows):
    """With array-API dispatch switched on, NumPy input gives bit for bit what it gives without."""
    if find_spec("sklearn.externals.array_api_compat") is None:  # before scikit-learn 1.7
        pytest.importorskip("array_api_compat")
    model = estimator(2, **SMALL, random_state=0)
    plain = clone(model).fit_transform(rows)
    with config_context(array_api_dispatch=True):
        assert np.array_equal(clone(model).fit_transform(rows), plain)


def results(model, X):
    """Return what every method computes from rows X, after a fit to them."""
    model = clone(model).fit(X)
    codes = model.transform(X)
    return [codes, model.inverse_transform(codes), model.score_samples(X), model.score(X)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_array_api_strict_rows(estimator, rows):
    """Arrays of another array-API library give what their values as NumPy give, as NumPy."""
    xp = pytest.importorskip("array_api_strict")
    model = estimator(2, **SMALL, random_state=0)
    for got, expected in zip(results(model, xp.asarray(rows)), results(model, rows), strict=True):
        assert type(got) is type(expected)
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_torch_rows(estimator, rows, dtype, requires_grad):
    """CPU tensors, with or without a gradient, give what their values as NumPy give."""
    X = torch.tensor(rows, dtype=dtype)
    model = estimator(2, **SMALL, random_state=0)
    expected = results(model, X.numpy())
    tensor = X.clone().requires_grad_(requires_grad)
    for got, wanted in zip(results(model, tensor), expected, strict=True):
        assert type(got) is type(wanted)
        assert np.array_equal(got, wanted)
    assert torch.equal(tensor, X)
    assert tensor.grad is None


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_torch_codes(estimator, rows):
    """Codes may come back as a tensor that takes part in a gradient."""
    model = estimator(2, **SMALL, random_state=0).fit(rows)
    codes = model.transform(rows)
    tensor = torch.tensor(codes, requires_grad=True)
    assert np.array_equal(model.inverse_transform(tensor), model.inverse_transform(codes))
