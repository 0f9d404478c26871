"""
===========================================
Bits and errors: quantized PCA and a VQ-VAE
===========================================

A vector-quantised autoencoder stores a row in a few small integers. How much is lost for how many
bits is what codecs are compared by. Here it stands beside the classical way to do this with
scikit-learn: product quantization of PCA, which is k-means for each block of PCA's components.
"""

# %%
# Digits in 8 to 64 bits
# ----------------------
#
# All codebooks have 16 entries, 4 bits, so that n codes cost 4 n bits. The autoencoder cuts its
# encoding into vectors of 4 components, and PCA's components are cut likewise.

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

X, _ = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X / 16, test_size=0.3, random_state=0)


def quantized_pca(n_codes):
    """Return the test rows, rebuilt from PCA's components with k-means for every four."""
    pca = PCA(4 * n_codes).fit(X_train)
    train, test = (pca.transform(rows).reshape(-1, n_codes, 4) for rows in (X_train, X_test))
    blocks = []
    for block in range(n_codes):
        kmeans = KMeans(16, n_init=3, random_state=0).fit(train[:, block])
        blocks.append(kmeans.cluster_centers_[kmeans.predict(test[:, block])])
    return pca.inverse_transform(np.hstack(blocks))


# %%
# The autoencoder's start is such a quantization of PCA too, with components shared out so that
# blocks have about equal products of variances. Training then moves networks and codebooks.

from skae import VQVAETransformer

counts = [2, 4, 8, 12, 16]
settings = dict(codebook_size=16, prior="autoregressive", max_iter=100, random_state=0)
models = [VQVAETransformer(4 * n, n_codes=n, **settings).fit(X_train) for n in counts]


def squared_error(rebuilt):
    """Return the squared error per digit."""
    return np.square(X_test - rebuilt).sum(axis=1).mean()


errors = {
    "quantized PCA": [squared_error(quantized_pca(n)) for n in counts],
    "VQ-VAE": [squared_error(model.inverse_transform(model.transform(X_test))) for model in models],
}

# %%
# What a prior is worth
# ---------------------
#
# Codes go together: some combinations never come. A prior that knows this codes them in fewer
# bits, with the same rows at the other end. ``bits_per_row`` is that length for new rows.

bits = [model.bits_per_row(X_test) for model in models]

import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
axes.plot([4 * n for n in counts], errors["quantized PCA"], "s--", label="quantized PCA")
axes.plot([4 * n for n in counts], errors["VQ-VAE"], "o-", label="VQ-VAE")
axes.plot(bits, errors["VQ-VAE"], "o:", label="VQ-VAE, coded with its prior")
axes.set(xlabel="bits per digit", ylabel="squared error per digit", ylim=(0, None))
axes.legend()
plt.show()
