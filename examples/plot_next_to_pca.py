"""
==================================================
Two components of the digits, PCA and autoencoders
==================================================

PCA draws each row as a point in the plane that keeps the most variance. The estimators of skae do
the same with a curved surface instead of a plane. Here all four reduce the 8 x 8 digits to two
components; the digits themselves colour the points and take no part in fitting.
"""

# %%
# Four reducers
# -------------
#
# They are written alike and used alike. The pixels, 0 to 16, need no scaling: PCA takes them as
# they are and the autoencoders scale by themselves.

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

reducers = {
    "PCA": PCA(n_components=2, random_state=0),
    "autoencoder": AutoencoderTransformer(n_components=2, random_state=0),
    "VAE": VAETransformer(n_components=2, random_state=0),
    "VQ-VAE": VQVAETransformer(n_components=2, random_state=0),
}
for reducer in reducers.values():
    reducer.fit(X_train)

# %%
# How much two components keep
# ----------------------------
#
# The scorer of :mod:`skae.metrics` measures all four alike: the fraction of the variance of rows
# not seen in training that the reconstruction explains. (Their own ``score`` methods differ:
# a likelihood for PCA and the VAE, the fraction explained for the other two.)

from skae.metrics import explained_variance_scorer

explained = {name: explained_variance_scorer(r, X_test) for name, r in reducers.items()}
for name, fraction in explained.items():
    print(f"{name:<12} {fraction:.3f}")

# %%
# The planes
# ----------
#
# Each training row is a point, except for the VQ-VAE: its codes are the vectors of a codebook,
# which many rows share. There each vector in use is a disc; the area says how many rows share it
# and the colour which digit is the most frequent among them.

import matplotlib.pyplot as plt
import numpy as np


def shared_points(codes, labels):
    """Return distinct codes, how many rows share each, and the most frequent label of these."""
    points, index, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    commonest = [np.bincount(labels[index.ravel() == i]).argmax() for i in range(len(points))]
    return points, counts, np.array(commonest)


figure, axes = plt.subplots(1, 4, figsize=(14, 4.2), layout="constrained")
for ax, (name, reducer) in zip(axes, reducers.items(), strict=True):
    points, counts, labels = shared_points(reducer.transform(X_train), y_train)
    dots = ax.scatter(*points.T, s=8 * counts, c=labels, cmap="tab10", vmin=-0.5, vmax=9.5, lw=0)
    ax.set_title(f"{name}\n{explained[name]:.0%} of test variance explained", fontsize=11)
    ax.set(xlabel="component 0", xticks=[], yticks=[])
axes[0].set_ylabel("component 1")
figure.colorbar(dots, ax=axes, ticks=range(10), label="digit", pad=0.01)
plt.show()

# %%
# Along a curved surface
# ----------------------
#
# `inverse_transform` turns any point of such a plane into a digit. A grid of points between the
# 5th and the 95th percentile of each component shows what the plane of PCA and the surface of the
# VAE pass through.

n_steps = 10
figure, axes = plt.subplots(1, 2, figsize=(9, 4.8), layout="constrained")
for ax, name in zip(axes, ["PCA", "VAE"], strict=True):
    low, high = np.percentile(reducers[name].transform(X_train), [5, 95], axis=0)
    across, up = np.meshgrid(*np.linspace(low, high, n_steps).T)
    digits = reducers[name].inverse_transform(np.column_stack([across.ravel(), up.ravel()]))
    tiles = np.pad(digits.reshape(n_steps, n_steps, 8, 8)[::-1], [(0, 0), (0, 0), (2, 2), (1, 1)])
    ax.imshow(np.block([list(row) for row in tiles]), cmap="gray_r", vmin=0, vmax=16)
    ax.set(title=name, xlabel="component 0", ylabel="component 1", xticks=[], yticks=[])
plt.show()
