"""skae: autoencoders as scikit-learn transformers, in PCA's place."""

from ._autoencoder import AutoencoderTransformer
from ._vae import VAETransformer
from ._version import __version__ as __version__
from ._vqvae import VQVAETransformer

__all__ = ["AutoencoderTransformer", "VAETransformer", "VQVAETransformer"]
