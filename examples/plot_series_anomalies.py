"""
==================================================
Anomalies in a series: windows, PCA, convolutions
==================================================

What a model of windows of a series cannot reconstruct is unlike what it has learned. PCA is the
usual one; convolutions know that a beat may come at any time of a window.
"""

# %%
# A series with events
# --------------------
#
# Two channels repeat a beat of a varying period, with noise. In the second half, which no model
# sees in training, some beats have another shape: nothing else in them is conspicuous, neither
# their height nor their length.

import numpy as np

WINDOW = 64


def beats(n_beats, share_of_odd, rng):
    """Return a series (n_points, 2), and which of its points belong to odd beats."""
    parts, odd = [], []
    for _ in range(n_beats):
        phase = np.linspace(0, 1, rng.integers(20, 32), endpoint=False)
        is_odd = rng.random() < share_of_odd
        rise = 0.45 if is_odd else 0.25
        first = np.exp(-(((phase - rise) / 0.06) ** 2))
        second = 0.6 * np.exp(-(((phase - 0.7) / 0.12) ** 2))
        parts.append(np.stack([first + second, np.gradient(first + second) * 4], axis=1))
        odd.append(np.full(len(phase), is_odd))
    series = np.concatenate(parts)
    return series + 0.05 * rng.normal(size=series.shape), np.concatenate(odd)


def windows(series, odd):
    """Return all windows as rows, and which have much of an odd beat in their middle."""
    starts = np.arange(0, len(series) - WINDOW, 4)
    rows = np.array([series[start : start + WINDOW].ravel() for start in starts])
    middle = np.array([odd[start + 24 : start + 40].mean() for start in starts])
    return rows, middle > 0.5


rng = np.random.default_rng(0)
X_train, _ = windows(*beats(900, 0.0, rng))
X_test, is_odd = windows(*beats(300, 0.05, rng))

# %%
# Errors of reconstruction
# ------------------------
#
# Eight codes for a window of 64 points of two channels. The autoencoder starts at PCA, so that it
# is no worse on windows like those it was trained on.

from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from skae import AutoencoderTransformer
from skae.architectures import Convolutional1d

series = Convolutional1d(series_shape=(WINDOW, 2), channels=(16, 32), kernel_size=5)
models = {
    "PCA": PCA(8),
    "autoencoder": AutoencoderTransformer(8, encoder=series, max_iter=30, random_state=0),
}
errors = {}
for name, model in models.items():
    model.fit(X_train)
    rows = model.inverse_transform(model.transform(X_test))
    errors[name] = np.square(X_test - rows).sum(axis=1)
    explained = (
        1 - errors[name][~is_odd].sum() / np.square(X_test[~is_odd] - X_train.mean(axis=0)).sum()
    )
    area = roc_auc_score(is_odd, errors[name])
    print(f"{name}: {explained:.3f} of ordinary windows explained, area under ROC {area:.3f}")

# %%
# The errors along the series, where windows with an odd beat are marked.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(2, 1, figsize=(9, 4), sharex=True)
shown = slice(0, 700)
for axis, (name, error) in zip(axes, errors.items(), strict=True):
    axis.plot(error[shown] / np.median(error), linewidth=0.8)
    axis.fill_between(
        np.arange(700), 0, error[shown].max() / np.median(error), where=is_odd[shown], alpha=0.3
    )
    axis.set_ylabel(f"error of {name}")
axes[-1].set_xlabel("window")
figure.tight_layout()
plt.show()
