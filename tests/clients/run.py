"""Libraries that use scikit-learn's PCA, run with that of skae in its place.

    pip install -r tests/clients/requirements.txt
    pip install --no-deps -e .
    python tests/clients/run.py
    python tests/clients/run.py scanpy graphtools --json

Names pick rows of the table by the beginning of their client's name. Each client runs three times
on small data, each time in a process of its own: with scikit-learn's PCA and IncrementalPCA; with
those of `skae.decomposition` and ``max_iter=0``, which have to give the same numbers; and with
those of `skae.decomposition` at their defaults, trained, which have to give finite numbers of the
same shapes. The classes are replaced before the client is imported, and a client that did not
fit one of them is said not to have used it.

What is wrong is in bold type, and the exit status is then 1. A row's difference is the largest of
its arrays', each relative to its array's largest number and after columns were brought to the same
sign; where a client asked for a solver that is not exact, the difference to the exact one is told
too. "By hand" is what the client computes from a fitted PCA's attributes instead of calling its
methods: for a trained model, which is not linear, that is something else than `transform` and
`inverse_transform` do. The score is the share of the variance of the rows of the client's last fit
that their reconstructions explain, before and after training.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

import numpy as np

MODES = ("sklearn", "start", "trained")
TOLERANCE = 1e-4
NEAR = 1e-5
TIMEOUT = 900
CLIENTS = {}


@dataclass
class Client:
    """A row of the table.

    `run` returns arrays by name, those to be compared and, optionally, others that need to be
    finite only, because they come out of an optimisation that amplifies rounding.
    """

    package: str
    module: str
    ran: str
    by_hand: str
    run: Callable


def client(package, module, ran, by_hand="no"):
    """Make a client of the function that runs it."""

    def register(function):
        name = function.__name__.replace("_", "-")
        CLIENTS[name] = Client(package, module, ran, by_hand, function)
        return function

    return register


# -- data ------------------------------------------------------------------------------------------


def digits(n_rows=400):
    """Return some rows of the digits, of 64 features, and their labels."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X[:n_rows], y[:n_rows]


def wine():
    """Return the wines, 178 rows of 13 standardised features, and their labels."""
    from sklearn.datasets import load_wine
    from sklearn.preprocessing import StandardScaler

    X, y = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def pixels():
    """Return 500 digits of the 40 pixels that vary most, and their labels."""
    X, y = digits(500)
    return X[:, np.sort(np.argsort(-X.var(0))[:40])], y


def cells(dtype=np.float32):
    """Return the digits as annotated data: logarithms of 64 counts in 400 cells."""
    import anndata

    return anndata.AnnData(np.log1p(digits()[0]).astype(dtype))


def image(figure):
    """Return the number of pixels of a figure that were drawn, which has to be positive."""
    figure.canvas.draw()
    return np.array([float(len(np.asarray(figure.canvas.buffer_rgba())))])


# -- clients ---------------------------------------------------------------------------------------


@client(
    "scikit-learn",
    "sklearn.neighbors",
    'NeighborhoodComponentsAnalysis(init="pca")',
    "components_ are the first transformation",
)
def sklearn_nca():
    from sklearn.neighbors import NeighborhoodComponentsAnalysis

    X, y = wine()
    model = NeighborhoodComponentsAnalysis(3, init="pca", max_iter=1, random_state=0).fit(X, y)
    return {"transformed": model.transform(X)}


@client("scikit-learn", "sklearn.manifold", 'TSNE(init="pca")')
def sklearn_tsne():
    from sklearn.manifold import TSNE

    model = TSNE(init="pca", max_iter=250, random_state=0)
    return {}, {"embedding": model.fit_transform(digits()[0])}


