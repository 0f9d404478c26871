"""Code as users write it, for the type checker alone: strings that are not spelled right are told.

Each ``type: ignore`` stands where there must be an error: one that is not needed is an error too.
"""

import numpy as np
import torch

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.objectives import L1, CosineDecay, Huber, MaskingNoise, TopK
from skae.quantization import VectorQuantization


def use() -> tuple[int, list[float], list[np.ndarray]]:
    """Use the estimators; nobody calls it."""
    autoencoder = AutoencoderTransformer(
        0.9,
        hidden_layer_sizes=(64, 32),
        encoder=torch.nn.Linear,
        learning_rate=CosineDecay(),
        batch_size=64,
        loss=Huber(),
        corruption=MaskingNoise(),
        code_activation=TopK(4),
        penalty=["l2", L1(0.1)],
        random_state=np.random.RandomState(0),
    )
    vae = VAETransformer(
        4, likelihood="negative_binomial", beta=CosineDecay(), early_stopping="auto"
    )
    vqvae = VQVAETransformer(4, n_codes="auto", quantizer=VectorQuantization(2), prior="uniform")

    AutoencoderTransformer(activation="rellu")  # type: ignore[arg-type]
    AutoencoderTransformer(scale="minmax")  # type: ignore[arg-type]
    AutoencoderTransformer(penalty="l3")  # type: ignore[arg-type]
    AutoencoderTransformer(corruption="mask")  # type: ignore[arg-type]
    AutoencoderTransformer(early_stopping="always")  # type: ignore[arg-type]
    VAETransformer(likelihood="normal")  # type: ignore[arg-type]
    VQVAETransformer(encode="one-hot")  # type: ignore[arg-type]
    AutoencoderTransformer(latent_density="normal")  # type: ignore[arg-type]
    VAETransformer(prior="gaussian")  # type: ignore[arg-type]
    VQVAETransformer(prior="autoregresive")  # type: ignore[arg-type]
    VQVAETransformer(quantizer="product")  # type: ignore[arg-type]

    n_codes = autoencoder.fit(np.eye(9)).n_components_
    return n_codes, vae.loss_curve_, [autoencoder.components_, vqvae.codebook_]


def misuse() -> str:
    """Return something else than what is announced; nobody calls it."""
    return VQVAETransformer().perplexity_  # type: ignore[return-value]
