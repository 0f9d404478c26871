"""Discrete codes of MNIST: how many are alive, what a prior saves, what a classifier makes of them.

    python tests/benchmarks/discrete_codes.py --data FOLDER

FOLDER holds ``mnist.npz`` with ``X_train``, ``y_train``, ``X_test`` and ``y_test``; without it the
data come from ``sklearn.datasets.fetch_openml("mnist_784")``. Prints (1) perplexity and dead codes
of 16 codes of 512 values with default settings, and bits per test image under the independent and
the autoregressive prior; (2) the accuracy of logistic regression on one-hot codes, 16 stages of
1024 values.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skae import VQVAETransformer
from skae.priors import AutoregressivePrior
from skae.quantization import VectorQuantization


def load(folder):
    """Return training images and labels, test images and labels; images float32 in [0, 1]."""
    if folder is None:
        X, y = fetch_openml("mnist_784", as_frame=False, return_X_y=True)
        parts = X[:60_000], y[:60_000], X[60_000:], y[60_000:]
    else:
        with np.load(folder / "mnist.npz") as file:
            parts = [file[name] for name in ("X_train", "y_train", "X_test", "y_test")]
    return [part.astype(np.float32) / 255 if part.ndim == 2 else part for part in parts]


def codes_alive(train, test):
    """Print use, error and bits of 16 codes of 512 values."""
    settings = dict(n_codes=16, codebook_size=512, encode="codes", random_state=0)
    started = time.perf_counter()
    model = VQVAETransformer(64, **settings).fit(train)
    seconds = time.perf_counter() - started
    print(f"fitted in {seconds:.0f} s, {model.n_iter_} epochs")
    print(f"perplexity {model.perplexity_.mean():.0f}, least {model.perplexity_.min():.0f}")
    print(f"dead codes {(model.codebook_usage_ == 0).mean():.2%}")
    print(f"squared error per test image {-model.score_samples(test).mean():.3f}")
    bits = model.bits_per_row(test)
    started = time.perf_counter()
    prior = AutoregressivePrior(512, random_state=0)
    prior.fit(model.transform(train), vectors=model.codebook_)
    seconds = time.perf_counter() - started
    learned = -prior.log_prob(model.transform(test)).mean() / np.log(2)
    print(f"bits: independent {bits:.1f}, autoregressive {learned:.1f} ({seconds:.0f} s)")
    print(f"saved {1 - learned / bits:.1%}", flush=True)


def main():
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    train, y_train, test, y_test = load(parser.parse_args().data)
    warnings.simplefilter("ignore")
    codes_alive(train, test)
    stages = VQVAETransformer(
        16,
        n_codes=1,
        codebook_size=1024,
        quantizer=VectorQuantization(n_stages=16),
        encode="onehot",
        max_iter=25,
        random_state=0,
    )
    pipeline = make_pipeline(stages, LogisticRegression()).fit(train, y_train)
    print(f"logistic regression on one-hot codes: {pipeline.score(test, y_test):.4f}")


if __name__ == "__main__":
    main()
