"""Sparse codes: scores and zeros along a path of weights of the penalty, as for the lasso.

Digits, 16 codes, held-out rows; "off" is within a twentieth of a code's standard deviation.
Run as ``python tests/benchmarks/sparse_codes.py [--seeds 1]``.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.objectives import L1

K, WEIGHTS = 16, (0.1, 1.0, 3.0, 9.0, 30.0)


def row(name, model, train, test, score):
    """Print a row of the table."""
    codes, deviation = model.transform(test), model.transform(train).std(0)
    off = np.abs(codes) <= 0.05 * deviation
    rarest = 1 - off.mean(0).max()
    print(f"| {name} | {score:.3f} | {np.median(off.mean(1)):.2f} | {rarest:.2f} |", end="")


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    n_seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore")
    train, test = train_test_split(load_digits().data, random_state=0)
    print("| | score | off in the median row | rows that use the rarest code | seconds |")
    print("|---|---|---|---|---|")
    for k in (8, K):
        pca = PCA(k).fit(train)
        left = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
        row(f"`PCA({k})`", pca, train, test, 1 - left / np.square(test - pca.mean_).sum())
        print(" |")
    for weight in WEIGHTS:
        for seed in range(n_seeds):
            start = time.perf_counter()
            model = AutoencoderTransformer(K, penalty=L1(weight), random_state=seed).fit(train)
            seconds = time.perf_counter() - start
            row(f"`L1({weight:g})`", model, train, test, model.score(test))
            print(f" {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
