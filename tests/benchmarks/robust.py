"""Robust losses: what 2 % of gross outliers among training rows cost, with all else at defaults.

Digits, 8 codes. Noise takes the place of training rows; rows to score on are clean.
Run as ``python tests/benchmarks/robust.py [--seeds 5]``.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer, VAETransformer

K, SHARE, NOISE = 8, 0.02, 200.0

MODELS = {
    "`PCA`": lambda seed: PCA(K),
    "squared error": lambda seed: AutoencoderTransformer(K, random_state=seed),
    '`loss="huber"`': lambda seed: AutoencoderTransformer(K, loss="huber", random_state=seed),
    '`loss="absolute_error"`': lambda seed: AutoencoderTransformer(
        K, loss="absolute_error", random_state=seed
    ),
    'VAE, `likelihood="laplace"`': lambda seed: VAETransformer(
        K, likelihood="laplace", random_state=seed
    ),
}


def tables(seed):
    """Return clean training rows, the same with outliers, and clean rows to score on."""
    clean, test = train_test_split(load_digits().data, random_state=seed)
    rng = np.random.RandomState(seed)
    chosen = rng.choice(len(clean), round(SHARE * len(clean)), replace=False)
    spoiled = clean.copy()
    spoiled[chosen] = rng.normal(0, NOISE, (len(chosen), clean.shape[1]))
    return np.delete(clean, chosen, 0), spoiled, test


def explained(model, X, mean):
    """Return the share of the variance about a mean that is reconstructed."""
    found = model.inverse_transform(model.transform(X))
    return 1 - np.square(X - found).sum() / np.square(X - mean).sum()


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    n_seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore")
    print("| | with outliers, mean | smallest | of clean rows | seconds |\n|---|---|---|---|---|")
    for name, make in MODELS.items():
        scores, of_clean, seconds = [], [], 0.0
        for seed in range(n_seeds):
            clean, spoiled, test = tables(seed)
            start = time.perf_counter()
            scores.append(explained(make(seed).fit(spoiled), test, clean.mean(0)))
            seconds += time.perf_counter() - start
            if seed == 0:
                of_clean.append(explained(make(seed).fit(clean), test, clean.mean(0)))
        print(
            f"| {name} | {np.mean(scores):.3f} | {min(scores):.3f} | {np.mean(of_clean):.3f} "
            f"| {seconds / n_seeds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
