"""Real use of the three estimators: inside scikit-learn, on odd input, in any ambient state."""

import contextlib
import copy
import io
import pickle
import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold, cross_val_score
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae._training.adam import Adam
from skae.exceptions import ConvergenceError

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Some tests have fewer rows than the 16 vectors that their codebooks ask for.
    pytest.mark.filterwarnings("ignore:codebook_size=16 is larger:UserWarning"),
]

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
MODELS = {
    "autoencoder": AutoencoderTransformer(4, **SMALL),
    "vae": VAETransformer(4, **SMALL),
    "vqvae": VQVAETransformer(4, codebook_size=16, n_codes=2, **SMALL),
}
RECONSTRUCTING = ["autoencoder", "vqvae"]  # those scored by the fraction of variance explained
each_reconstructing = pytest.mark.parametrize("model", RECONSTRUCTING, indirect=True)


@pytest.fixture(params=MODELS)
def model(request):
    """Return an unfitted estimator of each kind: small, seeded, with 4 components."""
    return clone(MODELS[request.param])


@pytest.fixture
def fitted(model, blobs):
    """Return the same, fitted to the blobs."""
    return model.fit(blobs)


@pytest.fixture(scope="session")
def labels():
    """Return the labels of the digits."""
    return load_digits().target


def outputs(model, X):
    """Return what every method of a fitted model computes from rows X, by name."""
    codes = model.transform(X)
    return {
        "transform": codes,
        "inverse_transform": model.inverse_transform(codes),
        "score_samples": model.score_samples(X),
        "score": model.score(X),
        "sample": model.sample(3, random_state=1),
    }


def assert_same(got, expected):
    """Assert that two results of `outputs` agree in type and to the last bit."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert type(got[name]) is type(value), name
        assert np.asarray(got[name]).dtype == np.asarray(value).dtype, name
        assert np.array_equal(got[name], value), name


def assert_unfitted(model):
    """Assert that a model has learned nothing."""
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    assert [name for name in vars(model) if name.endswith("_")] == []


def pca_score(X, n_components):
    """Return the fraction of X's variance that its principal components explain."""
    return PCA(n_components, svd_solver="full").fit(X).explained_variance_ratio_.sum()


# -- inside scikit-learn ---------------------------------------------------------------------


def test_pipeline(model, digits, labels):
    """In a pipeline it does what its steps do by hand, and the digits can be told apart."""
    X, y = digits[:600], labels[:600]
    model.set_params(n_components=16, max_iter=5)
    pipeline = make_pipeline(StandardScaler(), model, LogisticRegression(max_iter=500))
    pipeline.fit(X[:400], y[:400])
    scaler = StandardScaler().fit(X[:400])
    by_hand = clone(model).fit(scaler.transform(X[:400]))
    codes = by_hand.transform(scaler.transform(X[400:]))
    assert np.array_equal(pipeline[:-1].transform(X[400:]), codes)
    assert pipeline.score(X[400:], y[400:]) > 0.5  # chance is 0.1


def test_nested_grid_search(model, blobs):
    """A grid search inside cross-validation gives the same in two processes as in none."""
    model.set_params(**({"n_codes": "auto"} if "n_codes" in model.get_params() else {}))
    pipeline = Pipeline([("scale", StandardScaler()), ("reduce", model)])
    nested = [
        cross_val_score(
            GridSearchCV(pipeline, {"reduce__n_components": [1, 3]}, cv=2, n_jobs=n_jobs),
            blobs,
            cv=2,
        )
        for n_jobs in (2, None)
    ]
    assert np.isfinite(nested[0]).all()
    assert nested[0].tolist() == nested[1].tolist()


@pytest.mark.parametrize("model", ["autoencoder", "vae"], indirect=True)
def test_grid_search_finds_more_components(model, blobs):
    """The search keeps the component count with the better held-out score."""
    search = GridSearchCV(model, {"n_components": [1, 4]}, cv=2).fit(blobs)
    assert search.best_params_ == {"n_components": 4}
    assert search.best_score_ == search.cv_results_["mean_test_score"][1]


def test_halving_search_over_epochs(model, blobs):
    """Successive halving hands out epochs: the survivor gets the most and runs no more."""
    search = HalvingGridSearchCV(
        model,
        {"learning_rate": [1e-4, 1e-3, 1e-2, 3e-2]},
        resource="max_iter",
        min_resources=2,
        max_resources=8,
        factor=2,
        cv=2,
        random_state=0,
    ).fit(blobs)
    assert search.n_resources_ == [2, 4, 8]
    assert search.best_estimator_.max_iter == search.best_params_["max_iter"] == 8
    assert 1 <= search.best_estimator_.n_iter_ <= 8


def test_cross_val_score(model, blobs):
    """Each fold's score is the score of a fit to the other folds."""
    folds = KFold(3)
    expected = [
        clone(model).fit(blobs[train]).score(blobs[test]) for train, test in folds.split(blobs)
    ]
    assert cross_val_score(model, blobs, cv=folds).tolist() == expected


def test_feature_union(model, blobs):
    """Beside PCA its codes are the columns that it computes alone."""
    union = FeatureUnion([("pca", PCA(2)), ("net", model)]).fit(blobs)
    expected = np.hstack([PCA(2).fit_transform(blobs), clone(model).fit(blobs).transform(blobs)])
    assert np.array_equal(union.transform(blobs), expected)
    assert union.get_feature_names_out()[2:].tolist() == [
        f"net__{type(model).__name__.lower()}{i}" for i in range(4)
    ]


def test_column_transformer(model, blobs):
    """On some columns it does what it does on these columns alone."""
    columns = ColumnTransformer([("net", model, [0, 2, 3, 5])], remainder="passthrough")
    got = columns.fit_transform(blobs)
    part = blobs[:, [0, 2, 3, 5]]
    expected = np.hstack([clone(model).fit(part).transform(part), blobs[:, [1, 4]]])
    assert np.array_equal(got, expected)


def test_pipeline_memory(model, blobs, tmp_path, monkeypatch):
    """With a cache the second fit of an equal pipeline trains nothing; of another one it does."""
    pipeline = Pipeline([("net", model), ("scale", StandardScaler())], memory=str(tmp_path))
    expected = clone(pipeline).fit(blobs).transform(blobs)

    def refuse(self, X, y=None, **parameters):
        raise AssertionError("trained")

    monkeypatch.setattr(type(model), "fit", refuse)
    monkeypatch.setattr(type(model), "fit_transform", refuse)
    assert np.array_equal(clone(pipeline).fit(blobs).transform(blobs), expected)
    with pytest.raises(AssertionError, match="trained"):
        clone(pipeline).set_params(net__random_state=1).fit(blobs)