@client(
    "pca",
    "pca",
    "fit_transform and transform, 5 components and the default 0.95",
    "no; `norm` multiplies scores by loadings",
)
def pca():
    import pandas as pd
    from pca import pca

    X, _ = pixels()
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    values = {}
    for n_components in (5, 0.95):
        model = pca(n_components=n_components, random_state=0, verbose="silent")
        results = model.fit_transform(frame[:400])
        values |= {
            f"{n_components}: scores": results["PC"].to_numpy(),
            f"{n_components}: loadings": results["loadings"].to_numpy().T,
            f"{n_components}: explained": np.asarray(results["explained_var"]),
            f"{n_components}: outliers": results["outliers"]["y_score"].to_numpy(),
            f"{n_components}: new": model.transform(frame[400:]).to_numpy(),
        }
    return values


@client(
    "pca",
    "pca",
    "norm, biplot and plot of explained variance",
    "`norm`: scores @ loadings, for reconstruction",
)
def pca_norm_and_plots():
    from pca import pca

    X, y = pixels()
    model = pca(n_components=5, random_state=0, verbose="silent")
    model.fit_transform(X)
    figures = [model.biplot(labels=y)[0], model.plot()[0]]
    drawn = np.concatenate([image(each) for each in figures])
    return {"normed": pca(random_state=0, verbose="silent").norm(X), "drawn": drawn}


@client(
    "scanpy",
    "scanpy",
    "pp.pca, dense, with a mask, and pp.neighbors",
    "components_ are stored as loadings",
)
def scanpy_dense():
    import scanpy

    data = cells()
    scanpy.pp.pca(data, n_comps=10)
    scanpy.pp.neighbors(data, n_neighbors=10)
    masked = cells()
    scanpy.pp.pca(masked, n_comps=5, mask_var=np.arange(64) < 40, svd_solver="full")
    return {
        "scores": data.obsm["X_pca"],
        "loadings": data.varm["PCs"],
        "variance": data.uns["pca"]["variance"],
        "variance ratio": data.uns["pca"]["variance_ratio"],
        "masked scores": masked.obsm["X_pca"],
        "masked loadings": masked.varm["PCs"],
    }


@client("scanpy", "scanpy", "pp.pca, CSR", "components_ are stored as loadings")
def scanpy_sparse():
    import scanpy
    from scipy.sparse import csr_matrix

    data = cells()
    data.X = csr_matrix(data.X)
    scanpy.pp.pca(data, n_comps=10)
    return {
        "scores": data.obsm["X_pca"],
        "loadings": data.varm["PCs"],
        "variance": data.uns["pca"]["variance"],
        "variance ratio": data.uns["pca"]["variance_ratio"],
    }


@client(
    "scanpy",
    "scanpy",
    'pp.pca, CSR, svd_solver="lobpcg"',
    "an unfitted PCA is given components_ and explained_variance_",
)
def scanpy_lobpcg():
    import scanpy
    from scipy.sparse import csr_matrix

    data = cells()
    data.X = csr_matrix(data.X)
    scanpy.pp.pca(data, n_comps=10, svd_solver="lobpcg")
    return {"scores": data.obsm["X_pca"], "loadings": data.varm["PCs"]}


@client("scanpy", "scanpy", "pp.pca, chunked (IncrementalPCA)", "components_ are stored")
def scanpy_chunked():
    import scanpy

    data = cells()
    scanpy.pp.pca(data, n_comps=10, chunked=True, chunk_size=100)
    return {
        "scores": data.obsm["X_pca"],
        "loadings": data.varm["PCs"],
        "variance": data.uns["pca"]["variance"],
        "variance ratio": data.uns["pca"]["variance_ratio"],
    }


@client(
    "scanpy", "scanpy", "tl.ingest of new cells", "new cells: (X - mean of new) @ components_.T"
)
def scanpy_ingest():
    import scanpy

    data = cells()
    data.obs["group"] = np.where(np.arange(400) % 2, "odd", "even")
    data.obs["group"] = data.obs["group"].astype("category")
    reference, new = data[:300].copy(), data[300:].copy()
    scanpy.pp.pca(reference, n_comps=10)
    scanpy.pp.neighbors(reference, n_neighbors=10)
    scanpy.tl.ingest(new, reference, obs="group", embedding_method="pca")
    return {"new scores": new.obsm["X_pca"]}


