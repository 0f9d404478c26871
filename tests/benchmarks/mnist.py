"""Reconstruction of MNIST's test images by PCA and the three estimators, with all defaults.

    python tests/benchmarks/mnist.py --data FOLDER
    python tests/benchmarks/mnist.py --data FOLDER --n-components 30 --estimators deep
    python tests/benchmarks/mnist.py --data FOLDER --epochs 10 30

FOLDER holds ``mnist.npz`` with ``X_train`` and ``X_test``, 60,000 and 10,000 rows of 784 bytes;
without it the data come from ``sklearn.datasets.fetch_openml("mnist_784")``. Prints a table.
"deep" has the widths of Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural
Networks", 2006, and their loss, the cross-entropy. ``--epochs`` adds the network of the defaults
trained for so many epochs by a hand-written loop and by skorch: Adam at 1e-3, batches of 256.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import contestants
import numpy as np
from sklearn.datasets import fetch_openml
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.metrics import explained_variance_scorer
from skae.objectives import CosineDecay

ESTIMATORS = {
    "PCA": PCA,
    "AutoencoderTransformer": AutoencoderTransformer,
    "VAETransformer": VAETransformer,
    "VQVAETransformer": VQVAETransformer,
    "deep": partial(
        AutoencoderTransformer,
        hidden_layer_sizes=(1000, 500, 250),
        loss="bernoulli",
        learning_rate=CosineDecay(),
        max_iter=60,
    ),
}
PEERS = {"hand-written loop": contestants.hand_written, "skorch": contestants.skorch}
DEFAULT = [name for name in ESTIMATORS if name != "deep"]


def load(folder):
    """Return training and test images, float32 in [0, 1]."""
    if folder is None:
        images = fetch_openml("mnist_784", as_frame=False).data
        train, test = images[:60_000], images[60_000:]
    else:
        with np.load(folder / "mnist.npz") as file:
            train, test = file["X_train"], file["X_test"]
    return train.astype(np.float32) / 255, test.astype(np.float32) / 255


def squared_error(rows, reconstruction):
    """Return the squared error of a row, summed over its features, on average."""
    return np.square(rows.astype(np.float64) - reconstruction).sum(1).mean()


def run_peer(name, n_epochs, n_components, train, test):
    """Train the default network by a peer and print its line of the table."""
    work = {"kind": "autoencoder", "hidden": (512, 256), "codes": n_components, "size": None}
    start = time.perf_counter()
    fitted = PEERS[name](train, work | {"batch": 256, "epochs": n_epochs}, seed=0)
    seconds = time.perf_counter() - start
    error = squared_error(test, fitted.reconstruct(test))
    print(f"| {name} | {error:.3f} | - | - | {seconds:.0f} | {n_epochs} |", flush=True)


def run(name, n_components, train, test):
    """Fit one estimator and print its line of the table."""
    estimator = ESTIMATORS[name](n_components, random_state=0)
    start = time.perf_counter()
    estimator.fit(train)
    seconds = time.perf_counter() - start
    error = squared_error(test, estimator.inverse_transform(estimator.transform(test)))
    explained = explained_variance_scorer(estimator, test)
    print(
        f"| {name} | {error:.3f} | {explained:.4f} | {estimator.score(test):.4g} | {seconds:.0f} "
        f"| {getattr(estimator, 'n_iter_', '-')} |",
        flush=True,
    )


def main():
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz")
    parser.add_argument("--n-components", type=int, default=32)
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=DEFAULT)
    parser.add_argument("--epochs", nargs="+", type=int, default=[], help="those of peers")
    options = parser.parse_args()
    train, test = load(options.data)
    print(
        "| estimator | squared error per image | variance explained | `score` | fit, s | epochs |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name in options.estimators:
        run(name, options.n_components, train, test)
    for name in PEERS if options.epochs else ():
        for n_epochs in options.epochs:
            run_peer(name, n_epochs, options.n_components, train, test)


if __name__ == "__main__":
    main()
