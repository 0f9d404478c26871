"""Wide rows and wide codes: how long fits take beside PCA, their size and their memory.

    python tests/benchmarks/wide.py starts | fits | codes | memmap [--repeats N]

"starts" times fits without training, alternating with scikit-learn's PCA, and prints medians and
ratios of medians; "fits" whole fits with defaults, and the variance explained of rows not seen;
"codes" top-k codes, wider than rows; "memmap" the anonymous memory of a fit of rows on disk.
"""

import argparse
import pickle
import statistics
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfTransformer

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae._training.trainer import Trainer
from skae.metrics import explained_variance_scorer
from skae.objectives import TopK

KINDS = [AutoencoderTransformer, VAETransformer, VQVAETransformer]
SIZES = {
    "160 x 5000": (160, 5000),
    "1000 x 5000": (1000, 5000),
    "2000 x 20,000": (2000, 20_000),
    "2000 x 20,000 CSR": (2000, 20_000),
}


def curved_rows(n_rows, n_features, rng):
    """Return rows around a curved surface of 20 dimensions."""
    curved = np.tanh(2 * rng.standard_normal((n_rows, 20))) @ rng.standard_normal((20, 40))
    rows = np.sin(curved) @ rng.standard_normal((40, n_features))
    return rows + rng.standard_normal((n_rows, n_features))


def texts(n_rows, n_features, rng):
    """Return TF-IDF of texts of 100 words about mixtures of 30 topics."""
    topics = rng.dirichlet(np.full(n_features, 0.02), 30)
    mixtures = rng.dirichlet(np.full(30, 0.1), n_rows)
    counts = [rng.multinomial(100, mixture @ topics) for mixture in mixtures]
    return TfidfTransformer().fit_transform(sparse.csr_matrix(np.array(counts)))


def rows_of(name, n_more=0):
    """Return the rows of a size, and so many more."""
    (n_rows, n_features), rng = SIZES[name], np.random.default_rng(0)
    make = texts if name.endswith("CSR") else curved_rows
    return make(n_rows + n_more, n_features, rng)


def seconds(fit):
    """Return how long a call takes, and what it returns."""
    start = time.perf_counter()
    found = fit()
    return time.perf_counter() - start, found


def starts(repeats):
    """Print medians of fits without training, and their ratios to PCA's."""
    for name in SIZES:
        X, times = rows_of(name), {kind.__name__: [] for kind in [PCA, *KINDS]}
        for _ in range(repeats):
            times["PCA"].append(seconds(lambda X=X: PCA(20, random_state=0).fit(X))[0])
            for kind in KINDS:
                model = kind(20, max_iter=0, random_state=0)
                times[kind.__name__].append(seconds(lambda X=X, model=model: model.fit(X))[0])
        medians = {kind: statistics.median(found) for kind, found in times.items()}
        told = [f"{kind} {t:.2f} s, {t / medians['PCA']:.1f} x" for kind, t in medians.items()]
        print(f"{name}: {'; '.join(told)}; limit {3 * medians['PCA'] + 0.3:.2f} s", flush=True)


def fits(repeats):
    """Print whole fits with defaults, and the variance explained of 200 rows not seen."""
    for name in SIZES:
        X = rows_of(name, n_more=200)
        seen, unseen = X[:-200], X[-200:]
        for make in [PCA, *KINDS]:
            took, model = seconds(lambda make=make, X=seen: make(20, random_state=0).fit(X))
            score = explained_variance_scorer(model, unseen)
            print(f"{name}: {make.__name__} {took:.2f} s, {score:.4f}", flush=True)


def codes(repeats):
    """Print what 5 epochs of top-k codes of 4096 x 768 rows take, in training and outside of it."""
    rng, training, train = np.random.default_rng(0), [], Trainer.train
    directions, used = rng.standard_normal((1000, 768)), rng.random((4096, 1000)) < 0.02
    X = (rng.standard_normal((4096, 1000)) * used @ directions).astype(np.float32)

    def timed(self, *arguments, **settings):
        took, history = seconds(lambda: train(self, *arguments, **settings))
        training.append(took)
        return history

    Trainer.train = timed
    for k in (1024, 4096):
        model = AutoencoderTransformer(k, code_activation=TopK(32), max_iter=5, random_state=0)
        took, _ = seconds(lambda model=model: model.fit(X))
        weights = sum(array.nbytes for array in model._net.arrays.values())
        size = len(pickle.dumps(model)) / weights
        outside = 1 - training[-1] / took
        print(f"k={k}: {took:.1f} s, {outside:.1%} outside training; pickle {size:.2f} x weights")


def memmap(repeats):
    """Print the largest anonymous memory of a fit of a 100,000 x 2,000 float32 memmap (800 MB)."""
    with tempfile.TemporaryDirectory() as folder:
        path, rng = Path(folder) / "rows.npy", np.random.default_rng(0)
        X = np.lib.format.open_memmap(path, "w+", np.float32, (100_000, 2000))
        for start in range(0, 100_000, 5000):
            X[start : start + 5000] = curved_rows(5000, 2000, rng)
        X.flush()
        mapped, largest, done = np.load(path, mmap_mode="r"), [0], threading.Event()

        def watch():
            while not done.wait(0.02):
                status = Path("/proc/self/status").read_text(encoding="utf-8")
                line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
                largest[0] = max(largest[0], int(line.split()[1]) / 1e6)

        watcher = threading.Thread(target=watch)
        watcher.start()
        took, _ = seconds(
            lambda: AutoencoderTransformer(20, max_iter=2, random_state=0).fit(mapped)
        )
        done.set()
        watcher.join()
        print(f"100,000 x 2,000 float32 from disk: {took:.0f} s, {largest[0]:.2f} GB anonymous")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["starts", "fits", "codes", "memmap"])
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    {"starts": starts, "fits": fits, "codes": codes, "memmap": memmap}[chosen.part](chosen.repeats)
