"""Networks: the cores of the three estimators and the parts they are made of (torch only)."""

from ._autoencoder import Autoencoder, AutoencoderOutput
from ._building import build_core
from ._causal import CausalAutoencoder, CausalOutput
from ._core import Core
from ._finite_scalar import FiniteScalarQuantizer
from ._mlp import MLP, MirroredLinear, MirroredMLP
from ._network import Network
from ._quantizers import Quantizer, VectorQuantizer, perplexity
from ._vae import VAE, VAEOutput
from ._vqvae import VQVAE, VQVAEOutput

__all__ = [
    "MLP",
    "VAE",
    "VQVAE",
    "Autoencoder",
    "AutoencoderOutput",
    "CausalAutoencoder",
    "CausalOutput",
    "Core",
    "FiniteScalarQuantizer",
    "MirroredLinear",
    "MirroredMLP",
    "Network",
    "Quantizer",
    "VAEOutput",
    "VQVAEOutput",
    "VectorQuantizer",
    "build_core",
    "perplexity",
]