@client(
    "graphtools",
    "graphtools",
    "Graph(n_pca=20): data_nu, transform, inverse_transform",
    "inverse_transform of some columns: Y @ components_ + mean_",
)
def graphtools():
    from graphtools import Graph

    X, _ = digits()
    graph = Graph(X, n_pca=20, random_state=0, verbose=False)
    return {
        "reduced": graph.data_nu,
        "new": graph.transform(digits(500)[0][400:]),
        "back": graph.inverse_transform(graph.data_nu),
        "back, some columns": graph.inverse_transform(graph.data_nu, columns=[20, 30]),
        "kernel": np.asarray(graph.K.sum(1)).ravel(),
    }


@client(
    "graphtools",
    "graphtools",
    'Graph(n_pca="auto") of rank-deficient rows',
    "cuts components_ of the fitted PCA, then calls transform",
)
def graphtools_auto():
    from graphtools import Graph

    graph = Graph(digits()[0], n_pca="auto", random_state=0, verbose=False)
    return {"reduced": graph.data_nu, "new": graph.transform(digits(500)[0][400:])}


@client("phate", "phate", 'PHATE(n_pca=20, mds="classic")')
def phate():
    import phate

    model = phate.PHATE(n_pca=20, mds="classic", random_state=0, verbose=0, n_jobs=1)
    embedding = model.fit_transform(digits()[0])
    return {"reduced": model.graph.data_nu, "embedding": embedding}


@client("openTSNE", "openTSNE", 'initialization.pca and TSNE(initialization="pca")')
def opentsne():
    import openTSNE

    X, _ = digits()
    start = openTSNE.initialization.pca(X, random_state=0, add_jitter=False)
    model = openTSNE.TSNE(initialization="pca", random_state=0, n_iter=50)
    return {"start": start}, {"embedding": np.asarray(model.fit(X))}


@client(
    "pyod",
    "pyod.models.pca",
    "PCA: scores of training and new rows, weighted or not",
    "distances of rows to components_ over explained_variance_ratio_; transform never called",
)
def pyod():
    from pyod.models.pca import PCA

    X, _ = pixels()
    values = {}
    for weighted in (True, False):
        model = PCA(n_components=5, weighted=weighted, random_state=0).fit(X[:400])
        values[f"weighted {weighted}"] = model.decision_scores_
        values[f"weighted {weighted}, new"] = model.decision_function(X[400:])
    full = PCA(random_state=0).fit(X)
    return values | {
        "all components": full.decision_scores_,
        "explained": full.explained_variance_ratio_,
        "singular values": full.singular_values_,
        "mean": full.mean_ + 1,
        "noise": np.array([full.noise_variance_ + 1]),
    }


@client("aeon", "aeon.transformations.series", "PCASeriesTransformer")
def aeon_series():
    import pandas as pd
    from aeon.transformations.series import PCASeriesTransformer

    frame = pd.DataFrame(pixels()[0])
    series = PCASeriesTransformer(n_components=3).fit_transform(frame, axis=0)
    return {"series": np.asarray(series)}


@client("aeon", "aeon.transformations.series", "Dobin with more features than rows")
def aeon_dobin():
    import pandas as pd
    from aeon.transformations.series._dobin import Dobin

    frame = pd.DataFrame(digits(30)[0])
    return {"coordinates": np.asarray(Dobin().fit_transform(frame, axis=0))}


@client(
    "aeon",
    "aeon.transformations.collection.dictionary_based",
    'SFAFast(feature_selection_strategy="pca")',
    "new series: (X - mean_) @ components_.T; training: fit_transform",
)
def aeon_sfa():
    from aeon.transformations.collection.dictionary_based import SFAFast

    rng = np.random.default_rng(0)
    times, phases, rates = np.linspace(0, 4, 60), *rng.uniform(1, 3, (2, 200, 1))
    X = (np.sin(rates * times + phases) + 0.1 * rng.normal(size=(200, 60)))[:, None]
    settings = dict(word_length=4, feature_selection_strategy="pca", random_state=0)
    windows = SFAFast(window_size=16, **settings)
    bags = windows.fit_transform(X[:150]).shape[0], windows.transform(X[150:]).shape[0]
    whole = SFAFast(window_size=60, **settings)
    whole.fit(X[:150])
    _, transformed = whole.transform_words(X)
    return {
        "transformed": transformed,
        "breakpoints": windows.breakpoints[:, :-1],
        "components": windows.pca_components.T,
        "bags": np.array(bags, float),
    }


