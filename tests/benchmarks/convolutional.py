"""Convolutions beside the default perceptron and a hand-written loop, on images.

    python tests/benchmarks/convolutional.py --data FOLDER
    python tests/benchmarks/convolutional.py --data FOLDER --images cifar10 --n-components 128

FOLDER holds ``mnist.npz``, with ``X_train`` and ``X_test``, and ``cifar10_jpeg.npz``, where image i
of "train" is ``jpeg_train[offsets_train[i]:offsets_train[i + 1]]``, which Pillow decodes.
All train for the same number of epochs, without early stopping, in turn. The loop trains the very
same networks by Adam at 1e-3 with batches of the same size, and mean squared error. Prints squared
errors per held-out image, pixels in [0, 1], and seconds.
"""

import argparse
import time
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae._training.defaults import rows_per_batch
from skae.architectures import Convolutional

IMAGES = {"mnist": ("mnist.npz", (28, 28)), "cifar10": ("cifar10_jpeg.npz", (32, 32, 3))}


def load(folder, name, n_rows):
    """Return training and test images, float32 in [0, 1], and their shape."""
    file, shape = IMAGES[name]
    with np.load(folder / file) as arrays:
        read = decoded if name == "cifar10" else lambda arrays, part: arrays[f"X_{part}"]
        train, test = (read(arrays, part).astype(np.float32) / 255 for part in ("train", "test"))
    return train[:n_rows], test, shape


def decoded(arrays, part):
    """Return images that are kept as JPEGs, as rows of bytes."""
    from PIL import Image

    jpegs, offsets = arrays[f"jpeg_{part}"], arrays[f"offsets_{part}"]
    files = (BytesIO(jpegs[i:j].tobytes()) for i, j in pairwise(offsets))
    return np.array([np.asarray(Image.open(file)).ravel() for file in files])


def squared_error(rows, reconstruction):
    """Return the squared error of a row, summed over its features, on average."""
    return np.square(rows.astype(np.float64) - reconstruction).sum(1).mean()


def hand_written(architecture, k, n_epochs, train, test):
    """Train an architecture's networks in a plain loop; return the error of test rows."""
    torch.manual_seed(0)
    width = train.shape[1]
    how = dict(n_encoded=k, n_components=k, hidden_layer_sizes=(), activation="relu", skip=True)
    generator = torch.Generator().manual_seed(0)
    nets = architecture.build(n_features=width, **how, generator=generator)
    model = torch.nn.Sequential(*nets)
    mean = torch.from_numpy(train.mean(0))
    X, batch = torch.from_numpy(train) - mean, rows_per_batch("auto", len(train))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(n_epochs):
        for index in torch.randperm(len(X)).split(batch):
            x = X[index]
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x), x).backward()
            optimizer.step()
    with torch.no_grad():
        parts = [model(part - mean) + mean for part in torch.from_numpy(test).split(1000)]
    return squared_error(test, torch.cat(parts).numpy())


def contestants(shape, k, n_epochs, residual):
    """Return functions of training and test rows that return an error, by name."""
    blocks = [0, 1] if residual else [0]
    nets = [Convolutional(shape, n_residual_blocks=n) for n in blocks]
    fits = {"default perceptron": None} | {repr(net): net for net in nets}

    def fitted(encoder, train, test):
        how = dict(max_iter=n_epochs, early_stopping=False, random_state=0)
        model = AutoencoderTransformer(k, encoder=encoder, **how).fit(train)
        return squared_error(test, model.inverse_transform(model.transform(test)))

    found = {name: lambda *rows, e=encoder: fitted(e, *rows) for name, encoder in fits.items()}
    loop = "hand-written loop of the same nets"
    return found | {loop: lambda *rows: hand_written(nets[0], k, n_epochs, *rows)}


def main():
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", choices=IMAGES, default="mnist")
    parser.add_argument("--n-components", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rows", type=int, help="number of training images; all by default")
    parser.add_argument("--residual", action="store_true", help="one with residual blocks too")
    options = parser.parse_args()
    train, test, shape = load(options.data, options.images, options.rows)
    k = options.n_components
    print("| | squared error per image | seconds |\n| --- | --- | --- |")
    pca = PCA(k).fit(train)
    error = squared_error(test, pca.inverse_transform(pca.transform(test)))
    print(f"| PCA | {error:.3f} | |")
    for name, run in contestants(shape, k, options.epochs, options.residual).items():
        start = time.perf_counter()
        error = run(train, test)
        print(f"| {name} | {error:.3f} | {time.perf_counter() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main()
