"""Rate and distortion on MNIST: product quantization of PCA beside VQVAETransformer.

    python tests/benchmarks/rate_distortion.py --data FOLDER

FOLDER holds ``mnist.npz`` with ``X_train`` and ``X_test``; without it the data come from
``sklearn.datasets.fetch_openml("mnist_784")``. For 4, 8 and 16 codes of 256 values, 4 components
each, prints bits and squared error per test image. Product quantization is k-means for blocks of
PCA's components, either neighbours or shared out so that blocks have about equal products of
variances (Ge et al., "Optimized Product Quantization", 2013); the better counts.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from mnist import load
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from skae import VQVAETransformer

SIZE, DIM = 256, 4


def shared_out(variances, n_codes):
    """Return an order of components in which blocks have about equal products of variances."""
    groups = [[] for _ in range(n_codes)]
    logs = np.log(variances) - np.log(variances).min()
    for axis in np.argsort(-logs):
        room = [group for group in groups if len(group) < DIM]
        min(room, key=lambda group: logs[group].sum()).append(axis)
    return np.concatenate(groups)


def quantized_pca(train, test, n_codes):
    """Return squared error per row of the better order, and seconds."""
    started = time.perf_counter()
    pca = PCA(DIM * n_codes, random_state=0).fit(train)
    z_train, z_test = pca.transform(train), pca.transform(test)
    errors = []
    for order in (np.arange(DIM * n_codes), shared_out(pca.explained_variance_, n_codes)):
        rebuilt = np.empty_like(z_test)
        for block in order.reshape(n_codes, DIM):
            kmeans = KMeans(SIZE, n_init=1, random_state=0).fit(z_train[:, block])
            rebuilt[:, block] = kmeans.cluster_centers_[kmeans.predict(z_test[:, block])]
        errors.append(np.square(test - pca.inverse_transform(rebuilt)).sum(1).mean())
    return min(errors), time.perf_counter() - started


def vqvae(train, test, n_codes, max_iter):
    """Return squared error per row and seconds."""
    started = time.perf_counter()
    settings = dict(codebook_size=SIZE, max_iter=max_iter, random_state=0)
    model = VQVAETransformer(DIM * n_codes, n_codes=n_codes, **settings).fit(train)
    return -model.score_samples(test).mean(), time.perf_counter() - started


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--codes", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--max-iter", type=int, default=30)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    train, test = load(arguments.data)
    print("| codes | bits | method | squared error | fit, s |")
    for n_codes in arguments.codes:
        results = {
            "quantized PCA": quantized_pca(train, test, n_codes),
            "VQVAETransformer": vqvae(train, test, n_codes, arguments.max_iter),
        }
        for method, (error, seconds) in results.items():
            line = f"{n_codes} | {8 * n_codes} | {method} | {error:.2f} | {seconds:.0f}"
            print(f"| {line} |", flush=True)


if __name__ == "__main__":
    main()