def test_cached_pipeline_with_a_frozen_step(fitted, blobs, tmp_path):
    """A fitted, frozen network can be part of a cached pipeline, whose key is its hash."""
    pipeline = Pipeline(
        [("net", FrozenEstimator(fitted)), ("scale", StandardScaler())], memory=str(tmp_path)
    )
    expected = StandardScaler().fit_transform(fitted.transform(blobs))
    assert np.array_equal(pipeline.fit_transform(blobs), expected)


def test_frozen_estimator(fitted, blobs):
    """Frozen, it ignores further fits and survives clone."""
    before = outputs(fitted, blobs)
    frozen = clone(FrozenEstimator(fitted)).fit(-blobs[:50], None)
    assert_same(outputs(frozen, blobs), before)


def test_clone(fitted):
    """A clone has the same parameters and has learned nothing."""
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params()
    assert_unfitted(copied)


CHANGES = {
    "whiten": True,
    "max_grad_norm": 1.0,
    "tied_weights": True,
    "loss": "huber",
    "corruption": "gaussian",
    "code_activation": "logistic",
    "penalty": "l1",
    "ordered": True,
    "pretraining": "greedy",
    "latent_density": KernelDensity(),
    "n_components": 2,
    "hidden_layer_sizes": (5, 3),
    "activation": "tanh",
    "encoder": torch.nn.Linear,
    "decoder": torch.nn.Linear,
    "init": "random",
    "precision": "bfloat16",
    "n_init": 2,
    "scale": None,
    "batch_size": 7,
    "max_iter": 9,
    "learning_rate": 0.5,
    "dropout": 0.2,
    "weight_decay": 0.1,
    "early_stopping": False,
    "validation_fraction": 0.4,
    "n_iter_no_change": 2,
    "tol": 0.5,
    "warm_start": True,
    "random_state": 5,
    "beta": 7.0,
    "free_bits": 0.1,
    "likelihood": "laplace",
    "n_importance_samples": 5,
    "encode": "codes",
    "n_codes": 4,
    "codebook_size": 3,
    "codebook_update": "gradient",
    "quantizer": "residual",
    "prior": "uniform",
    "decay": 0.5,
    "commitment_weight": 2.0,
    "dead_code_threshold": 0.5,
}


def test_set_params_after_fit(fitted, blobs):
    """Parameters set after fit wait for the next fit: no result changes."""
    before = outputs(fitted, blobs)
    names = fitted.get_feature_names_out().tolist()
    for name in fitted.get_params().keys() - {"device", "verbose"}:
        fitted.set_params(**{name: CHANGES[name]})
        assert_same(outputs(fitted, blobs), before)
    assert fitted.get_feature_names_out().tolist() == names


def test_fit_transform_is_fit_then_transform(model, blobs):
    """Both ways to the training rows' codes give the same bits."""
    expected = clone(model).fit(blobs).transform(blobs)
    assert np.array_equal(model.fit_transform(blobs), expected)


def test_feature_names_out(fitted):
    """Codes are named after the class, in order."""
    prefix = type(fitted).__name__.lower()
    assert fitted.get_feature_names_out().tolist() == [f"{prefix}{i}" for i in range(4)]


def test_html_repr_links_to_the_documentation(model):
    """A notebook shows the estimator with a link to its own place in the documentation."""
    html = model._repr_html_()
    name = type(model).__name__
    links = [part.split('"')[0] for part in html.split('href="')[1:]]
    assert any("skae.readthedocs.io" in link and link.endswith(name) for link in links), links


@pytest.mark.parametrize(
    "method", ["transform", "inverse_transform", "score", "score_samples", "sample"]
)
def test_unfitted(model, blobs, method):
    """Before fit every method that needs one says so."""
    arguments = () if method == "sample" else (blobs,)
    with pytest.raises(NotFittedError, match=type(model).__name__):
        getattr(model, method)(*arguments)
    with pytest.raises(NotFittedError):
        model.get_feature_names_out()


def test_verbose(model, blobs, capsys):
    """Progress is printed line by line when asked for, and only then."""
    model.fit(blobs)
    assert capsys.readouterr().out == ""
    model.set_params(verbose=1).fit(blobs)
    assert len(capsys.readouterr().out.splitlines()) == model.n_iter_


# -- what may enter --------------------------------------------------------------------------


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


@each_reconstructing
def test_one_row(model):
    """A single row is what the network reproduces."""
    X = np.array([[1.0, -2.5, 1e3]])
    model.set_params(n_components=1, **({"n_codes": 1} if hasattr(model, "n_codes") else {}))
    model.fit(X)
    assert np.array_equal(model.inverse_transform(model.transform(X)), X)
    assert model.score(X) == 1.0


def test_one_row_of_many(fitted, blobs):
    """One row may be asked for, and scores as it does among others."""
    one, among = fitted.score_samples(blobs[7:8]), fitted.score_samples(blobs)
    assert abs(one[0] - among[7]) <= 1e-12 * abs(among).max()
    assert np.isfinite(fitted.score(blobs[7:8]))


def test_one_column(model):
    """One feature and one component: the autoencoder loses nothing, the others not much."""
    X = np.random.default_rng(1).normal(3.0, 2.0, size=(60, 1))
    model.set_params(n_components=1, **({"n_codes": 1} if hasattr(model, "n_codes") else {}))
    back = model.fit(X).inverse_transform(model.transform(X))
    assert back.shape == X.shape
    unexplained = np.square(X - back).sum() / np.square(X - X.mean()).sum()
    assert unexplained < (1e-6 if isinstance(model, AutoencoderTransformer) else 0.05)


def test_eight_rows(model, blobs):
    """With too few rows to hold any out, the start is kept: PCA, for the autoencoder."""
    X = blobs[:8]
    model.fit(X)
    assert model.validation_loss_curve_ == []
    assert np.isfinite(model.transform(blobs)).all()
    if isinstance(model, AutoencoderTransformer):
        assert model.score(X) == pytest.approx(pca_score(X, 4), abs=1e-6)


def test_more_components_than_features(model, blobs):
    """More components than features: as many columns as asked for, and nothing is lost."""
    X = blobs[:, :3]
    codes = model.set_params(n_components=8).fit_transform(X)
    assert codes.shape == (200, 8)
    assert model.n_components_ == 8
    if isinstance(model, AutoencoderTransformer):
        assert model.score(X) > 1 - 1e-6
    assert np.isfinite(model.score(X))


def test_more_components_than_rows(model, blobs):
    """More components than rows: as many columns as asked for, finite for new rows too."""
    codes = model.set_params(n_components=10).fit(blobs[:6]).transform(blobs)
    assert codes.shape == (200, 10)
    assert np.isfinite(codes).all()
    assert np.isfinite(model.score(blobs[:6]))


