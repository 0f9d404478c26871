"""Draws of every estimator: how well a classifier tells them from rows that were held out.

    python tests/benchmarks/samples.py --seeds 3

For each seed 1,600 points of a torus, a Swiss roll and an S-curve, in three dimensions, and 1,200
digits are fitted, and as many rows are drawn as there are others (the digits' 597). Prints
the area under the ROC curve of gradient boosting that tells draws from held-out rows, four-fold
cross-validated, averaged over seeds: .5 is ideal. Digits are rounded to whole numbers from 0 to 16,
as they are. "rows" are others of the same origin (of the digits, training rows): what is
reached at best.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits, make_s_curve, make_swiss_roll
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer

N_POINTS = 1600


def torus(seed):
    """Return points around a torus."""
    rng = np.random.default_rng(seed)
    around, across = rng.uniform(0, 2 * np.pi, size=(2, N_POINTS))
    radius = 2 + 0.7 * np.cos(across)
    points = radius * np.cos(around), radius * np.sin(around), 0.7 * np.sin(across)
    return np.column_stack(points) + 0.05 * rng.normal(size=(N_POINTS, 3))


def swiss_roll(seed):
    """Return points around a Swiss roll."""
    return make_swiss_roll(N_POINTS, noise=0.1, random_state=seed)[0]


def s_curve(seed):
    """Return points around an S-curve."""
    return make_s_curve(N_POINTS, noise=0.05, random_state=seed)[0]


def digits(seed):
    """Return training rows, held-out rows and as many training rows."""
    X = load_digits(return_X_y=True)[0][np.random.default_rng(seed).permutation(1797)]
    return X[:1200], X[1200:], X[:597]


def parts(name, seed):
    """Return training rows, held-out rows, and what draws are at best."""
    if name == "digits":
        return digits(seed)
    make = {"torus": torus, "Swiss roll": swiss_roll, "S-curve": s_curve}[name]
    return make(seed), make(1000 + seed), make(2000 + seed)


def contestants(k, seed):
    """Return estimators that draw rows, by name; `k` codes, for some the third dimension too."""
    more = k + 1 if k == 2 else k
    return {
        f"autoencoder, Gaussian, k={k}": AutoencoderTransformer(
            k, latent_density="gaussian", random_state=seed
        ),
        f"autoencoder, k={k}": AutoencoderTransformer(k, random_state=seed),
        f"VAE, normal prior, k={more}": VAETransformer(more, prior="normal", random_state=seed),
        f"VAE, k={more}": VAETransformer(more, random_state=seed),
        f"VQ-VAE, autoregressive, k={more}": VQVAETransformer(
            more, prior="autoregressive", random_state=seed
        ),
        "mixture of 8 Gaussians of rows": GaussianMixture(8, reg_covar=1e-3, random_state=seed),
    }


def area(draws, held_out, make):
    """Return the area under the curve of a classifier of draws and held-out rows."""
    X, y = np.vstack([held_out, draws]), np.repeat([0, 1], [len(held_out), len(draws)])
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    found = cross_val_predict(make(random_state=0), X, y, cv=folds, method="predict_proba")
    return roc_auc_score(y, found[:, 1])


def draw(model, n_rows, seed):
    """Return draws of a fitted model."""
    if isinstance(model, GaussianMixture):
        return model.sample(n_rows)[0]
    return model.sample(n_rows, random_state=seed)


def measure(name, seed, make, results):
    """Fit every contestant to one table, and add its area and seconds to the results."""
    train, held_out, others = parts(name, seed)
    whole = name == "digits"
    results.setdefault((name, "rows"), []).append((area(others, held_out, make), 0.0))
    for method, model in contestants(8 if whole else 2, seed).items():
        started = time.perf_counter()
        drawn = draw(model.fit(train), len(held_out), seed)
        seconds = time.perf_counter() - started
        drawn = np.clip(np.rint(drawn), 0, 16) if whole else drawn
        results.setdefault((name, method), []).append((area(drawn, held_out, make), seconds))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--forest", action="store_true", help="a random forest tells draws")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    make = RandomForestClassifier if arguments.forest else HistGradientBoostingClassifier
    for name in ("torus", "Swiss roll", "S-curve", "digits"):
        results = {}
        for seed in range(arguments.seeds):
            measure(name, seed, make, results)
        for (_, method), found in results.items():
            areas, seconds = np.transpose(found)
            each = " ".join(f"{one:.3f}" for one in areas)
            print(f"| {name} | {method} | {areas.mean():.3f} | {each} | {seconds.mean():.1f} s |")


if __name__ == "__main__":
    main()
