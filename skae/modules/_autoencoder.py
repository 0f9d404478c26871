"""The plain autoencoder network: x -> z -> x_hat."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ._core import Core


class AutoencoderOutput(NamedTuple):
    """What `Autoencoder.forward` returns."""

    x_hat: Tensor  # (batch, n_features)
    z: Tensor  # (batch, n_components)


class Autoencoder(Core):
    """Deterministic autoencoder: the code is the encoder's output.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps (batch, n_features) to (batch, n_components).
    decoder : torch.nn.Module
        Maps (batch, n_components) to (batch, n_features).

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP, Autoencoder
    >>> core = Autoencoder(MLP(4, 2, [8]), MLP(2, 4, [8]))
    >>> core(torch.zeros(3, 4)).x_hat.shape
    torch.Size([3, 4])
    """

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes, shape (batch, n_components)."""
        return self.encoder(x)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> AutoencoderOutput:
        """Encode and decode."""
        z = self.encode(x)
        return AutoencoderOutput(self.decode(z), z)
