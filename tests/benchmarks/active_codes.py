"""How many codes a variational autoencoder with default settings uses, beside probabilistic PCA.

    python tests/benchmarks/active_codes.py --data FOLDER
    python tests/benchmarks/active_codes.py --data FOLDER --datasets digits binary

FOLDER holds ``oilflow.npz`` with ``DataTrn``, ``mnist.npz`` with ``X_train``, and
``binarized_mnist_larochelle.npz`` as in ``binarized_mnist.py``. A code counts as active if the
variance of its posterior means is over 0.01 (Burda, Grosse and Salakhutdinov, "Importance Weighted
Autoencoders", 2016, who report 19 of 50 on binary MNIST). Prints a line per dataset and number of
codes: active codes before training, where the model is probabilistic PCA, and after.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from skae import VAETransformer


def load(name, folder):
    """Return rows, float32."""
    if name == "digits":
        return load_digits().data.astype(np.float32) / 16
    if name == "oilflow":
        with np.load(folder / "oilflow.npz") as file:
            return file["DataTrn"].astype(np.float32)
    if name == "mnist":
        with np.load(folder / "mnist.npz") as file:
            return file["X_train"].astype(np.float32) / 255
    with np.load(folder / "binarized_mnist_larochelle.npz") as file:
        return np.unpackbits(file["train"], axis=1)[:, :784].astype(np.float32)


def run(name, X, n_components, seed):
    """Fit a model and print its line."""
    likelihood = "bernoulli" if name == "binary" else "gaussian"
    model = VAETransformer(n_components, likelihood=likelihood, random_state=seed)
    before = VAETransformer(n_components, likelihood=likelihood, max_iter=0).fit(X)
    start = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - start
    print(
        f"{name:8} {n_components:3} codes  seed {seed}  active {before.active_components_.sum():3} "
        f"-> {model.active_components_.sum():3}  bound {before.lower_bound_:9.3f} -> "
        f"{model.lower_bound_:9.3f}  {model.n_iter_:4} epochs {seconds:5.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    datasets = ["digits", "oilflow", "mnist", "binary"]
    parser.add_argument("--datasets", nargs="+", choices=datasets, default=datasets)
    parser.add_argument("--n-components", nargs="+", type=int, default=[2, 8, 32])
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in arguments.datasets:
        X = load(name, arguments.data)
        for n_components in [50] if name == "binary" else arguments.n_components:
            if n_components <= min(X.shape):
                for seed in range(arguments.seeds):
                    run(name, X, n_components, seed)
