"""The plain autoencoder network: x -> z -> x_hat; code activations, codes trained in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from sklearn.base import BaseEstimator
from torch import Generator, Tensor, nn

from ._core import Core


class AutoencoderOutput(NamedTuple):
    """What `Autoencoder.forward` returns."""

    x_hat: Tensor  # (batch, n_features)
    z: Tensor  # (batch, n_components)
    x_in: Tensor  # (batch, n_features), what the encoder was given


class TopK(BaseEstimator):
    """Code activation that keeps the largest codes of each row and sets the others to zero [1]_.

    Largest means in magnitude, so that codes may have either sign.

    Parameters
    ----------
    n_active : int, default=5
        Number of codes to keep.

    References
    ----------
    .. [1] Makhzani and Frey, "k-Sparse Autoencoders", 2014, section 2.1.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import TopK
    >>> TopK(2)(torch.tensor([[1.0, -3.0, 2.0]]))
    tensor([[ 0., -3.,  2.]])
    """

    def __init__(self, n_active: int = 5) -> None:
        self.n_active = n_active

    def __call__(self, z: Tensor) -> Tensor:
        """Return codes (batch, n_components) with at most `n_active` entries per row."""
        if self.n_active < 1:
            raise ValueError(
                "The 'n_active' parameter of TopK must be an int in the range [1, inf). Got "
                f"{self.n_active!r} instead."
            )
        chosen = z.abs().topk(min(self.n_active, z.shape[1]), dim=1).indices
        return torch.zeros_like(z).scatter(1, chosen, z.gather(1, chosen))


CODE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "logistic": torch.sigmoid,
}


class Autoencoder(Core):
    """Deterministic autoencoder: the code is the encoder's output.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps (batch, n_features) to (batch, n_components).
    decoder : torch.nn.Module
        Maps (batch, n_components) to (batch, n_features).
    code_activation : {"identity", "logistic"} or callable, default="identity"
        What the encoder's output goes through, (batch, n_components) to the same.
    ordered : bool, default=False
        Whether `draw_noise` draws how many of the first codes each row may use (nested dropout
        [1]_), all numbers with equal odds.
    n_components : int, default=1
        Number of codes; used if `ordered`.

    References
    ----------
    .. [1] Rippel, Gelbart and Adams, "Learning Ordered Representations with Nested Dropout", 2014.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP, Autoencoder
    >>> core = Autoencoder(MLP(4, 2, [8]), MLP(2, 4, [8]))
    >>> core(torch.zeros(3, 4)).x_hat.shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        code_activation: str | Callable[[Tensor], Tensor] = "identity",
        ordered: bool = False,
        n_components: int = 1,
    ) -> None:
        super().__init__(encoder, decoder)
        self.code_activation = code_activation
        self.ordered, self.n_components = ordered, n_components

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes, shape (batch, n_components)."""
        activation = self.code_activation
        if isinstance(activation, str):
            activation = CODE_ACTIVATIONS[activation]
        return activation(self.encoder(x))

    def draw_noise(self, n_rows: int, generator: Generator) -> Tensor | None:
        """Draw how many codes each row may use, (n_rows, 1), if codes are trained in order."""
        if not self.ordered:
            return None
        shape, upper = (n_rows, 1), self.n_components + 1
        return torch.randint(1, upper, shape, generator=generator, device="cpu")

    def forward(self, x: Tensor, noise: Tensor | None = None) -> AutoencoderOutput:
        """Encode, let the first `noise` codes through (all without noise), and decode."""
        z = self.encode(x)
        if noise is not None:
            z = z * (torch.arange(z.shape[1], device=z.device) < noise)
        return AutoencoderOutput(self.decode(z), z, x)
