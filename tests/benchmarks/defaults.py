"""Which defaults are good in seconds: held-out score against time, over the datasets of pca_floor.

    python tests/benchmarks/defaults.py --data FOLDER
    python tests/benchmarks/defaults.py --variants "rate x 2" "no decay" --datasets digits

Each variant differs from the defaults in one thing. For every dataset, number of codes and seed it
is fitted beside the defaults, and the table tells by how much its test score (of squared errors,
1 at most) is better on average, with the standard error of that over cells, in how many cells it is
better or worse by more than 0.005, and how much longer its fits take. Files in FOLDER are those of
``pca_floor.py``; without it, datasets that come with scikit-learn are used.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from pca_floor import load, sources, split

from skae import AutoencoderTransformer
from skae._training.defaults import hidden_widths, patience, rows_per_batch, step_size

CLEAR = 0.005


def settings_of(variant, n_rows, n_features):
    """Return the parameters that a variant sets."""
    batch, widths = rows_per_batch("auto", n_rows), hidden_widths("auto", n_features)
    rate = step_size("auto", widths, n_features, custom=False)
    epochs = patience("auto", "auto", n_rows)
    return {
        "defaults": {},
        "batches / 2": {"batch_size": batch // 2},
        "batches x 2": {"batch_size": batch * 2},
        "widths / 2": {"hidden_layer_sizes": [width // 2 for width in widths]},
        "widths x 2": {"hidden_layer_sizes": [width * 2 for width in widths]},
        "one layer": {"hidden_layer_sizes": widths[:1]},
        "rate / 2": {"learning_rate": rate / 2},
        "rate x 2": {"learning_rate": rate * 2},
        "no decay": {"weight_decay": 0.0},
        "patience / 2": {"n_iter_no_change": -(-epochs // 2)},
        "patience x 2": {"n_iter_no_change": 2 * epochs},
        "tol / 10": {"tol": 1e-4},
        "one holdout": {"early_stopping": True},
        "SiLU": {"activation": "silu"},
    }[variant]


VARIANTS = [
    "batches / 2", "batches x 2", "widths / 2", "widths x 2", "one layer", "rate / 2", "rate x 2",
    "no decay", "patience / 2", "patience x 2", "tol / 10", "one holdout", "SiLU",
]  # fmt: skip


def fit(variant, k, seed, train, test):
    """Return test score and seconds of a fit."""
    settings = settings_of(variant, *train.shape)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoencoderTransformer(k, random_state=seed, **settings).fit(train)
    return model.score(test), time.perf_counter() - start


def run(options):
    """Fit all variants cell by cell; print the table."""
    known, found = sources(options.data), {name: [] for name in ["defaults", *options.variants]}
    for name in options.datasets or known:
        source, standardise = known[name]
        X = load(source)
        for k in options.n_components:
            for seed in range(options.seeds):
                train, test = split(X, standardise, seed)
                if k < min(train.shape):
                    for variant, cells in found.items():
                        cells.append(fit(variant, k, seed, train, test))
    base = np.array(found.pop("defaults"))
    total, middle = base[:, 1].sum(), np.median(base[:, 1])
    print(f"{len(base)} fits each; defaults: {total:.0f} s, median {middle:.2f} s\n")
    print("| variant | score | standard error | better | worse | time |")
    print("| --- | --- | --- | --- | --- | --- |")
    for variant, cells in found.items():
        gains, slower = np.array(cells)[:, 0] - base[:, 0], np.array(cells)[:, 1].sum()
        error = gains.std(ddof=1) / np.sqrt(len(gains))
        better, worse = (gains > CLEAR).sum(), (gains < -CLEAR).sum()
        print(
            f"| {variant} | {gains.mean():+.4f} | {error:.4f} | {better} | {worse} | "
            f"x {slower / base[:, 1].sum():.2f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--datasets", nargs="+")
    parser.add_argument("--n-components", nargs="+", type=int, default=[2, 8])
    parser.add_argument("--seeds", type=int, default=1)
    run(parser.parse_args())
