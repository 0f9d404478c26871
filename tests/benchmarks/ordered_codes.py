"""Score of the first k of 16 codes that were trained in order, next to nets trained for k codes.

    python tests/benchmarks/ordered_codes.py --data FOLDER

FOLDER holds ``mnist.npz`` as for ``mnist.py``. All nets have default widths and are trained for the
same number of epochs. Prints a table of scores on the test images.
"""

import argparse
import warnings
from pathlib import Path

from mnist import load
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae.exceptions import ConvergenceWarning
from skae.metrics import explained_variance_scorer
from skae.objectives import CosineDecay

N_COMPONENTS = 16


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


def main():
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--k", type=int, nargs="+", default=list(range(1, N_COMPONENTS + 1)))
    options = parser.parse_args()
    train, test = load(options.data)
    warnings.simplefilter("ignore", ConvergenceWarning)
    settings = dict(max_iter=options.epochs, learning_rate=CosineDecay(), random_state=0)
    ordered = AutoencoderTransformer(N_COMPONENTS, ordered=True, **settings).fit(train)
    print("| k | PCA | first k codes | trained for k | share |")
    print("| --- | --- | --- | --- | --- |")
    for k in options.k:
        pca = explained_variance_scorer(PCA(k).fit(train), test)
        cut = explained_variance_scorer(FirstCodes(ordered, k), test)
        own = AutoencoderTransformer(k, **settings).fit(train).score(test)
        print(f"| {k} | {pca:.3f} | {cut:.3f} | {own:.3f} | {cut / own:.3f} |", flush=True)


if __name__ == "__main__":
    main()
