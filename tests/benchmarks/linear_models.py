"""Linear variational autoencoders beside probabilistic PCA and factor analysis, in nats per row.

    python tests/benchmarks/linear_models.py --data FOLDER

FOLDER holds ``oilflow.npz`` with ``DataTrn``; without it the digits and wine are compared. Prints
for each dataset and number of components the exact maximum of the mean log-likelihood and how far
below it the bound of a linear autoencoder ends: with default settings and no early stopping, from a
random start with a learning rate that falls from 1e-2 over 1000 epochs, and the same two with noise
variances by feature beside factor analysis.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.preprocessing import scale

from skae import VAETransformer
from skae.objectives import CosineDecay, Gaussian

RANDOM = dict(init="random", learning_rate=CosineDecay(1e-2), max_iter=1000)


def load(folder):
    """Return the datasets by name."""
    datasets = {"digits": load_digits().data / 16, "wine": scale(load_wine().data)}
    if folder is not None:
        with np.load(folder / "oilflow.npz") as file:
            datasets["oilflow"] = file["DataTrn"]
    return datasets


def gap(X, k, best, **settings):
    """Return the score of a linear model of X minus `best`."""
    linear = dict(hidden_layer_sizes=(), early_stopping=False, random_state=0)
    return VAETransformer(k, **linear, **settings).fit(X).score(X) - best


def run(name, X, k):
    """Print the line of a dataset and a number of components."""
    best = PCA(k).fit(X).score(X)
    line = (
        f"{name:8} {k:3}  PCA {best:9.4f}  {gap(X, k, best):+.4f}  {gap(X, k, best, **RANDOM):+.4f}"
    )
    if name != "digits":  # whose constant pixels have no noise, so that there is no maximum
        best = FactorAnalysis(k, tol=1e-8, max_iter=20_000).fit(X).score(X)
        each = dict(likelihood=Gaussian("per_feature"))
        line += f"  factor analysis {best:9.4f}  {gap(X, k, best, **each):+.4f}"
        line += f"  {gap(X, k, best, **each, **RANDOM):+.4f}"
    print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name, X in load(arguments.data).items():
        for k in (2, 5, 10):
            run(name, X, k)
