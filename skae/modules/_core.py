"""The core contract: what the training loop and inference ask of every autoencoder network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from ._network import Move, dense_layers_of

# What is drawn at random for a batch, by name; row i of each belongs to row i of the batch.
Noise = Mapping[str, Tensor]


def largest_weight(net: nn.Module) -> int:
    """Return the number of entries of a network's largest weight; 0 if it has none."""
    return max((p.numel() for p in net.parameters()), default=0)


class Core(nn.Module):
    """Abstract base of the three autoencoder networks.

    A core works in scaled units (centred and scaled rows). The training loop knows nothing else
    about a network than the methods below. Dropout is that of [1]_.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps rows of shape (batch, n_features) to the raw encoding.
    decoder : torch.nn.Module
        Maps latent vectors of shape (batch, n_components) to (batch, n_features).

    Attributes
    ----------
    n_draws : int
        Number of codes of each row that are decoded in training.

    References
    ----------
    .. [1] Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: A Simple Way to
       Prevent Neural Networks from Overfitting", 2014, section 4, scaled as in section 10.
    """

    n_draws: int = 1

    encoder: Any
    decoder: Any

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def leave_out(self, constant: Tensor) -> None:
        """Keep the networks from features that are zero on every row, (n_features,) bool."""
        self.encoder.ignore_inputs(constant)
        self.decoder.silence_outputs(constant)

    @torch.no_grad()
    def start_linear(
        self,
        encode: np.ndarray,
        decode: np.ndarray,
        shift: np.ndarray,
        bias: np.ndarray | float = 0.0,
        offset: np.ndarray | None = None,
    ) -> None:
        """Start at ``(x - shift) @ encode.T + bias`` and ``z @ decode.T + offset``.

        Parameters
        ----------
        encode : ndarray of shape (n_encoded, n_features)
            Weights of the encoder's linear path.
        decode : ndarray of shape (n_features, n_components)
            Weights of the decoder's.
        shift : ndarray of shape (n_features,)
            Where rows are centred.
        bias : ndarray of shape (n_encoded,) or float, default=0.0
            What the encoder returns there.
        offset : ndarray of shape (n_features,), default=None
            What the decoder returns for a code of zeros; None is `shift`.
        """
        offset = shift if offset is None else offset
        starts = ((self.encoder, encode, bias - encode @ shift), (self.decoder, decode, offset))
        for part, weight, offset in starts:
            part.start_at(*(torch.tensor(array, device="cpu") for array in (weight, offset)))

    def move(self, move: Move) -> None:
        """Work with rows that have been moved, as with those before.

        Parameters
        ----------
        move : Move
            From rows in scaled units.
        """
        self.encoder.read_moved(move)
        self.decoder.write_moved(move)

    @property
    def has_custom_parts(self) -> bool:
        """Whether encoder or decoder is custom, so that code of the user's runs in it."""
        return any(getattr(part, "is_custom", True) for part in (self.encoder, self.decoder))

    @property
    def shows_layers(self) -> bool:
        """Whether both networks show their layers, so that nothing needs automatic gradients."""
        return all(map(dense_layers_of, (self.encoder, self.decoder)))

    @property
    def largest_product(self) -> int:
        """Multiply-adds per row of the largest product."""
        return max(largest_weight(self), *self._of_parts("largest_product"))

    @property
    def multiply_adds(self) -> int:
        """About the multiply-adds that a row takes: one per weight and use of it."""
        return sum(p.numel() for p in self.parameters()) + sum(self._of_parts("n_repeated"))

    @property
    def widest(self) -> int:
        """The largest number of columns that rows have on their way."""
        widths = [n for p in self.parameters() if p.ndim == 2 for n in p.shape]
        return max(1, *widths, *self._of_parts("widest"))

    def _of_parts(self, name: str) -> list[int]:
        return [getattr(part, name, 0) for part in (self.encoder, self.decoder)]

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the codes, shape (batch, n_components), without randomness."""

    def decode(self, z: Tensor) -> Tensor:
        """Return the reconstructions, shape (batch, n_features)."""
        return self.decoder(z)

    @abstractmethod
    def forward(self, x: Tensor, noise: Noise | None = None) -> Any:
        """Return a named tuple that begins with ``x_hat`` and ``z``."""

    def compose(self, steps: Any) -> bool:
        """Write `forward` and its gradients as calls on buffers; return whether that can be done.

        Parameters
        ----------
        steps : Composer
            What the calls are written to, see `skae._engine.models.Composer`.

        Returns
        -------
        bool
            False where gradients are left to automatic differentiation.
        """
        return False

    def draw_noise(
        self, n_rows: int, generator: Generator, dropout: float = 0.0
    ) -> dict[str, Tensor]:
        """Draw what `forward` needs for a global batch of `n_rows` rows, on the CPU.

        Row ``i`` of each result belongs to row ``i`` of the batch, so a slice of the batch goes
        with the same slice of the noise. With `dropout` there are masks of the hidden units of
        "encoder" and "decoder", if these have any: 0 with this probability, and else
        ``1 / (1 - dropout)``.
        """
        parts = {"encoder": self.encoder, "decoder": self.decoder} if dropout else {}
        masks = {}
        for name, part in parts.items():
            if widths := getattr(part, "mask_widths", []):
                shape = (n_rows, sum(widths))
                drawn = torch.rand(shape, generator=generator, device="cpu", dtype=torch.float32)
                masks[name] = (drawn >= dropout) / (1 - dropout)
        return masks

    @staticmethod
    def _masks(noise: Noise | None, part: str) -> tuple[Tensor, ...]:
        """Return the dropout masks that `noise` holds for "encoder" or "decoder", if any."""
        return (noise[part],) if noise and part in noise else ()

    def no_decay(self) -> list[Tensor]:
        """Return the parameters without weight decay, beside biases."""
        parts = self.encoder, self.decoder
        return [weights for part in parts for weights in getattr(part, "no_decay", list)()]

    def begin_training(self) -> None:
        """Prepare for training, after the start, which may be restored, has been evaluated."""

    def observe(self, x: Tensor, out: Any) -> None:
        """Add a slice of the batch to the statistics that `update` turns into state."""

    def statistics(self) -> list[Tensor]:
        """Return the tensors that `observe` adds to."""
        return []

    def update(self) -> None:
        """Update what closed forms, not gradients, determine; called once per global batch."""

    @property
    def settles(self) -> bool:
        """Whether closed forms determine something for weights that training did not pass."""
        return False

    def settle(self) -> None:
        """Set what closed forms determine from the rows that were observed since `update`."""