@client(
    "chemotools",
    "chemotools.outliers",
    "HotellingT2, QResiduals and DModX on a Pipeline",
    "no: transform, inverse_transform, explained_variance_",
)
def chemotools_outliers():
    from chemotools.outliers import DModX, HotellingT2, QResiduals
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, _ = pixels()
    values = {}
    for model in (PCA(3), make_pipeline(StandardScaler(), PCA(3))):
        model.fit(X[:400])
        for detector in (HotellingT2(model), QResiduals(model), DModX(model)):
            detector.fit(X[:400])
            name = f"{type(model).__name__}, {type(detector).__name__}"
            values[name] = detector.predict_residuals(X)
            values[f"{name}, limit"] = np.array([detector.critical_value_])
    return values


@client(
    "chemotools",
    "chemotools.inspector",
    "PCAInspector: scores, loadings, summary, figures",
    "components_ are shown as loadings",
)
def chemotools_inspector():
    from chemotools.inspector import PCAInspector
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = pixels()
    model = make_pipeline(StandardScaler(), PCA(4)).fit(X[:400])
    inspector = PCAInspector(model, X[:400], y[:400], X_test=X[400:], y_test=y[400:])
    summary = inspector.summary()
    figures = inspector.inspect(dataset=["train", "test"])
    return {
        "scores": inspector.get_scores("test"),
        "loadings": inspector.get_loadings(),
        "explained": np.asarray(summary.explained_variance_ratio),
        "limits": np.array([summary.hotelling_t2_limit, summary.q_residuals_limit]),
        "figures": np.array([float(len(figures))]),
    }


@client(
    "yellowbrick",
    "yellowbrick.features",
    "PCA with heat map and projected features",
    "components_ are drawn as arrows",
)
def yellowbrick_pca():
    from yellowbrick.features import PCA

    X, y = pixels()
    model = PCA(proj_features=True, heatmap=True, random_state=0)
    projected = model.fit_transform(X, y)
    model.finalize()
    return {"projected": projected, "components": model.pca_components_.T}


@client("yellowbrick", "yellowbrick.features.decomposition", "ExplainedVariance")
def yellowbrick_explained_variance():
    from yellowbrick.features.decomposition import ExplainedVariance

    model = ExplainedVariance().fit(pixels()[0])
    return {"explained": model.explained_variance_}


@client("yellowbrick", "yellowbrick.text", 'TSNEVisualizer(decompose="pca")')
def yellowbrick_tsne():
    from yellowbrick.text import TSNEVisualizer

    X, y = digits(200)
    model = TSNEVisualizer(decompose="pca", decompose_by=10, random_state=0)
    model.fit(X, y)
    return {"reduced": model.transformer_.named_steps["pca"].transform(X)}


@client("mlxtend", "mlxtend.plotting", "plot_pca_correlation_graph of scores and variances")
def mlxtend():
    from mlxtend.plotting import plot_pca_correlation_graph
    from sklearn.decomposition import PCA

    X, _ = pixels()
    model = PCA(2).fit(X)
    figure, correlations = plot_pca_correlation_graph(
        X,
        [f"x{i}" for i in range(X.shape[1])],
        dimensions=(1, 2),
        X_pca=model.transform(X),
        explained_variance=model.explained_variance_,
    )
    return {"correlations": np.asarray(correlations, float), "drawn": image(figure)}


@client("kmapper", "kmapper", "project with PCA alone and in a chain, and map")
def kmapper():
    from kmapper import KeplerMapper
    from sklearn.cluster import DBSCAN
    from sklearn.decomposition import PCA

    X, _ = digits()
    mapper = KeplerMapper(verbose=0)
    lens = mapper.project(X, projection=PCA(2))
    chained = mapper.fit_transform(X, projection=[PCA(10), [0, 1]], scaler=[None, None])
    graph = mapper.map(lens, X, clusterer=DBSCAN(eps=25, min_samples=3))
    verbose = KeplerMapper(verbose=1).project(X, projection=PCA(2))
    nodes = np.array([float(len(graph["nodes"]))])
    return {"lens": lens, "chained": chained, "verbose": verbose}, {"nodes": nodes}


