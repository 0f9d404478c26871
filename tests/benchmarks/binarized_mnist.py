"""Log-likelihoods of binary MNIST under published protocols, beside the published figures.

    python tests/benchmarks/binarized_mnist.py --data FOLDER
    python tests/benchmarks/binarized_mnist.py --data FOLDER --protocols deep iwae

FOLDER holds ``binarized_mnist_larochelle.npz`` with ``train``, ``valid`` and ``test``, the fixed
binarisation of Larochelle, bit-packed by row; and for the protocols with a fresh draw of the pixels
in each epoch ``mnist.npz`` with ``X_train`` and ``X_test``, rows of 784 bytes. Prints a line per
check; "curve" takes minutes on two cores and the others are for a GPU.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from skae import VAETransformer

AT_ONCE = 1000


@dataclass(frozen=True)
class Protocol:
    """A published training run.

    Attributes
    ----------
    source : str
        Where it is from.
    settings : dict
        Parameters of the estimator.
    published : dict of int to float
        Log p(x) in nats after so many epochs; of the test images if it is the only one.
    n_draws : int
        Draws for each image with which log p(x) is estimated.
    fresh : bool, default=False
        Whether pixels are drawn anew from the grey images in each epoch.
    """

    source: str
    published: dict
    n_draws: int
    settings: dict = field(default_factory=dict)
    fresh: bool = False


def iwae(n_importance_samples, published):
    """Return the protocol of the importance-weighted autoencoder with so many draws."""
    return Protocol(
        "github.com/xqding/Importance_Weighted_Autoencoders",
        {5000: published},
        5000,
        dict(
            n_components=50,
            hidden_layer_sizes=(200, 200),
            activation="tanh",
            batch_size=1000,
            n_importance_samples=n_importance_samples,
        ),
        fresh=True,
    )


PROTOCOLS = {
    # 25 epochs of 391 steps are 9,775 steps, and 63 are 24,633: no more than 10,000 and 25,000.
    "curve": Protocol(
        "github.com/altosaar/variational-autoencoder",
        {25: -102.62, 63: -98.83},
        128,
        dict(n_components=128, hidden_layer_sizes=(256, 256), batch_size=128),
    ),
    "deep": Protocol(
        "github.com/clementchadebec/benchmark_VAE",
        {500: -89.78},
        200,
        dict(n_components=40, hidden_layer_sizes=(400,), batch_size=100, learning_rate=1e-4),
    ),
    "vae": iwae(1, -87.78),
    "iwae": iwae(50, -84.59),
}


def load(folder):
    """Return the fixed training, validation and test rows, float32, test rows shuffled."""
    with np.load(folder / "binarized_mnist_larochelle.npz") as file:
        parts = [file[name] for name in ("train", "valid", "test")]
    return [np.unpackbits(part, axis=1)[:, :784].astype(np.float32) for part in parts]


def load_grey(folder):
    """Return the probabilities of the training and test pixels, float32."""
    with np.load(folder / "mnist.npz") as file:
        return [file[name].astype(np.float32) / 255 for name in ("X_train", "X_test")]


def log_likelihood(model, X, n_draws):
    """Return the mean of log p(x) in nats, and its standard error over rows."""
    starts = range(0, len(X), AT_ONCE)
    parts = [model.log_likelihood(X[i : i + AT_ONCE], n_draws, random_state=i) for i in starts]
    rows = np.concatenate(parts)
    return rows.mean(), rows.std() / len(rows) ** 0.5


def run(name, folder, init, seed, n_test):
    """Train by a protocol and print a line at each epoch for which there is a published figure."""
    protocol = PROTOCOLS[name]
    rng = np.random.default_rng(seed)
    if protocol.fresh:
        grey, grey_test = load_grey(folder)
        evaluated = {"test": (rng.random(grey_test.shape) < grey_test).astype(np.float32)}
    else:
        train, valid, test = load(folder)
        evaluated = {"valid": valid, "test": test}
    evaluated = {
        part: rows[rng.permutation(len(rows))[:n_test]] for part, rows in evaluated.items()
    }
    model = VAETransformer(
        likelihood="bernoulli",
        init=init,
        random_state=seed,
        max_iter=max(protocol.published),
        **protocol.settings,
    )
    seconds = 0.0
    for epoch in range(1, model.max_iter + 1):
        if protocol.fresh:
            train = (rng.random(grey.shape) < grey).astype(np.float32)
        start = time.perf_counter()
        model.partial_fit(train)
        seconds += time.perf_counter() - start
        if epoch not in protocol.published:
            continue
        line = f"{name:6} {init:6} seed {seed}  {epoch:4} epochs  {seconds:6.0f} s"
        for part, rows in evaluated.items():
            estimate, error = log_likelihood(model, rows, protocol.n_draws)
            line += f"  {part} {estimate:.2f} +- {error:.2f} (bound {model.score(rows):.2f})"
        print(f"{line}  published {protocol.published[epoch]:.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=["curve"])
    parser.add_argument("--init", choices=["pca", "random"], default="pca")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--n-test", type=int, default=10_000)
    arguments = parser.parse_args()
    for name in arguments.protocols:
        for seed in range(arguments.seeds):
            run(name, arguments.data, arguments.init, seed, arguments.n_test)
