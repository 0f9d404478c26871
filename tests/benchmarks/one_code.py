"""Score of one code per row next to k-means with as many clusters, on rows that both have seen.

    python tests/benchmarks/one_code.py

Prints, for real and generated tables and codebooks of 16, 64 and 256 vectors, the fraction of
variance that scikit-learn's KMeans, the start and the fit explain.
"""

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, make_blobs, make_swiss_roll
from sklearn.preprocessing import scale

from skae import VQVAETransformer


def tables():
    """Return tables by name."""
    rng = np.random.default_rng(0)
    low_rank = rng.normal(size=(2000, 5)) @ rng.normal(size=(5, 30))
    groups = rng.normal(size=(3000, 2)) * 2 + 5 * rng.integers(0, 4, 3000)[:, None]
    return {
        "digits": load_digits().data,
        "breast cancer, standardised": scale(load_breast_cancer().data),
        "blobs": make_blobs(1500, 10, centers=40, random_state=0)[0],
        "swiss roll": make_swiss_roll(1500, noise=0.1, random_state=0)[0],
        "low rank": low_rank + 0.1 * rng.normal(size=low_rank.shape),
        "heavy tails and groups": scale(np.hstack([rng.lognormal(size=(3000, 6)), groups])),
    }


def main():
    """Print the table."""
    warnings.simplefilter("ignore")
    print("| rows | codes | KMeans | start | fit | loss, first and last epoch |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, X in tables().items():
        for size in (16, 64, 256):
            inertia = KMeans(size, random_state=0).fit(X).inertia_
            score = 1 - inertia / ((X - X.mean(0)) ** 2).sum()
            settings = dict(n_codes=1, codebook_size=size, random_state=0)
            start = VQVAETransformer(max_iter=0, **settings).fit(X).score(X)
            model = VQVAETransformer(**settings).fit(X)
            losses = f"{model.loss_curve_[0]:.3g}, {model.loss_curve_[-1]:.3g}"
            scores = f"{score:.4f} | {start:.4f} | {model.score(X):.4f}"
            print(f"| {name} | {size} | {scores} | {losses} |", flush=True)


if __name__ == "__main__":
    main()
