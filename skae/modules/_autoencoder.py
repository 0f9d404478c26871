"""The plain autoencoder network: x -> z -> x_hat; code activations, codes trained in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from ._core import Core, Noise


class AutoencoderOutput(NamedTuple):
    """What `Autoencoder.forward` returns."""

    x_hat: Tensor  # (batch, n_features)
    z: Tensor  # (batch, n_components)
    x_in: Tensor  # (batch, n_features), what the encoder was given
    gains: Tensor | None = None  # (n_components,), how much x_hat changes with z, if asked for


class Autoencoder(Core):
    """Deterministic autoencoder: the code is the encoder's output.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps (batch, n_features) to (batch, n_components).
    decoder : torch.nn.Module
        Maps (batch, n_components) to (batch, n_features).
    code_activation : callable or None, default=None
        What the encoder's output goes through, (batch, n_components) to the same shape.
    ordered : bool, default=False
        Whether `draw_noise` draws how many of the first codes each row may use (nested dropout
        [1]_): k of them with a probability in proportion to ``k ** -0.6``, and all with twice that.
        With equal ones the first codes are left behind, and with ones that fall faster the last.
    n_components : int, default=1
        Number of codes; used if `ordered`.
    measures_gains : bool, default=False
        Whether `forward` returns the decoder's gains, for terms that ask for them.

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
        code_activation: Callable[[Tensor], Tensor] | None = None,
        ordered: bool = False,
        n_components: int = 1,
        measures_gains: bool = False,
    ) -> None:
        super().__init__(encoder, decoder)
        self.measures_gains = measures_gains
        self.code_activation = code_activation
        self.ordered, self.n_components = ordered, n_components

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes, shape (batch, n_components)."""
        return self._activate(self.encoder(x))

    def _activate(self, z: Tensor) -> Tensor:
        codes = z if self.code_activation is None else self.code_activation(z)
        if not isinstance(codes, Tensor) or codes.shape != z.shape:
            got = f"shape {tuple(codes.shape)}" if isinstance(codes, Tensor) else repr(codes)
            raise ValueError(
                f"code_activation must return codes of the encoder's shape {tuple(z.shape)}, but "
                f"{self.code_activation!r} returned {got}."
            )
        return codes

    def draw_noise(
        self, n_rows: int, generator: Generator, dropout: float = 0.0
    ) -> dict[str, Tensor]:
        """Draw dropout masks and, as "kept", how many codes each row may use, (n_rows, 1)."""
        noise = super().draw_noise(n_rows, generator, dropout)
        if self.ordered:
            counts = torch.arange(1, self.n_components + 1, device="cpu", dtype=torch.float32)
            weights = counts**-0.6
            weights[-1] *= 2
            drawn = torch.multinomial(weights, n_rows, replacement=True, generator=generator)
            noise["kept"] = drawn[:, None] + 1
        return noise

    def compose(self, steps: Any) -> bool:
        """Write encoder, code activation, what is let through, and decoder."""
        z = steps.network(self.encoder, steps.rows, "encoder")
        through = z
        if not steps.activate(self.code_activation, z):
            return False
        gains = steps.gains(self.decoder) if self.measures_gains else None
        if not (steps.terms(z=z, gains=gains) if gains else steps.terms(z=z)):
            return False
        if "kept" in steps.noise:
            kept = torch.zeros_like(z.value)
            numbers = torch.arange(kept.shape[1], dtype=kept.dtype, device=kept.device)
            steps.forward(lambda: torch.lt(numbers, steps.noise["kept"], out=kept))
            through = steps.multiply(z, kept)
        x_hat = steps.network(self.decoder, through, "decoder")
        return bool(steps.loss(x_hat))

    def forward(self, x: Tensor, noise: Noise | None = None) -> AutoencoderOutput:
        """Encode and decode what is let through: the first "kept" codes, all without noise."""
        z = through = self._activate(self.encoder(x, *self._masks(noise, "encoder")))
        if noise and "kept" in noise:
            through = z * (torch.arange(z.shape[1], device=z.device) < noise["kept"])
        gains = self.decoder.gains() if self.measures_gains else None
        x_hat = self.decoder(through, *self._masks(noise, "decoder"))
        return AutoencoderOutput(x_hat, z, x, gains)