@client("umap-learn", "umap", 'UMAP(init="pca"): its start, and 30 epochs')
def umap():
    from umap import UMAP

    X, _ = digits()
    start = UMAP(init="pca", n_epochs=0, random_state=0, n_jobs=1).fit_transform(X)
    trained = UMAP(init="pca", n_epochs=30, random_state=0, n_jobs=1).fit(X)
    new = trained.transform(digits(450)[0][400:])
    return {"start": start}, {"embedding": trained.embedding_, "new": new}


@client("pacmap", "pacmap", 'PaCMAP with init="pca": its start, 60 epochs, transform')
def pacmap():
    from pacmap import PaCMAP

    X, _ = digits()
    settings = dict(num_iters=(20, 20, 20), random_state=0, verbose=False)
    model = PaCMAP(intermediate=True, intermediate_snapshots=[0, 60], **settings)
    states = model.fit_transform(X, init="pca")
    again = PaCMAP(**settings)
    embedding = again.fit_transform(X, init="pca")
    new = again.transform(digits(450)[0][400:], basis=X, init="pca")
    return {"start": states[0]}, {"embedding": embedding, "new": new}


@client("hypertools", "hypertools", "reduce with PCA and IncrementalPCA, new rows, analyze, dicts")
def hypertools():
    import hypertools
    from sklearn.decomposition import PCA

    X, _ = digits()
    new = digits(450)[0][400:]
    values = {}
    for name in ("PCA", "IncrementalPCA"):
        scores, model = hypertools.reduce(
            X, reduce=name, ndims=3, return_model=True, random_state=0
        )
        values[name] = scores
        values[f"{name}, new"] = hypertools.reduce(new, reduce=model)
    whitened = {"model": "PCA", "kwargs": {"whiten": True}}
    values["whitened"] = hypertools.reduce(X, reduce=whitened, ndims=3)
    values["analyzed"] = hypertools.analyze(X, reduce=PCA(4))
    values["two"] = np.vstack(hypertools.reduce([X[:200], X[200:]], reduce="PCA", ndims=3))
    return values


# -- in a client's process -------------------------------------------------------------------------


class Record:
    """Counts fits, of which it keeps the last model and the rows it saw."""

    def __init__(self):
        self.n_fits, self.seconds, self.model, self.rows, self.depth = 0, 0.0, None, [], 0

    @contextmanager
    def fit(self, model, X):
        """Count a fit, but not those that it does itself."""
        if self.depth == 0:
            if model is not self.model:
                self.model, self.rows = model, []
            self.n_fits += 1
            self.rows.append(X)
        self.depth += 1
        started = time.perf_counter()
        try:
            yield
        finally:
            self.depth -= 1
            if self.depth == 0:
                self.seconds += time.perf_counter() - started

    def score(self):
        """Return the share of variance that the last model explains, or None."""
        try:
            rows = [each.toarray() if hasattr(each, "toarray") else each for each in self.rows]
            X = np.vstack([np.asarray(each, float) for each in rows])
            back = self.model.inverse_transform(self.model.transform(X))
            return float(1 - np.square(X - back).sum() / np.square(X - X.mean(0)).sum())
        except Exception:
            return None


