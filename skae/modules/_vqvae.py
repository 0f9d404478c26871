"""The vector-quantised autoencoder network: x -> z_e -> codes -> z -> x_hat, straight through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._core import Core, Noise
from ._quantizers import Quantizer


class VQVAEOutput(NamedTuple):
    """What `VQVAE.forward` returns."""

    x_hat: Tensor  # (batch, n_features)
    z: Tensor  # (batch, n_components), quantized
    z_e: Tensor  # (batch, n_components), the encoder's output
    codes: Tensor  # (batch, n_codes)
    z_stages: Tensor | None = None  # (batch, n_stages, n_components), z after each stage


class VQVAE(Core):
    """Vector-quantised variational autoencoder [1]_.

    The decoder sees the quantized vectors; gradients pass from them to the encoder unchanged
    ("straight through", section 3.2 of [1]_).

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps (batch, n_features) to (batch, n_components).
    decoder : torch.nn.Module
        Maps (batch, n_components) to (batch, n_features).
    quantizer : Quantizer
        Replaces the encoder's output by codes and their vectors.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP, VQVAE, VectorQuantizer
    >>> core = VQVAE(MLP(6, 4, [8]), MLP(4, 6, [8]), VectorQuantizer(2, 16, 2))
    >>> core(torch.zeros(3, 6)).codes.shape
    torch.Size([3, 2])
    """

    quantizer: Quantizer

    def __init__(self, encoder: nn.Module, decoder: nn.Module, quantizer: Quantizer) -> None:
        super().__init__(encoder, decoder)
        self.quantizer = quantizer

    def encode(self, x: Tensor) -> Tensor:
        """Return the quantized vectors, shape (batch, n_components)."""
        return self.quantizer.lookup(self.codes(x))

    def codes(self, x: Tensor) -> Tensor:
        """Return the integer codes, int64 of shape (batch, n_codes)."""
        return self.quantizer.nearest(self.encoder(x))

    def forward(self, x: Tensor, noise: Noise | None = None) -> VQVAEOutput:
        """Encode, quantize, decode."""
        z_e = self.encoder(x, *self._masks(noise, "encoder"))
        codes = self.quantizer.nearest(z_e)
        z = self.quantizer.lookup(codes)  # with the gradients of codebooks that have them
        with torch.no_grad():
            z_stages = self.quantizer.partial_sums(codes)
        z_in = self.quantizer.straight_through(z_e, z)
        x_hat = self.decoder(z_in, *self._masks(noise, "decoder"))
        return VQVAEOutput(x_hat, z, z_e, codes, z_stages)

    def compose(self, steps: Any) -> bool:
        """Write encoder, quantizer and decoder; gradients pass straight through."""
        z_e = steps.network(self.encoder, steps.rows, "encoder")
        z = torch.zeros_like(z_e.value)
        gradient = torch.zeros_like(z)  # in the codebooks' vectors
        n_stages = self.quantizer.n_stages
        stages = z[:, None] if n_stages == 1 else z.new_zeros(len(z), n_stages, z.shape[1])
        known = steps.quantize(self.quantizer, z_e.value, z, gradient, stages)
        outputs = {"z_e": z_e, "z": (z, gradient), "z_stages": (stages, None)}
        if not (known and steps.terms(**outputs)):
            return False
        x_hat = steps.network(self.decoder, z_e._replace(value=z), "decoder")
        return bool(steps.loss(x_hat))

    def no_decay(self) -> list[Tensor]:
        """Return linear paths, and the codebooks that are trained by gradients."""
        return [*super().no_decay(), *self.quantizer.parameters()]

    def observe(self, x: Tensor, out: VQVAEOutput) -> None:
        """Add a slice's assignments to the batch's."""
        self.quantizer.observe(out.z_e.detach(), out.codes)

    def statistics(self) -> list[Tensor]:
        """Return the batch's assignments."""
        return self.quantizer.statistics()

    def update(self) -> None:
        """Move the codebooks."""
        self.quantizer.update()


def assembled(encoder: nn.Module, decoder: nn.Module, build: Callable[[], Any]) -> VQVAE:
    """Return the network with the quantizer that `build` makes.

    Raises
    ------
    TypeError
        If it makes something else.
    """
    quantizer = build()
    if not isinstance(quantizer, Quantizer):
        raise TypeError(
            "build of a Quantization must return a skae.modules.Quantizer, but returned "
            f"{quantizer!r}."
        )
    return VQVAE(encoder, decoder, quantizer)
