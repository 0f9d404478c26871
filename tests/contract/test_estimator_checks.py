"""scikit-learn's estimator checks, those it runs on itself only, and array-API input as NumPy."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.objectives import Laplace

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ESTIMATORS = [AutoencoderTransformer, VAETransformer, VQVAETransformer]
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 3}
CONFIGURATIONS = [
    {},
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
    {**SMALL, "early_stopping": True},
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
