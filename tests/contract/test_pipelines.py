"""Inside scikit-learn: pipelines, searches, unions, caches, and what all estimators have."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold, cross_val_score
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.contract.checks import CALM, assert_same, assert_unfitted, outputs

pytestmark = CALM


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
