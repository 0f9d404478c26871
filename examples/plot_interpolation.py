"""
===========================================
Paths between images: what a critic is for
===========================================

Images of a line from the centre, at any angle, lie on a circle, and between two of them there is a
path of lines: the one in which the line turns. An autoencoder that is trained to reproduce lines
need not know that path. Half way between the codes of two lines it may show both, or neither.

ACAI [1]_ trains a critic to tell such mixtures from reconstructions, and the autoencoder to make
mixtures that the critic cannot tell. This script draws paths with and without it, and measures, as
in section 3.1 of [1]_,

- how far the images on a path are from the nearest line (cosine distance, 0 is best), and
- how evenly the line turns (0 is evenly; near 1 it jumps from one end to the other).

``python examples/plot_interpolation.py --seeds 5`` repeats it for five seeds; one takes about two
minutes. The networks are perceptrons; those of [1]_ are convolutional and are trained for more than
ten times as many steps.

.. [1] Berthelot, Raffel, Roy and Goodfellow, "Understanding and Improving Interpolation in
   Autoencoders via an Adversarial Regularizer", 2019.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np

from skae import AutoencoderTransformer
from skae.objectives import ACAI, CosineDecay

SIZE = 32
LENGTH = 16


def draw_lines(angles):
    """Return images, (n, 1024) in [-1, 1], of lines from the centre at angles in radians."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pixels = np.stack([x.ravel(), y.ravel()])
    along = np.clip(directions @ pixels, 0, LENGTH)  # (n, 1024), nearest point of the line
    offset = pixels - along[:, None] * directions[:, :, None]
    distance = np.sqrt(np.square(offset).sum(1))
    return 2 * np.clip(1.5 - distance, 0, 1) - 1


def score_paths(paths, n_lines=10_000):
    """Return the mean cosine distance to a line, and smoothness, of paths (n, steps, 1024)."""
    angles = np.linspace(0, 2 * np.pi, n_lines, endpoint=False)
    lines = draw_lines(angles)
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    frames = paths.reshape(-1, paths.shape[2])
    similarity = frames / np.linalg.norm(frames, axis=1, keepdims=True) @ lines.T
    nearest = angles[similarity.argmax(1)].reshape(paths.shape[:2])
    steps = np.abs((np.diff(nearest, axis=1) + np.pi) % (2 * np.pi) - np.pi)
    total = steps.sum(1)
    largest = np.divide(steps.max(1), total, out=np.zeros(len(paths)), where=total > 1e-4)
    smoothness = np.where(total > 1e-4, largest - 1 / steps.shape[1], 0)
    return 1 - similarity.max(1).mean(), smoothness.mean()


def fit(penalty, seed, n_lines=4000):
    """Return an autoencoder of lines with 64 codes."""
    rng = np.random.default_rng(seed)
    X = draw_lines(rng.uniform(0, 2 * np.pi, n_lines)).astype(np.float32)
    model = AutoencoderTransformer(
        n_components=64,
        hidden_layer_sizes=(256, 128),
        activation="tanh",
        init="random",
        penalty=penalty,
        learning_rate=CosineDecay(3e-3),
        early_stopping=False,
        batch_size=64,
        max_iter=300,
        random_state=seed,
    )
    return model.fit(X)


def paths_of(model, seed, n_paths=256, n_steps=16):
    """Return paths between random pairs of lines, (n_paths, n_steps, 1024)."""
    ends = draw_lines(np.random.default_rng(1000 + seed).uniform(0, 2 * np.pi, 2 * n_paths))
    return model.interpolate(ends[:n_paths], ends[n_paths:], n_steps)


def show(all_paths, n_shown=3, every=3):
    """Draw some images of the first paths of each model, a path per row."""
    axes = plt.figure(figsize=(6, 6.6), layout="constrained").subplots(len(all_paths))
    for ax, (name, paths) in zip(axes, all_paths.items(), strict=True):
        images = paths[:n_shown, ::every].reshape(n_shown, -1, SIZE, SIZE)
        tiles = np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=1)
        ax.imshow(np.block([list(row) for row in tiles]), cmap="gray", vmin=-1, vmax=1)
        ax.set(title=name, xticks=[], yticks=[])
    plt.show()


def main():
    """Compare both on some seeds."""
    parser = argparse.ArgumentParser(description="Paths between lines, with and without a critic.")
    parser.add_argument("--seeds", type=int, default=1)
    all_paths = {}
    for seed in range(parser.parse_args().seeds):
        for name, penalty in (("without a critic", None), ("with a critic (ACAI)", ACAI())):
            all_paths[name] = paths_of(fit(penalty, seed), seed)
            distance, smoothness = score_paths(all_paths[name])
            print(f"seed {seed}, {name:<20}  distance {1e3 * distance:5.2f}e-3", end="  ")
            print(f"smoothness {smoothness:.2f}", flush=True)
    show(all_paths)


if __name__ == "__main__":
    main()
