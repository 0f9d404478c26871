"""skae: autoencoders as scikit-learn transformers, in PCA's place."""

from ._autoencoder import AutoencoderTransformer
from ._vae import VAETransformer
from ._vqvae import VQVAETransformer

__version__ = "0.1.0.dev0"

__all__ = ["AutoencoderTransformer", "VAETransformer", "VQVAETransformer"]
