"""
==============================================
Removing noise: PCA, KernelPCA, an autoencoder
==============================================

A reconstruction through few components leaves out what does not fit them, and noise fits badly.
PCA and KernelPCA have long been used so. A denoising autoencoder is trained for it: its input is
corrupted anew in each epoch and its target is the clean row.
"""

# %%
# Digits and noise
# ----------------
#
# All three are fitted to clean digits, and the noise is added to digits that none has seen.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

X, y = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X / 16, stratify=y, random_state=0)
X_noisy = X_test + np.random.default_rng(0).normal(scale=0.25, size=X_test.shape)

# %%
# Three ways to remove it
# -----------------------
#
# For each, the number of components that does best on this noise is taken from a few. The
# autoencoder's ``corruption`` is in units of its scaled rows, so the noise is divided by the
# root of the pixels' mean variance.

from sklearn.decomposition import PCA, KernelPCA

from skae import AutoencoderTransformer
from skae.objectives import GaussianNoise

varying = X_train.var(axis=0) > 0
unit = np.sqrt(X_train.var(axis=0)[varying].mean())
kernel = dict(kernel="rbf", gamma=0.05, alpha=5e-3, fit_inverse_transform=True)
reducers = {
    "PCA": [PCA(k) for k in (8, 16, 24)],
    "KernelPCA": [KernelPCA(k, **kernel) for k in (16, 64, 200)],
    "autoencoder": [
        AutoencoderTransformer(
            k,
            corruption=GaussianNoise(0.25 / unit),
            max_iter=100,
            n_iter_no_change=20,
            random_state=0,
        )
        for k in (16, 32)
    ],
}


def denoise(reducer):
    """Return the noisy test digits, reconstructed."""
    return reducer.fit(X_train).inverse_transform(reducer.transform(X_noisy))


def error(rows):
    """Return the mean squared error of a pixel."""
    return np.square(rows - X_test).mean()


denoised = {name: min(map(denoise, some), key=error) for name, some in reducers.items()}
print(f"{'noisy':<12} {error(X_noisy):.4f}")
for name, rows in denoised.items():
    print(f"{name:<12} {error(rows):.4f}")

# %%
# Side by side
# ------------

import matplotlib.pyplot as plt

pictures = {"clean": X_test, "noisy": X_noisy, **denoised}
figure, axes = plt.subplots(len(pictures), 10, figsize=(8, 4.4), layout="constrained")
for row, (name, images) in zip(axes, pictures.items(), strict=True):
    for axis, image in zip(row, images, strict=False):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()