@pytest.mark.parametrize("scale", ["global", "standard", None])
@pytest.mark.parametrize("value", [0.0, 3.7, -1e8, 1e-8])
def test_no_variance(model, value, scale):
    """Rows that are all the same come back, with a score of 1.0 or a finite likelihood."""
    X = np.full((30, 4), value)
    model.set_params(scale=scale).fit(X)
    assert np.isfinite(model.score(X))
    assert np.isfinite(model.sample(5, random_state=0)).all()
    back = model.inverse_transform(model.transform(X))
    if not isinstance(model, VAETransformer):
        assert model.score(X) == (1.0 if np.array_equal(back, X) else 0.0)
    if scale is not None:
        assert np.array_equal(back, X)


@each_reconstructing
def test_score_of_a_missed_constant(model, blobs):
    """Rows at the training mean have no variance to explain: not reproduced, they score 0.0."""
    model.set_params(init="random", early_stopping=False).fit(blobs)
    X = np.tile(model.mean_, (3, 1))
    assert not np.array_equal(model.inverse_transform(model.transform(X)), X)
    assert model.score(X) == 0.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("scale", ["global", "standard"])
def test_constant_columns(model, blobs, scale, init, dtype):
    """Features that never vary come back exactly, for rows with other values there as well."""
    X = np.insert(blobs, [0, 2, 6], [0.1, 1e6 + 1 / 3, 0.0], axis=1).astype(dtype)
    constant = [0, 3, 8]
    assert (X[:, constant] == X[0, constant]).all()
    model.set_params(scale=scale, init=init).fit(X)
    for row in (X, X + 1):
        back = model.inverse_transform(model.transform(row))
        assert np.array_equal(back[:, constant], X[:, constant])
    if not isinstance(model, VAETransformer):
        assert np.array_equal(
            model.sample(9, random_state=0)[:, constant], X[:9, constant].astype(np.float64)
        )


# -- the same numbers everywhere -------------------------------------------------------------


def test_backends_agree(model, blobs):
    """A grid search gives the same scores in processes, in threads and in sequence."""
    scores = {}
    for backend in ("loky", "threading", "sequential"):
        with joblib.parallel_config(backend, n_jobs=2):
            search = GridSearchCV(model, {"learning_rate": [1e-3, 1e-2], "max_iter": [2, 4]}, cv=2)
            results = search.fit(blobs).cv_results_
        scores[backend] = [results[f"split{i}_test_score"].tolist() for i in range(2)]
    assert np.isfinite(scores["loky"]).all()
    assert scores["loky"] == scores["threading"] == scores["sequential"]


@pytest.mark.parametrize("own", [False, True])
def test_threads_agree(model, blobs, own):
    """Eight fits with one seed, two at a time, and one alone: the same state to the last bit."""
    if own:
        model.set_params(encoder=torch.nn.Linear, decoder=torch.nn.Linear)
    alone = joblib.hash(clone(model).fit(blobs))
    with ThreadPoolExecutor(2) as pool:
        fits = list(pool.map(lambda _: joblib.hash(clone(model).fit(blobs)), range(8)))
    assert set(fits) == {alone}


def test_large_networks_agree_on_any_number_of_threads(model, digits):
    """Networks that use several threads agree to float32 rounding, grown over a few steps."""
    model.set_params(hidden_layer_sizes=(600, 600), batch_size=64, max_iter=2, init="random")
    model.set_params(early_stopping=False)
    with num_threads(1):
        one = clone(model).fit(digits)
    with num_threads(2):
        two = clone(model).fit(digits)
    scale = np.abs(one.loss_curve_)
    assert np.abs(np.subtract(one.loss_curve_, two.loss_curve_) / scale).max() < 1e-3


def test_threads_share_a_fitted_model(fitted, blobs):
    """A fitted model may be used from two threads at once."""
    expected = outputs(fitted, blobs)
    fresh = pickle.loads(pickle.dumps(fitted))
    with ThreadPoolExecutor(2) as pool:
        for got in pool.map(lambda _: outputs(fresh, blobs), range(8)):
            assert_same(got, expected)


def test_seeds_differ(model, blobs):
    """Another seed gives another fit, the same seed the same, whatever was drawn in between."""
    first = joblib.hash(clone(model).fit(blobs).transform(blobs))
    torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    assert joblib.hash(clone(model).fit(blobs).transform(blobs)) == first
    other = model.set_params(random_state=1, init="random", early_stopping=False)
    seeds = [clone(other).set_params(random_state=seed).fit(blobs) for seed in (1, 2)]
    assert not np.array_equal(*(fit.transform(blobs) for fit in seeds))


def ambient_state():
    """Return the caller's state that no method may change."""
    return {
        "torch generator": torch.random.get_rng_state().numpy().tobytes(),
        "numpy generator": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "random": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.empty(0).device,
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float errors": np.geterr(),
        "warnings": list(warnings.filters),
    }


def refuse_to_fit(model, X):
    """Let a fit fail."""
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X * np.nan)


METHODS = {
    "fit": lambda model, X: clone(model).fit(X),
    "fit, own network": lambda model, X: clone(model).set_params(encoder=torch.nn.Linear).fit(X),
    "fit, X_val": lambda model, X: clone(model).fit(X, X_val=X[:9]),
    "fit, refused": refuse_to_fit,
    "fit_transform": lambda model, X: clone(model).fit_transform(X),
    "partial_fit": lambda model, X: clone(model).partial_fit(X),
    "transform": lambda model, X: model.transform(X),
    "inverse_transform": lambda model, X: model.inverse_transform(X[:, :4]),
    "score": lambda model, X: model.score(X),
    "score_samples": lambda model, X: model.score_samples(X),
    "sample": lambda model, X: model.sample(3, random_state=0),
    "get_feature_names_out": lambda model, X: model.get_feature_names_out(),
    "pickle": lambda model, X: pickle.loads(pickle.dumps(model)).transform(X),
    "repr": lambda model, X: (repr(model), model._repr_html_()),
}