def counted(base, max_iter, record):
    """Return a subclass that records its fits, with another default of ``max_iter``."""

    class Counted(base):
        __doc__ = base.__doc__

        def fit(self, X, y=None):
            with record.fit(self, X):
                return super().fit(X, y)

        def fit_transform(self, X, y=None):
            with record.fit(self, X):
                return super().fit_transform(X, y)

    if hasattr(base, "partial_fit"):

        def partial_fit(self, X, y=None):
            with record.fit(self, X):
                return super(Counted, self).partial_fit(X, y)

        Counted.partial_fit = partial_fit
    if max_iter is not None:
        start = base.__init__
        parts = (start.__code__, start.__globals__, "__init__", start.__defaults__)
        Counted.__init__ = FunctionType(*parts, start.__closure__)
        Counted.__init__.__kwdefaults__ = start.__kwdefaults__ | {"max_iter": max_iter}
    Counted.__name__ = Counted.__qualname__ = base.__name__
    Counted.__module__ = base.__module__
    return Counted


def exact_classes():
    """Return scikit-learn's PCA and IncrementalPCA, exact whatever solver or batches there are."""
    from sklearn.decomposition import PCA as Linear
    from sklearn.decomposition import IncrementalPCA as Incremental

    class PCA(Linear):
        def _fit(self, X):
            asked, self.svd_solver = self.svd_solver, "full"
            try:
                return super()._fit(X.toarray() if hasattr(X, "toarray") else X)
            finally:
                self.svd_solver = asked

    class IncrementalPCA(Incremental):
        def partial_fit(self, X, y=None, check_input=True):
            self.seen_ = np.vstack([*([self.seen_] if hasattr(self, "seen_") else []), X])
            self.__dict__.update(vars(Linear(self.n_components, svd_solver="full").fit(self.seen_)))
            return self

        def fit(self, X, y=None):
            return self.partial_fit(X)

    return PCA, IncrementalPCA


def replace(mode):
    """Put other classes where clients import scikit-learn's from, and return a record of fits."""
    import sklearn.decomposition
    from sklearn.decomposition import _incremental_pca, _pca

    record = Record()
    if mode == "exact":
        bases = exact_classes()
    else:
        from skae import decomposition

        bases = decomposition.PCA, decomposition.IncrementalPCA
    for base, home in zip(bases, (_pca, _incremental_pca), strict=True):
        replacement = counted(base, 0 if mode == "start" else None, record)
        setattr(sklearn.decomposition, base.__name__, replacement)
        setattr(home, base.__name__, replacement)
    return record


