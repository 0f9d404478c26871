"""Networks: the cores of the three estimators and the parts they are made of (torch only)."""

from ._autoencoder import Autoencoder, AutoencoderOutput
from ._building import build_core
from ._core import Core
from ._mlp import MLP, MirroredLinear, MirroredMLP
from ._quantizers import EMAQuantizer, perplexity
from ._vae import VAE, VAEOutput
from ._vqvae import VQVAE, VQVAEOutput

__all__ = [
    "MLP",
    "VAE",
    "VQVAE",
    "Autoencoder",
    "AutoencoderOutput",
    "Core",
    "EMAQuantizer",
    "MirroredLinear",
    "MirroredMLP",
    "VAEOutput",
    "VQVAEOutput",
    "build_core",
    "perplexity",
]