@pytest.mark.parametrize("method", METHODS)
def test_ambient_state_is_untouched(fitted, blobs, method):
    """No method draws from a global generator or leaves a global setting changed."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        unusual = torch.autocast("cpu", dtype=torch.float16)
        for mode in (contextlib.nullcontext(), torch.no_grad(), torch.inference_mode(), unusual):
            with mode:
                before = ambient_state()
                METHODS[method](fitted, blobs)
                assert ambient_state() == before
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def default_dtype(dtype):
    """Set torch's default dtype for a block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def num_threads(n_threads):
    """Set torch's number of threads for a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


AMBIENT = {
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "meta by default": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "one thread": lambda: num_threads(1),
    "two threads": lambda: num_threads(2),
    "strict NumPy": lambda: np.errstate(all="raise"),
}


@pytest.mark.parametrize("own", [False, True], ids=["", "own network"])
@pytest.mark.parametrize("ambient", AMBIENT)
def test_results_do_not_depend_on_ambient_state(model, blobs, ambient, own):
    """Whatever torch is set to around them, fit and all methods give the same bits."""
    if own:
        model.set_params(encoder=torch.nn.Linear, decoder=torch.nn.Linear)
    expected = outputs(clone(model).fit(blobs).partial_fit(blobs), blobs)
    with AMBIENT[ambient]():
        got = outputs(clone(model).fit(blobs).partial_fit(blobs), blobs)
    assert_same(got, expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_do_not_depend_on_each_other(model, digits, dtype):
    """A row's code, score and reconstruction are the same to rounding, whatever comes with it.

    That is 1e-12 of a column's largest magnitude in float64, and 1e-5 in float32.
    """
    tolerance = 1e-12 if dtype == np.float64 else 1e-5

    def assert_rounding(got, expected, all_rows):
        assert (abs(got - expected) <= tolerance * abs(all_rows).max(0)).all()

    X = digits[:700].astype(dtype)
    model.set_params(n_components=8, hidden_layer_sizes=(33, 7)).fit(X[:300])
    codes, scores = model.transform(X[300:]), model.score_samples(X[300:])
    rows = model.inverse_transform(codes)
    rng = np.random.default_rng(0)
    for size in (1, 1, 2, 3, 7, 64, 127, 128, 129, 300, 399, 400):
        index = rng.permutation(400)[:size]
        assert_rounding(model.transform(X[300:][index]), codes[index], codes)
        assert_rounding(model.score_samples(X[300:][index]), scores[index], scores)
        assert_rounding(model.inverse_transform(codes[index]), rows[index], rows)


# -- state: hashes, pickles, copies ----------------------------------------------------------


def test_hash(fitted, blobs):
    """Equal fits hash equally, also after use and a pickle round trip; another fit does not."""
    same = clone(fitted).fit(blobs)
    assert joblib.hash(same) == joblib.hash(fitted)
    outputs(same, blobs)
    assert joblib.hash(same) == joblib.hash(fitted)
    assert joblib.hash(pickle.loads(pickle.dumps(fitted))) == joblib.hash(fitted)
    assert joblib.hash(clone(fitted).fit(blobs * 2)) != joblib.hash(fitted)


class _Recorder(pickle.Unpickler):
    """An unpickler that notes the modules of all globals in a pickle."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.modules = set()

    def find_class(self, module, name):
        self.modules.add(module.split(".")[0])
        return super().find_class(module, name)


def modules_in(pickled):
    """Return the top-level modules whose objects a pickle refers to."""
    recorder = _Recorder(pickled)
    recorder.load()
    return recorder.modules


def test_pickle_holds_no_torch(fitted, blobs):
    """Nothing in a pickle belongs to torch, after fit, use or partial_fit, at any protocol."""
    assert "torch" in modules_in(pickle.dumps(torch.zeros(1)))  # the recorder sees torch
    for use in (lambda: None, lambda: outputs(fitted, blobs), lambda: fitted.partial_fit(blobs)):
        use()
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            assert "torch" not in modules_in(pickle.dumps(fitted, protocol))


def test_pickle_is_small(model, digits):
    """A 32-component model of the digits pickles under 1 MB and holds no training rows."""
    model.set_params(n_components=32, hidden_layer_sizes="auto", max_iter=2)
    sizes = [len(pickle.dumps(clone(model).fit(X))) for X in (digits[:600], digits)]
    assert max(sizes) < 1e6
    assert abs(sizes[1] - sizes[0]) < 1000


def test_deepcopy(fitted, blobs):
    """A deep copy is equal and lives on its own."""
    copied = copy.deepcopy(fitted)
    before = outputs(fitted, blobs)
    assert_same(outputs(copied, blobs), before)
    copied.partial_fit(blobs * 3)
    assert_same(outputs(fitted, blobs), before)