def work(name, mode):
    """Run a client, and return what came of it."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    record = None if mode == "sklearn" else replace(mode)
    client = CLIENTS[name]
    answer = {"version": importlib.metadata.version(client.package)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            importlib.import_module(client.module)
            started = time.perf_counter()
            values = client.run()
            answer["seconds"] = time.perf_counter() - started
            compared, finite = values if isinstance(values, tuple) else (values, {})
            compared, finite = (
                {key: np.asarray(each) for key, each in arrays.items()}
                for arrays in (compared, finite)
            )
            answer["dtypes"] = {key: str(each.dtype) for key, each in (compared | finite).items()}
            answer["compared"] = {key: each.tolist() for key, each in compared.items()}
            answer["finite"] = {key: each.tolist() for key, each in finite.items()}
        except Exception as error:
            answer["error"] = f"{type(error).__name__}: {error}"
            answer["traceback"] = traceback.format_exc()
    answer["warnings"] = sorted({f"{w.category.__name__}: {w.message}" for w in caught})
    if record is not None:
        answer |= {"n_fits": record.n_fits, "fit_seconds": record.seconds}
        answer["score"] = record.score()
    return answer


# -- in the process that asks ----------------------------------------------------------------------


def ask(name, mode):
    """Run a client in a process of its own, and return its answer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.json"
        command = [sys.executable, __file__, name, "--work", mode, str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return {"error": f"not done in {TIMEOUT} seconds"}
        if not path.exists():
            last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            return {"error": f"its process died: {last}", "traceback": done.stderr}
        return json.loads(path.read_text(encoding="utf-8"))


def difference(expected, found):
    """Return the largest difference relative to the largest number, columns of the same sign."""
    if not expected.size:
        return 0.0
    if expected.ndim == 2:
        found = found * np.where((expected * found).sum(0) < 0, -1, 1)
    return float(np.abs(expected - found).max() / (np.abs(expected).max() or 1.0))


def worst_difference(expected, answer):
    """Return the largest difference of two answers, and the name of the array that has it."""
    return max(
        (difference(np.asarray(value, float), np.asarray(answer["compared"][key], float)), key)
        for key, value in expected["compared"].items()
    )


def find_fault(expected, answer):
    """Return what is wrong with an answer whatever its numbers are, or an empty string."""
    if "error" in answer:
        return f"**{answer['error'][:80]}**"
    if not answer["n_fits"]:
        return "**not used**"
    for kind in ("compared", "finite"):
        for key, value in expected[kind].items():
            want, got = np.asarray(value, float), np.asarray(answer[kind][key], float)
            if want.shape != got.shape:
                return f"**{key}: shape {got.shape} instead of {want.shape}**"
            if not np.isfinite(got).all():
                return f"**{key}: not finite**"
    return ""


def describe_start(name, expected, answer):
    """Return how near to scikit-learn's an answer of PCA itself is.

    Where it is not near, because the client asked for a solver that is not exact, it is compared
    with scikit-learn's exact one too.
    """
    fault = find_fault(expected, answer)
    if fault or not expected["compared"]:
        return fault or "finite"
    worst, key = worst_difference(expected, answer)
    told = f"{worst:.0e}"
    if worst > NEAR:
        exact = ask(name, "exact")
        to_exact = np.inf if find_fault(exact, answer) else worst_difference(exact, answer)[0]
        told += f" ({key}); to the exact solver {to_exact:.0e}"
        told = f"**{told}**" if min(worst, to_exact) > TOLERANCE else told
    other = sorted(
        f"{key} {found} for {want}"
        for key, want in expected["dtypes"].items()
        if (found := answer["dtypes"][key]) != want
    )
    return "; ".join([told, *other])


def row(name):
    """Run a client in all modes, and return its row as a dictionary."""
    client = CLIENTS[name]
    answers = {mode: ask(name, mode) for mode in MODES}
    expected, start, trained = (answers[mode] for mode in MODES)
    cells = {"client": client.package, "name": name, "version": expected.get("version", "-")}
    cells |= {"ran": client.ran, "by hand": client.by_hand}
    if "error" in expected:
        wrong = f"**fails with scikit-learn's: {expected['error']}**"
        return cells | {"start": wrong, "trained": "-", "seconds": "-", "answers": answers}
    cells["start"] = describe_start(name, expected, start)
    scores = [each.get("score") for each in (start, trained)]
    told = "" if None in scores else f"; score {scores[0]:.3f} → {scores[1]:.3f}"
    cells["trained"] = find_fault(expected, trained) or f"finite, same shapes{told}"
    cells["seconds"] = " / ".join(f"{each.get('seconds', np.nan):.1f}" for each in answers.values())
    known = set(expected["warnings"])
    cells["warnings"] = sorted({*start.get("warnings", []), *trained.get("warnings", [])} - known)
    return cells | {"answers": answers}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of clients' names; all without")
    parser.add_argument("--json", action="store_true", help="print rows with all answers as JSON")
    parser.add_argument("--work", nargs=2, metavar=("MODE", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        mode, path = arguments.work
        Path(path).write_text(json.dumps(work(arguments.names[0], mode)), encoding="utf-8")
        return
    chosen = [
        name
        for name, each in CLIENTS.items()
        if not arguments.names
        or any(name.startswith(n) or each.package.startswith(n) for n in arguments.names)
    ]
    columns = {
        "client": "client",
        "version": "version",
        "ran": "what was run",
        "by hand": "uses components_ by hand",
        "start": "max_iter=0: largest difference",
        "trained": "at defaults",
        "seconds": "seconds: scikit-learn / max_iter=0 / defaults",
    }
    if not arguments.json:
        print(f"| {' | '.join(columns.values())} |\n|{' --- |' * len(columns)}", flush=True)
    rows = []
    for name in chosen:
        rows.append(row(name))
        if not arguments.json:
            print(f"| {' | '.join(str(rows[-1][key]) for key in columns)} |", flush=True)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    sys.exit(any("**" in each[key] for each in rows for key in ("start", "trained")))


if __name__ == "__main__":
    main()
