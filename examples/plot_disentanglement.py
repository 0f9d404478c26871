"""
=====================================
Beta: does a factor get its own code?
=====================================

With a `beta` of more than 1 a variational autoencoder pays more for what its codes tell about a
row. It is said to tell the factors that rows were made from apart, then. Images that are made by
code, from factors that are known, show how far this goes: here it is two factors of six.
"""

# %%
# Sprites from six factors
# ------------------------
#
# Each image has one shape of three, in one of four sizes, eight angles, eight by eight places and
# four levels of brightness, all drawn independently.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA

FACTORS = {"shape": 3, "size": 4, "angle": 8, "x": 8, "y": 8, "brightness": 4}
n_pixels = 16


def make_sprites(n_sprites, seed):
    """Return images as rows, and the level of each factor."""
    levels = np.array(list(FACTORS.values()))
    factors = np.random.default_rng(seed).integers(levels, size=(n_sprites, len(levels)))
    shape, _, turn, _, _, _ = factors.T[:, :, None, None]
    _, size, _, x, y, brightness = (factors / (levels - 1)).T[:, :, None, None]
    radius, angle, center = 1.6 + 1.4 * size, np.pi / 8 * turn, (n_pixels - 1) / 2
    right = np.arange(n_pixels)[None, :] - center - 3 * (2 * x - 1)
    down = np.arange(n_pixels)[:, None] - center - 3 * (2 * y - 1)
    along = (np.cos(angle) * right + np.sin(angle) * down) / radius
    across = (np.cos(angle) * down - np.sin(angle) * right) / radius
    ellipse = np.hypot(along, 2 * across)
    rectangle = 1.2 * np.maximum(np.abs(along), 2 * np.abs(across))
    triangle = np.maximum(-1.5 * along, 0.7 * along + 1.4 * np.abs(across))
    outside = np.choose(shape, [ellipse, rectangle, triangle]) - 1
    images = (0.4 + 0.6 * brightness) / (1 + np.exp(3 * radius * outside))
    return images.reshape(n_sprites, -1), factors


X, _ = make_sprites(5000, seed=1)
X_test, factors = make_sprites(3000, seed=2)


def show(images, n_rows, title):
    """Draw images in a grid."""
    n_columns = len(images) // n_rows
    grid = images.reshape(n_rows, n_columns, n_pixels, n_pixels).transpose(0, 2, 1, 3)
    _, axes = plt.subplots(figsize=(7, 0.4 + 7 * n_rows / n_columns), layout="constrained")
    axes.imshow(grid.reshape(n_rows * n_pixels, -1), cmap="gray", vmin=0, vmax=1)
    axes.set(title=title, xticks=[], yticks=[])


show(X[:24], 2, "Sprites")

# %%
# Two weights of the divergence
# -----------------------------
#
# The mutual information gap is, of each factor, what the best code tells about it less what the
# second best one does, as a fraction of the factor's entropy: 1 if one code alone tells all. Codes
# that are switched off are noise, so it is measured on draws from the posterior.

from skae import VAETransformer
from skae.metrics import code_correlation, explained_variance_scorer, mutual_information_gap

settings = dict(hidden_layer_sizes=(128, 64), batch_size=128, max_iter=60, early_stopping=False)
models = {
    f"beta {beta}": VAETransformer(10, beta=beta, random_state=0, **settings).fit(X)
    for beta in (1, 20)
}

rng = np.random.default_rng(0)
pca = PCA(10).fit(X)
codes = {"PCA": pca.transform(X_test)}
for name, model in models.items():
    mean, std = model.posterior(X_test)
    codes[name] = mean + std * rng.normal(size=mean.shape)

gaps = {}
for name, model in {"PCA": pca, **models}.items():
    gaps[name] = mutual_information_gap(codes[name], factors, multioutput="raw_values")
    n_active = getattr(model, "active_components_", np.ones(10)).sum()
    print(
        f"{name:7}  gap {gaps[name].mean():.3f}  correlation {code_correlation(codes[name]):.2f}  "
        f"active codes {n_active:.0f}  explained {explained_variance_scorer(model, X_test):.2f}"
    )

# %%
# What beta does, and what not
# ----------------------------
#
# With a large beta fewer codes are in use, and of these one tells x and another one y, which PCA
# and a beta of 1 spread over several. The other factors have no code of their own with any beta:
# they change few pixels, and are given up before they are told apart. What is paid is the part of
# the variance that is not explained any more. Codes are nearly uncorrelated in all three, so that
# correlation does not show the difference.

figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for i, (name, each) in enumerate(gaps.items()):
    axes.bar(np.arange(len(FACTORS)) + 0.27 * (i - 1), each, width=0.25, label=name)
axes.set_xticks(range(len(FACTORS)), FACTORS)
axes.set(ylabel="mutual information gap", ylim=(0, 1))
axes.legend()

# %%
# The codes that are left
# -----------------------
#
# Each row below is one code of the last model that goes from -2 to 2, while the others are zero.
# Two of them move the sprite. The third is how much light there is, in which size and brightness
# go together.

model = models["beta 20"]
path = np.zeros((3, 9, model.n_components_))
for code in range(3):
    path[code, :, code] = np.linspace(-2, 2, 9)
show(model.inverse_transform(path.reshape(27, -1)), 3, "The first three codes")
plt.show()
