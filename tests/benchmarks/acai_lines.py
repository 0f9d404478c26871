"""Paths between images of lines, by an autoencoder with and without ACAI's critic.

    python tests/benchmarks/acai_lines.py --seeds 5 --epochs 50

Images of a line from the centre, at any angle, lie on a circle, and between two of them there is a
path of lines. Task, distance and smoothness follow Berthelot et al., "Understanding and Improving
Interpolation in Autoencoders via an Adversarial Regularizer", 2019, section 3.1, with a perceptron
in place of the convolutional network. Prints a line per fit.
"""

import argparse

import numpy as np

from skae import AutoencoderTransformer
from skae.objectives import ACAI

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
    """Return mean cosine distance to the nearest line, and smoothness, of paths (n, steps, d)."""
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


def fit(penalty, seed, n_lines, max_iter):
    """Return an autoencoder of lines."""
    rng = np.random.default_rng(seed)
    X = draw_lines(rng.uniform(0, 2 * np.pi, n_lines)).astype(np.float32)
    model = AutoencoderTransformer(
        n_components=16,
        hidden_layer_sizes=(256, 128),
        activation="relu",
        init="random",
        scale=None,
        penalty=penalty,
        early_stopping=False,
        batch_size=64,
        max_iter=max_iter,
        random_state=seed,
    )
    return model.fit(X)


def paths_of(model, seed, n_paths=256, n_steps=16):
    """Return paths between random pairs of lines, (n_paths, n_steps, 1024)."""
    ends = draw_lines(np.random.default_rng(1000 + seed).uniform(0, 2 * np.pi, 2 * n_paths))
    return model.interpolate(ends[:n_paths], ends[n_paths:], n_steps)


def main():
    """Compare both on several seeds."""
    parser = argparse.ArgumentParser(description="Interpolation with and without a critic.")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args()
    for seed in range(options.seeds):
        for name, penalty in (("plain", None), ("ACAI", ACAI())):
            model = fit(penalty, seed, options.lines, options.epochs)
            distance, smoothness = score_paths(paths_of(model, seed))
            print(f"seed {seed}  {name:<6} distance {1e3 * distance:.2f}e-3", end="  ")
            print(f"smoothness {smoothness:.2f}")


if __name__ == "__main__":
    main()
