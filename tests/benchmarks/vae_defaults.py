"""VAETransformer with defaults against PCA, factor analysis and Gaussian mixtures, in nats.

    python tests/benchmarks/vae_defaults.py --data FOLDER --seeds 5

Rows are those of ``pca_floor.py``, in units of the training rows' standard deviations. So that no
model wins by a spike, columns with repeated values get uniform noise of their smallest step, and
all columns Gaussian noise of a twentieth of their standard deviation. Scores are of test rows, of
PCA and factor analysis with the same number of codes, and of the mixture with the number of
components that has the least BIC; "log p" is the last VAE's `log_likelihood`, as its score is a
bound and those of the others are none. Prints a table of means over seeds, which split rows anew.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pca_floor
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import GaussianMixture

from skae import VAETransformer
from skae.objectives import Gaussian

# Numbers of codes: about half of the features, 16 at most; 2 of surfaces in three dimensions.
CELLS = {
    "iris": 2,
    "wine": 6,
    "diabetes": 5,
    "breast_cancer": 15,
    "swiss_roll": 2,
    "s_curve": 2,
    "torus": 2,
    "circles": 2,
    "friedman1": 5,
    "skewed": 6,
    "blobs": 10,
    "low_rank": 16,
    "digits": 16,
    "oilflow": 6,
    "kin8nm": 4,
    "protein": 4,
    "adult": 3,
    "cover": 5,
}
COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
FLOOR = 0.05


def rows(source, seed):
    """Return training and test rows, dequantised and with a common floor of variance."""
    rng = np.random.default_rng(seed)
    X = pca_floor.load(source)
    for column in X.T:
        values = np.unique(column)
        if 1 < len(values) < 0.9 * len(column):
            column += rng.uniform(-0.5, 0.5, size=len(column)) * np.diff(values).min()
    train, test = pca_floor.split(X[:, X.std(0) > 0], True, seed)
    return tuple(each + FLOOR * rng.normal(size=each.shape) for each in (train, test))


def mixture(train, seed):
    """Return the mixture of Gaussians with the least BIC."""
    fits = [
        GaussianMixture(n, reg_covar=FLOOR**2, random_state=seed).fit(train) for n in COMPONENTS
    ]
    return min(fits, key=lambda fit: fit.bic(train))


MODELS = {
    "PCA": lambda k, seed: PCA(k),
    "FA": lambda k, seed: FactorAnalysis(k),
    "shared": lambda k, seed: VAETransformer(k, likelihood=Gaussian(), random_state=seed),
    "per feature": lambda k, seed: VAETransformer(
        k, likelihood=Gaussian("per_feature"), random_state=seed
    ),
    "default": lambda k, seed: VAETransformer(k, random_state=seed),
}


def main():
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of pca_floor.py's files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    sources = pca_floor.sources(options.data)
    warnings.simplefilter("ignore")
    print(f"| table | k | {' | '.join(options.models)} | log p | GMM |")
    print("| --- " * (len(options.models) + 4) + "|")
    for name in [name for name in options.tables if name in sources]:
        scores = []
        for seed in range(options.seeds):
            train, test = rows(sources[name][0], seed)
            fits = [MODELS[model](CELLS[name], seed).fit(train) for model in options.models]
            found = [fit.score(test) for fit in fits]
            found.append(fits[-1].log_likelihood(test, n_samples=500, random_state=0).mean())
            scores.append([*found, mixture(train, seed).score(test)])
        shown = " | ".join(f"{score:.2f}" for score in np.mean(scores, axis=0))
        print(f"| {name} | {CELLS[name]} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
