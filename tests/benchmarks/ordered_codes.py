"""Scores of the first k codes that were trained in order, next to nets trained for k codes.

    python tests/benchmarks/ordered_codes.py
    python tests/benchmarks/ordered_codes.py --data FOLDER --methods "k ** -0.5" geometric

Without a folder rows are scikit-learn's digits, three quarters of them for training, and there are
8 codes; FOLDER holds ``mnist.npz`` as for ``mnist.py``, and there are 16. The methods say how many
codes a row may use in training: drawn with fixed probabilities, or with ones that change from step
to step. All nets are trained for the same number of epochs. Prints, for each method, scores on test
rows, and what share they are of those of nets with k codes alone.
"""

import argparse
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mnist import load
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.metrics import explained_variance_scorer
from skae.modules import Autoencoder


def unit_sweeping(done, k):
    """Return weights without what is swept already: fewer codes are not drawn any more."""
    return k**-0.5 * (k > min(done / 0.9, 1) * (len(k) - 1) - 1e-9)


def one_more_at_a_time(done, k):
    """Return weights of up to one code, two codes and so on, and of all after 40 % of the steps."""
    return k**-0.25 * (k <= 1 + int(min(done / 0.4, 1) * (len(k) - 1)))


def with_all_twice(k):
    """Return weights that fall, with twice that of all codes."""
    return k**-0.6 * np.where(k == k[-1], 2, 1)


METHODS = {
    "k ** -0.6, all twice": lambda done, k, errors: with_all_twice(k),
    "k ** -0.5": lambda done, k, errors: k**-0.5,
    "all alike": lambda done, k, errors: k**0.0,
    "geometric": lambda done, k, errors: 0.9**k,
    "inverse error of PCA": lambda done, k, errors: 1 / errors,
    "unit sweeping": lambda done, k, errors: unit_sweeping(done, k),
    "one more at a time": lambda done, k, errors: one_more_at_a_time(done, k),
    "1 / k, and later all alike": lambda done, k, errors: k ** (done - 1.0),
}


def drawing(method, errors, n_steps):
    """Return a `draw_noise` that draws numbers of codes as a method says."""
    k, n_drawn = np.arange(1, len(errors) + 1, dtype=float), 0

    def draw_noise(self, n_rows, generator, dropout=0.0):
        nonlocal n_drawn
        weights = torch.tensor(METHODS[method](min(n_drawn / n_steps, 1.0), k, errors))
        n_drawn += 1
        return {"kept": weights.multinomial(n_rows, True, generator=generator)[:, None] + 1}

    return draw_noise


class FirstCodes:
    """An ordered autoencoder whose codes are cut off after the first k."""

    def __init__(self, model, k):
        self.model, self.k = model, k

    def transform(self, X):
        """Return codes, zero after the first k."""
        codes = self.model.transform(X)
        codes[:, self.k :] = 0
        return codes

    def inverse_transform(self, codes):
        """Return reconstructions."""
        return self.model.inverse_transform(codes)


def line(name, numbers):
    """Print a row of a table."""
    print(f"| {name} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |", flush=True)


def main():
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    if options.data:
        train, test = load(options.data)
        train, test = train[:8000], test[:2000]
        n_codes, settings = 16, dict(hidden_layer_sizes=(128, 64), max_iter=30, batch_size=64)
    else:
        train, test = train_test_split(load_digits().data, random_state=0)
        n_codes, settings = 8, dict(max_iter=120, batch_size=32)
    settings["early_stopping"] = False
    n_steps = settings["max_iter"] * -(-len(train) // settings["batch_size"])
    counts = [k for k in (1, 2, 3, 4, 6, 8, 12, 16) if k <= n_codes]
    variances = PCA().fit(train).explained_variance_
    errors = (variances.sum() - np.cumsum(variances))[:n_codes]
    line("k", counts)
    line("PCA", [explained_variance_scorer(PCA(k).fit(train), test) for k in counts])
    own = [
        AutoencoderTransformer(k, random_state=0, **settings).fit(train).score(test) for k in counts
    ]
    line("trained for k", own)
    for method in options.methods:
        found = []
        for seed in range(options.seeds):
            model = AutoencoderTransformer(n_codes, ordered=True, random_state=seed, **settings)
            with mock.patch.object(Autoencoder, "draw_noise", drawing(method, errors, n_steps)):
                model.fit(train)
            found.append([explained_variance_scorer(FirstCodes(model, k), test) for k in counts])
        line(method, np.mean(found, 0))
        line("share", np.mean(found, 0) / own)


if __name__ == "__main__":
    main()