def test_memory_mapped_load(fitted, blobs, tmp_path):
    """Loaded with read-only, memory-mapped arrays it works as in memory, also for partial_fit."""
    fitted.partial_fit(blobs)
    joblib.dump(fitted, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert_same(outputs(mapped, blobs), outputs(fitted, blobs))
    assert_same(
        outputs(mapped.partial_fit(blobs), blobs), outputs(fitted.partial_fit(blobs), blobs)
    )


def test_pickle_round_trip(fitted, blobs):
    """A pickled copy gives the same bits, and so do both after the next training steps."""
    copied = pickle.loads(pickle.dumps(fitted))
    assert_same(outputs(copied, blobs), outputs(fitted, blobs))
    for _ in range(2):
        copied, _ = pickle.loads(pickle.dumps(copied)).partial_fit(blobs), fitted.partial_fit(blobs)
        assert_same(outputs(copied, blobs), outputs(fitted, blobs))
        assert joblib.hash(copied) == joblib.hash(fitted)


def test_pickle_of_another_version(fitted, blobs):
    """State written by another version loads with a warning that names both versions."""
    state = {**fitted.__getstate__(), "_skae_version": "0.0.99"}
    loaded = type(fitted).__new__(type(fitted))
    with pytest.warns(InconsistentVersionWarning, match=r"skae 0\.0\.99"):
        loaded.__setstate__(state)
    assert_same(outputs(loaded, blobs), outputs(fitted, blobs))


# -- what is refused -------------------------------------------------------------------------


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
    "strings": (np.full((8, 6), "a"), ValueError, "convert|string"),
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
    "3-D": (np.zeros((2, 3, 6)), ValueError, "dim 3"),
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
def test_bad_parameters(model, blobs, name, value):
    """A wrong value is named together with its parameter; nothing is learned or lost."""
    for method in ("fit", "partial_fit"):
        bad = clone(model).set_params(**{name: value})
        with pytest.raises(ValueError, match=name) as caught:
            getattr(bad, method)(blobs)
        assert repr(value) in str(caught.value)
        assert_unfitted(bad)
    model.fit(blobs)
    before = outputs(model, blobs)
    with pytest.raises(ValueError, match=name):
        model.set_params(**{name: value}).fit(blobs)
    model.set_params(device="cpu")
    assert_same(outputs(model, blobs), before)


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


class Interruptible(torch.nn.Linear):
    """A linear map that raises `error` after so many calls, if there is one."""

    calls_left, error = 0, None

    def forward(self, x):
        """Count down, then raise."""
        if Interruptible.error is not None:
            Interruptible.calls_left -= 1
            if Interruptible.calls_left < 0:
                raise Interruptible.error
        return super().forward(x)


@pytest.mark.parametrize("calls", [0, 1, 2, 12])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("method", ["fit", "partial_fit", "warm_start"])
def test_interrupted_refit(model, blobs, monkeypatch, method, error, calls):
    """An interrupt is passed on at once; the fit before it works on, bit for bit."""
    calls = min(calls, 5) if method == "partial_fit" else calls
    model.set_params(encoder=Interruptible, batch_size=32).fit(blobs)
    before, expected = joblib.hash(model), outputs(model, blobs)
    monkeypatch.setattr(Interruptible, "error", error("stop"))
    monkeypatch.setattr(Interruptible, "calls_left", calls)
    model.set_params(warm_start=method == "warm_start")
    with pytest.raises(error, match="stop"):
        (model.partial_fit if method == "partial_fit" else model.fit)(-blobs)
    monkeypatch.setattr(Interruptible, "error", None)
    model.set_params(warm_start=False)
    assert joblib.hash(model) == before
    assert_same(outputs(model, blobs), expected)


def test_interrupted_step(model, blobs, monkeypatch):
    """An interrupt in the middle of a built-in network's training leaves the old fit as well."""
    model.set_params(batch_size=32).fit(blobs)
    before = joblib.hash(model)
    steps = []
    take = Adam.__call__

    def interrupted(self, *arguments, **options):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return take(self, *arguments, **options)

    monkeypatch.setattr(Adam, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(-blobs)
    monkeypatch.undo()
    assert joblib.hash(model) == before
    assert_unfitted(clone(model))


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


# -- fitting: X_val, warm_start, partial_fit, sample -----------------------------------------


def test_validation_rows(model, blobs):
    """Given X_val, all of X is trained on and the held-out loss is that of X_val."""
    model.set_params(n_components=2, early_stopping=True)
    fits = [clone(model).fit(blobs[:150], X_val=V) for V in (blobs[150:], 10 * blobs[150:])]
    for fit in fits:
        assert len(fit.validation_loss_curve_) == fit.n_iter_
        assert np.allclose(fit.mean_, blobs[:150].mean(0), rtol=1e-12)
    assert fits[0].loss_curve_ == fits[1].loss_curve_
    assert fits[0].validation_loss_curve_ != fits[1].validation_loss_curve_
    again = clone(model).fit(blobs[:150], X_val=sparse.csr_array(blobs[150:]))
    assert joblib.hash(again) == joblib.hash(fits[0])


def test_validation_rows_are_checked(model, blobs):
    """X_val of another width, with NaN, or without early stopping is refused."""
    with pytest.raises(ValueError, match="5 features"):
        model.fit(blobs, X_val=blobs[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        model.fit(blobs, X_val=np.full((3, 6), np.nan))
    with pytest.raises(ValueError, match=r"X_val .*early_stopping=False"):
        model.set_params(early_stopping=False).fit(blobs, X_val=blobs)
    assert_unfitted(model)


def test_validation_rows_through_a_pipeline(model, blobs):
    """With metadata routing a pipeline scales X_val as it scales X."""
    X, V = blobs[:150], blobs[150:]
    with config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [("scale", StandardScaler()), ("net", model.set_fit_request(X_val=True))],
            transform_input=["X_val"],
        ).fit(X, X_val=V)
    scaler = StandardScaler().fit(X)
    by_hand = clone(model).fit(scaler.transform(X), X_val=scaler.transform(V))
    assert pipeline[-1].validation_loss_curve_ == by_hand.validation_loss_curve_
    assert np.array_equal(pipeline[-1].transform(X), by_hand.transform(X))


def test_warm_start(model, blobs):
    """A warm start goes on from the last fit: with no epoch it changes nothing."""
    model.set_params(init="random", early_stopping=False, batch_size=20, max_iter=6).fit(blobs)
    first, codes = model.loss_curve_, model.transform(blobs)
    cold = clone(model).set_params(max_iter=1).fit(blobs).loss_curve_[0]
    model.set_params(warm_start=True, max_iter=0).fit(blobs)
    assert np.array_equal(model.transform(blobs), codes)
    model.set_params(max_iter=1).fit(blobs)
    assert model.loss_curve_[0] < min(cold, first[0])
    assert not np.array_equal(model.transform(blobs), codes)


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_layer_sizes", (9,)), ("activation", "tanh"), ("n_components", 2), ("init", "random")],
)
def test_warm_start_of_another_network(model, blobs, name, value):
    """A warm start with another network than the fitted one is refused, and nothing is lost."""
    model.set_params(warm_start=True).fit(blobs)
    before = outputs(model, blobs)
    for method in ("fit", "partial_fit"):
        kept = getattr(model, name)
        with pytest.raises(ValueError, match=f"{name}|skip"):
            getattr(model.set_params(**{name: value}), method)(blobs)
        model.set_params(**{name: kept})
        assert_same(outputs(model, blobs), before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_codes", 4),
        ("codebook_size", 8),
        ("codebook_update", "gradient"),
        ("quantizer", "finite_scalar"),
        ("loss", "huber"),
    ],
)
@pytest.mark.parametrize("model", ["vqvae"], indirect=True)
def test_warm_start_of_another_codebook(model, blobs, name, value):
    """A warm start with other codebooks is refused too, and nothing is lost."""
    model.set_params(warm_start=True).fit(blobs)
    before = outputs(model, blobs)
    with pytest.raises(ValueError, match=name):
        model.set_params(**{name: value}).fit(blobs)
    assert_same(outputs(model, blobs), before)


def test_warm_start_keeps_the_scaling(model, blobs):
    """A warm start keeps the last fit's scaling, while `mean_` is that of the new rows."""
    model.set_params(warm_start=True).fit(blobs)
    center = model._net.scaling.center.copy()
    model.fit(blobs + 1)
    assert np.array_equal(model._net.scaling.center, center)
    np.testing.assert_allclose(model.mean_, blobs.mean(0) + 1)


def test_warm_start_scores_with_the_new_mean(model, blobs):
    """The score's reference is the mean of the rows of the last fit, as on a new estimator."""
    if isinstance(model, VAETransformer):
        pytest.skip("its score is a likelihood")
    model.set_params(warm_start=True, max_iter=0).fit(blobs)
    moved = blobs + 1
    model.fit(moved)
    unexplained = -model.score_samples(moved).sum() / np.square(moved - moved.mean(0)).sum()
    assert model.score(moved) == pytest.approx(1 - unexplained)


def test_first_partial_fit_with_too_few_rows(model, blobs):
    """The first rows must span the PCA start; a random start takes any."""
    with pytest.raises(ValueError, match=r"n_components=4 .*number of samples 3"):
        model.partial_fit(blobs[:3])
    assert_unfitted(model)
    assert model.set_params(init="random").partial_fit(blobs[:3]).n_components_ == 4


def test_partial_fit_continues(model, blobs):
    """Each call goes on from the last one, through a pickle as well, and counts its rows."""
    straight = clone(model).partial_fit(blobs[:100]).partial_fit(blobs[100:])
    pickled = pickle.loads(pickle.dumps(clone(model).partial_fit(blobs[:100])))
    pickled.partial_fit(blobs[100:])
    assert joblib.hash(pickled) == joblib.hash(straight)
    assert straight.n_samples_ == 200
    assert straight.n_iter_ == len(straight.loss_curve_) == 2


def test_partial_fit_learns(model, blobs):
    """Calls in a row reduce the loss from a random start."""
    model.set_params(init="random", batch_size=20, learning_rate=1e-2)
    for _ in range(8):
        model.partial_fit(blobs)
    assert model.loss_curve_[-1] < 0.9 * model.loss_curve_[0]
    assert len(set(model.loss_curve_)) == 8


def test_partial_fit_describes_all_rows(model, blobs):
    """The mean, the codes' distribution and their use are those of all rows, call by call."""
    model.set_params(learning_rate=1e-12)  # so that codes mean the same in each call
    for rows in (blobs[:50], blobs[50:80] + 3, blobs[80:]):
        model.partial_fit(rows)
    X = np.vstack([blobs[:50], blobs[50:80] + 3, blobs[80:]])
    codes = model.transform(X)
    np.testing.assert_allclose(model.mean_, X.mean(0))
    assert model.n_samples_ == 200
    if isinstance(model, AutoencoderTransformer):
        draws = model.transform(model.sample(100_000, random_state=0))
        np.testing.assert_allclose(draws.mean(0), codes.mean(0), atol=0.05)
        np.testing.assert_allclose(np.cov(draws.T), np.cov(codes.T), atol=0.3)


def test_partial_fit_counts_all_codes(blobs):
    """Counts of codes add up over the calls."""
    usage = []
    for rows in (blobs[:50], blobs[50:]):
        model = VQVAETransformer(4, codebook_size=16, n_codes=2, random_state=0, decay=0.999999)
        model.set_params(learning_rate=1e-12, dead_code_threshold=0.0).partial_fit(blobs)
        usage.append(model.partial_fit(rows).codebook_usage_)
    whole = VQVAETransformer(4, codebook_size=16, n_codes=2, random_state=0, decay=0.999999)
    whole.set_params(learning_rate=1e-12, dead_code_threshold=0.0).partial_fit(blobs)
    first, second = (250 / 50 * usage[0] - 200 / 50 * whole.codebook_usage_), usage[1]
    second = 350 / 150 * second - 200 / 150 * whole.codebook_usage_
    np.testing.assert_allclose(0.25 * first + 0.75 * second, whole.codebook_usage_, atol=1e-12)


def test_fit_after_partial_fit(model, blobs):
    """Fit forgets what partial_fit has learned."""
    fresh = clone(model).fit(blobs)
    assert joblib.hash(model.partial_fit(blobs * 2).fit(blobs)) == joblib.hash(fresh)


def test_refit_forgets_feature_names(model, blobs):
    """A refit to an array drops the names and the width that a frame had set."""
    model.fit(pd.DataFrame(blobs, columns=NAMES))
    model.fit(blobs[:, :5])
    assert not hasattr(model, "feature_names_in_")
    assert model.n_features_in_ == 5


def test_interpolation(fitted, blobs):
    """Paths begin and end at the reconstructions and are straight in the codes."""
    A, B = blobs[:5], blobs[5:10]
    rows = fitted.interpolate(A, B, n_steps=5)
    middle = fitted.inverse_transform((fitted.transform(A) + fitted.transform(B)) / 2)

    assert rows.shape == (5, 5, 6)
    np.testing.assert_allclose(rows[:, 0], fitted.inverse_transform(fitted.transform(A)))
    np.testing.assert_allclose(rows[:, -1], fitted.inverse_transform(fitted.transform(B)))
    np.testing.assert_allclose(rows[:, 2], middle)
    with pytest.raises(ValueError, match="A has 5 rows and B has 4"):
        fitted.interpolate(A, B[:4])
    with pytest.raises(ValueError, match="n_steps must be an int"):
        fitted.interpolate(A, B, n_steps=1)


def test_sample_is_seeded(fitted):
    """An int or a RandomState repeats a draw; another seed does not."""
    first = fitted.sample(20, random_state=3)
    assert first.shape == (20, 6)
    assert np.array_equal(fitted.sample(20, random_state=3), first)
    assert np.array_equal(fitted.sample(20, random_state=np.random.RandomState(3)), first)
    assert not np.array_equal(fitted.sample(20, random_state=4), first)
    assert len(np.unique(fitted.sample(500, random_state=0), axis=0)) > 50


def test_sample_resembles_the_rows(fitted, blobs):
    """Draws have the rows' mean and spread."""
    draws = fitted.sample(4000, random_state=0)
    spread = blobs.std(0)
    assert (np.abs(draws.mean(0) - blobs.mean(0)) < 0.25 * spread).all()
    assert (np.abs(np.log(draws.std(0) / spread)) < 0.5).all()


@pytest.mark.parametrize("n_samples", [0, -1, 1.5, True, "3", None])
def test_sample_of_no_rows(fitted, n_samples):
    """A number of draws that is no positive integer is refused by name."""
    with pytest.raises(ValueError, match=r"n_samples .*Got"):
        fitted.sample(n_samples)


# -- encoders and decoders of the user's own -------------------------------------------------


def two_layers(n_in, n_out):
    """Return a network of two layers."""
    return torch.nn.Sequential(torch.nn.Linear(n_in, 5), torch.nn.Tanh(), torch.nn.Linear(5, n_out))


@pytest.mark.parametrize("factory", [torch.nn.Linear, two_layers])
def test_own_factory(model, blobs, factory):
    """A class or a function makes the networks, from the estimator's seed alone."""
    model.set_params(encoder=factory, decoder=factory, batch_size=20)
    model.set_params(max_iter=30, learning_rate=1e-2)
    torch.manual_seed(1)
    first = clone(model).fit(blobs)
    torch.manual_seed(2)
    assert joblib.hash(clone(model).fit(blobs)) == joblib.hash(first)
    assert first.transform(blobs).shape == (200, 4)
    assert first.loss_curve_[-1] < first.loss_curve_[0]
    copied = pickle.loads(pickle.dumps(first))
    assert_same(outputs(copied, blobs), outputs(first, blobs))


class Attention(torch.nn.Module):
    """A decoder without second derivatives, that makes tensors of its own and draws."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.first, self.last = torch.nn.Linear(n_in, 32), torch.nn.Linear(32, n_out)

    def forward(self, z):
        """Return rows."""
        h = self.first(z @ torch.eye(z.shape[1])).view(len(z), 1, 4, 8)
        h = torch.nn.functional.scaled_dot_product_attention(h, h, h).flatten(1)
        return self.last(h + 1e-3 * torch.randn(h.shape))


def test_own_decoder_needs_gradients_only(model, blobs):
    """Whatever trains can be described, and torch's global generator stays as it was."""
    torch.manual_seed(3)
    state = torch.get_rng_state()
    model.set_params(decoder=Attention, max_iter=2).fit(blobs)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.isfinite(model.transform(blobs)).all()
    if isinstance(model, AutoencoderTransformer):
        assert model.components_.shape == (4, 6)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_own_network_may_work_in_place(model, blobs, part):
    """Layers that overwrite their input change neither the rows nor the codes."""
    outcomes = []
    for inplace in (False, True):

        def make(n_in, n_out, inplace=inplace):
            relu = torch.nn.LeakyReLU(0.5, inplace=inplace)
            return torch.nn.Sequential(relu, torch.nn.Linear(n_in, n_out))

        fitted = clone(model).set_params(**{part: make}, max_iter=5).fit(blobs)
        outcomes.append([fitted.score(blobs), *fitted.loss_curve_])
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("kind", ["pca", "random"])
def test_dropout_takes_part(model, blobs, kind):
    """It changes training, and nothing after it: results are the same at every call."""
    model.set_params(hidden_layer_sizes=(8,), init=kind)
    dropped = clone(model).set_params(dropout=0.5).fit(blobs)
    assert not np.allclose(dropped.loss_curve_, clone(model).fit(blobs).loss_curve_)
    assert_same(outputs(dropped, blobs), outputs(dropped, blobs))


def test_own_module(model, blobs):
    """A module is copied: fit leaves it alone, starts from its weights, and clone copies it."""
    torch.manual_seed(0)
    encoder = two_layers(6, 8 if isinstance(model, VAETransformer) else 4).double().eval()
    encoder[0].weight.requires_grad_(False)
    before = copy.deepcopy(encoder)
    model.set_params(encoder=encoder).fit(blobs)
    assert model.encoder is encoder
    assert clone(model).encoder is not encoder
    assert [p.requires_grad for p in encoder.parameters()] == [False, True, True, True]
    assert not encoder.training
    for got, expected in zip(encoder.parameters(), before.parameters(), strict=True):
        assert got.dtype == torch.float64
        assert got.grad is None
        assert torch.equal(got, expected)
    if isinstance(model, AutoencoderTransformer):
        codes = model.set_params(max_iter=0, scale=None).fit(blobs).transform(blobs)
        raw = np.column_stack([encoder(torch.tensor(blobs)).detach().numpy(), np.ones(200)])
        basis = np.linalg.lstsq(codes, raw - raw.mean(0), rcond=None)[0]  # codes are affine in it
        np.testing.assert_allclose(codes @ basis + raw.mean(0), raw, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_frozen_module_of_one_s_own(model, blobs, precision):
    """A network that was trained before stays as it is, and the other learns."""
    torch.manual_seed(0)
    encoder = two_layers(6, 8 if isinstance(model, VAETransformer) else 4).requires_grad_(False)
    model.set_params(encoder=encoder, precision=precision).fit(blobs)
    for name, value in encoder.state_dict().items():
        assert np.array_equal(model._net.arrays[f"encoder.module.{name}"], value.numpy())
    if not isinstance(model, VAETransformer):
        assert model.loss_curve_[-1] < model.loss_curve_[0]


class Drawing(torch.nn.Sequential):
    """A network with batch statistics and dropout, which torch draws from its global generator."""

    def __init__(self, n_in, n_out):
        dropout, norm = torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(n_in)
        super().__init__(norm, dropout, torch.nn.Linear(n_in, n_out))


@pytest.mark.parametrize("batch_size", [7, 199, 200])
def test_own_network_that_draws(model, blobs, batch_size):
    """Dropout follows the seed, leaves torch's generator alone, and no batch has a single row."""
    model.set_params(encoder=Drawing, batch_size=batch_size, early_stopping=False)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = clone(model).fit(blobs)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    with ThreadPoolExecutor(2) as pool:
        fits = list(pool.map(lambda _: clone(model).fit(blobs), range(4)))
    assert {joblib.hash(fit) for fit in fits} == {joblib.hash(first)}
    assert not np.array_equal(
        clone(model).set_params(random_state=5).fit(blobs).loss_curve_, first.loss_curve_
    )


class Jittery(torch.nn.Linear):
    """A network that draws whenever it is used."""

    def forward(self, x):
        return super().forward(x) + 1e-3 * torch.randn(1) * torch.ones(1)


def lazy(n_in, n_out):
    """Return a network whose weights are drawn when it first sees rows."""
    return torch.nn.Sequential(torch.nn.LazyLinear(5), torch.nn.ReLU(), torch.nn.LazyLinear(n_out))


@pytest.mark.parametrize("network", [lazy, Jittery])
def test_own_network_that_draws_late(model, blobs, network):
    """Lazy weights, and draws in evaluation, follow the seed and leave torch's state alone."""
    model.set_params(encoder=network, max_iter=5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = outputs(clone(model).fit(blobs), blobs)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    with default_dtype(torch.float64):
        assert_same(outputs(clone(model).fit(blobs), blobs), first)


class Factory:
    """A factory with a state, as it might come from a library."""

    def __call__(self, n_in, n_out):
        return torch.nn.Linear(n_in, n_out)


def test_own_factory_goes_on(model, blobs):
    """An object that makes networks is the same one in a second part and in a warm start."""
    model.set_params(encoder=Factory(), warm_start=True)
    model.partial_fit(blobs).partial_fit(blobs).fit(blobs)
    restored = pickle.loads(pickle.dumps(model)).fit(blobs)
    assert restored.transform(blobs).shape == (200, 4)


def test_own_network_cannot_be_exchanged(model, blobs):
    """A warm start with another module of the same kind is refused, not ignored."""
    width = 8 if isinstance(model, VAETransformer) else 4
    model.set_params(encoder=torch.nn.Linear(6, width), warm_start=True).fit(blobs)
    with pytest.raises(ValueError, match="cannot go on from its last fit with encoder"):
        model.set_params(encoder=torch.nn.Linear(6, width)).fit(blobs)


def test_own_factory_is_called_once(model, blobs):
    """A factory is not called again to transform, nor for a warm start."""
    calls = []

    def factory(n_in, n_out):
        calls.append((n_in, n_out))
        return torch.nn.Linear(n_in, n_out)

    model.set_params(encoder=factory, warm_start=True).fit(blobs)
    outputs(model, blobs)
    model.fit(blobs).transform(blobs)
    assert len(calls) == 1


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_own_network_of_a_wrong_shape(model, blobs, role):
    """A network with another output than asked for is refused in one sentence with both shapes."""
    model.set_params(**{role: lambda n_in, n_out: torch.nn.Linear(n_in, n_out + 1)})
    with pytest.raises(ValueError, match=rf"The {role} must map .*shape \(2, \d+\).*returned"):
        model.fit(blobs)
    assert_unfitted(model)


@pytest.mark.parametrize("broken", [torch.nn.Linear(3, 2), lambda n_in, n_out: "no network"])
def test_own_network_that_does_not_work(model, blobs, broken):
    """A module of another input width, or a callable that makes none, is refused as the encoder."""
    with pytest.raises((ValueError, TypeError), match="encoder"):
        model.set_params(encoder=broken).fit(blobs)
    assert_unfitted(model)


# -- extremes --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e-8, 1e8, 1e30, 1e100])
def test_units_of_the_rows(model, blobs, size):
    """Rows in very small or very large units are fitted as the same rows in their own units."""
    X = (blobs - blobs.mean(0)) * size
    plain = clone(model).fit(blobs - blobs.mean(0))
    try:
        model.fit(X)
    except ValueError as error:
        assert "too large" in str(error) or "too small" in str(error)  # noqa: PT017
        assert size in (1e-300, 1e100)
        return
    back = model.inverse_transform(model.transform(X))
    assert np.isfinite(back).all()
    if not isinstance(model, VAETransformer):
        error = np.square((X - back) / size).sum() / np.square(X / size).sum()
        assert 1 - error == pytest.approx(plain.score(blobs - blobs.mean(0)), abs=0.02)


@pytest.mark.parametrize("value", [1e300, -1e300, 1e200])
@pytest.mark.parametrize("scale", ["global", "standard", None])
def test_huge_values(model, blobs, value, scale):
    """Values whose squares overflow are refused with their size."""
    X = blobs.copy()
    X[0, 0] = value
    with pytest.raises(ValueError, match=f"{abs(value):.1e}".replace("+", r"\+")):
        model.set_params(scale=scale).fit(X)
    assert_unfitted(model)


@pytest.mark.parametrize("value", [1e20, 1e100, 1e149])
def test_huge_values_in_new_rows(fitted, blobs, value):
    """A row far outside the training rows gives finite numbers or an error, never NaN."""
    X = blobs.copy()
    X[0, 0] = value
    for rows in (X, X.astype(np.float32)) if value < 1e38 else (X,):
        for method in (fitted.transform, fitted.score_samples, fitted.score):
            try:
                result = method(rows)
            except ValueError as error:
                assert "not finite" in str(error) or "too large" in str(error)  # noqa: PT017
            else:
                assert np.isfinite(result).all()


def test_huge_values_in_rows_to_learn_from(fitted, blobs):
    """Rows too large for the scale of an earlier fit are refused by name, and nothing is lost."""
    expected = outputs(fitted, blobs)
    huge = np.where(np.arange(6) == 2, 1e60, blobs)
    with pytest.raises(ValueError, match=r"Feature 2 of X reaches \d\.\de\+\d\d .*float32"):
        fitted.partial_fit(huge)
    with pytest.raises(ValueError, match=r"Feature 2 of X reaches \d\.\de\+\d\d .*float32"):
        clone(fitted).fit(blobs, X_val=huge)
    assert_same(outputs(fitted, blobs), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_unchecked_rows(model, blobs, bad):
    """With ``assume_finite`` NaN gets past the checks of scikit-learn, but not into a fit."""
    X = blobs.copy()
    X[3, 1] = bad
    with config_context(assume_finite=True), pytest.raises(ValueError, match="inf"):
        model.fit(X)
    assert_unfitted(model)


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("learning_rate", [10.0, 1e6, 1e30])
def test_diverging_training(model, blobs, learning_rate, early_stopping, init):
    """Absurd learning rates end in ConvergenceError or in finite numbers, never in NaN."""
    model.set_params(learning_rate=learning_rate, early_stopping=early_stopping, init=init)
    model.set_params(max_iter=6)
    try:
        model.fit(blobs)
    except ConvergenceError:
        assert_unfitted(model)
    else:
        for name, value in outputs(model, blobs).items():
            assert np.isfinite(value).all(), name
        assert np.isfinite(model.loss_curve_).all()


def test_diverging_refit(model, blobs):
    """A refit that diverges leaves the fit before it, and grid search can score it as failed."""
    assert issubclass(ConvergenceError, ValueError)
    model.fit(blobs)
    before = outputs(model, blobs)
    model.set_params(learning_rate=1e30, early_stopping=False, init="random")
    with pytest.raises(ConvergenceError, match="learning_rate"):
        model.fit(blobs)
    assert_same(outputs(model, blobs), before)


@pytest.mark.parametrize("scale", ["global", None])
def test_no_epoch_is_pca(digits, scale):
    """Without an epoch the autoencoder is PCA: its score and its reconstructions."""
    X = digits[:500]
    model = AutoencoderTransformer(10, max_iter=0, scale=scale, random_state=0).fit(X)
    pca = PCA(10, svd_solver="full").fit(X)
    assert model.score(X) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)
    expected = pca.inverse_transform(pca.transform(digits[500:]))
    back = model.inverse_transform(model.transform(digits[500:]))
    np.testing.assert_allclose(back, expected, rtol=0, atol=1e-5)


def test_no_epoch_is_pca_of_standardised_rows(blobs):
    """Scaled per feature, the autoencoder without an epoch is PCA after a StandardScaler."""
    X = blobs * 10.0 ** np.arange(-3, 3)
    model = AutoencoderTransformer(3, max_iter=0, scale="standard", random_state=0).fit(X)
    pipeline = make_pipeline(StandardScaler(), PCA(3, svd_solver="full")).fit(X)
    expected = pipeline.inverse_transform(pipeline.transform(X))
    back = model.inverse_transform(model.transform(X))
    np.testing.assert_allclose(back, expected, rtol=1e-4, atol=1e-5 * X.std(0).max())


def test_training_is_not_worse_than_pca(digits):
    """After training the autoencoder reconstructs held-out digits at least as well as PCA."""
    model = AutoencoderTransformer(5, max_iter=5, random_state=0).fit(digits[:900])
    start = clone(model).set_params(max_iter=0).fit(digits[:900])
    assert model.score(digits[900:]) > start.score(digits[900:])
