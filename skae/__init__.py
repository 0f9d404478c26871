"""skae: autoencoders as scikit-learn transformers, in PCA's place."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from ._estimators.autoencoder import AutoencoderTransformer
    from ._estimators.vae import VAETransformer
    from ._estimators.vqvae import VQVAETransformer

__all__ = ["AutoencoderTransformer", "VAETransformer", "VQVAETransformer"]

# torch takes longer to import than everything else: it is imported with the first estimator.
_HOMES = {
    "AutoencoderTransformer": "_estimators.autoencoder",
    "VAETransformer": "_estimators.vae",
    "VQVAETransformer": "_estimators.vqvae",
}
_SUBMODULES = [
    "decomposition",
    "exceptions",
    "inspection",
    "metrics",
    "modules",
    "objectives",
    "priors",
    "quantization",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    elif name in _SUBMODULES:
        return import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
