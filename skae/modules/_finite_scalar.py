"""Finite scalar quantization: each component is bounded and rounded, the codebook is a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ._quantizers import Quantizer

# A Gaussian of variance 1 is spread evenly over (0, 1) by a logistic function of this scale (that
# with the logistic distribution's own variance of pi^2 / 3).
_LOGISTIC_SCALE = math.sqrt(3) / math.pi


class FiniteScalarQuantizer(Quantizer):
    r"""Each component is bounded, then rounded to one of a few levels [1]_.

    A component :math:`z` of a vector becomes the level :math:`\lfloor L\, \sigma(u) \rfloor` of
    :math:`u = (z - c) / s`, with the logistic function :math:`\sigma`. (The bound in section 3.1
    of [1]_ is the same function, :math:`\tanh u = 2 \sigma(2u) - 1`; here all levels are equally
    wide, also for even :math:`L`, where the paper shifts them.) The vectors that codes stand for
    are a grid, in the units of the encodings. Gradients pass the rounding unchanged, not the
    bound. Nothing of it is trained, so that no code can die for want of updates.

    Parameters
    ----------
    n_parts : int
        Number of vectors that a latent row is cut into, each with one code.
    levels : sequence of int
        Number of levels of each component of a vector. Its length is that of a vector.

    Attributes
    ----------
    codebook : torch.Tensor of shape (n_parts, codebook_size, code_dim)
        The grid, the last component running fastest; `codebook_size` is the product of `levels`.

    References
    ----------
    .. [1] Mentzer, Minnen, Agustsson and Tschannen, "Finite Scalar Quantization: VQ-VAE Made
       Simple", 2024.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import FiniteScalarQuantizer
    >>> quantizer = FiniteScalarQuantizer(n_parts=1, levels=[2, 3])
    >>> quantizer.nearest(torch.tensor([[-1.0, 0.0], [1.0, 5.0]]))
    tensor([[1],
            [5]])
    """

    center: Tensor
    spread: Tensor
    gain: Tensor
    levels: Tensor
    place: Tensor

    def __init__(self, n_parts: int, levels: Sequence[int]) -> None:
        super().__init__(n_parts)
        counts = torch.tensor(list(levels), device="cpu")
        place = counts.flip(0).cumprod(0).flip(0) // counts
        self.register_buffer("owner", torch.arange(n_parts, device="cpu"), persistent=False)
        self.register_buffer("levels", counts, persistent=False)
        self.register_buffer("place", place, persistent=False)
        ones = torch.ones((n_parts, len(counts)), device="cpu", dtype=torch.float32)
        self.register_buffer("center", ones * 0)
        self.register_buffer("spread", ones.clone())
        self.register_buffer("gain", ones.clone())

    @property
    def codebook(self) -> Tensor:
        """The grid in the units of the encodings."""
        codes = torch.arange(int(self.levels.prod()), device=self.levels.device)
        return self._vectors(codes[:, None].expand(-1, self.n_codes)).transpose(0, 1)

    def _vectors(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (batch, n_parts), shape (batch, n_parts, code_dim)."""
        grid = self._symmetric(codes[:, :, None] // self.place % self.levels)
        return self.center + self.gain * grid

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (batch, n_codes) side by side, (batch, n_components)."""
        return self._vectors(codes).flatten(1)

    def _symmetric(self, level: Tensor) -> Tensor:
        """Return levels, from 0 on, as numbers in (-1, 1)."""
        return (2 * level + 1 - self.levels).to(self.center.dtype) / self.levels

    def _bounded(self, z: Tensor) -> Tensor:
        """Return components as numbers in (0, 1), shape (batch, n_parts, code_dim)."""
        parts = z.reshape(len(z), *self.center.shape)
        return ((parts - self.center) / self.spread).sigmoid()

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Return the codes, int64 of shape (batch, n_codes)."""
        return (self._level(z) * self.place).sum(2)

    def _level(self, z: Tensor) -> Tensor:
        """Return each component's level, int64 of shape (batch, n_parts, code_dim)."""
        level = (self._bounded(z) * self.levels).long()
        return level.clamp(min=0).minimum(self.levels - 1)

    def straight_through(self, z_e: Tensor, z: Tensor) -> Tensor:
        """Return `z` with the gradient of the bounded encodings."""
        bounded = (self.gain * (2 * self._bounded(z_e) - 1)).flatten(1)
        return bounded + (z - bounded).detach()

    @torch.no_grad()
    def start(self, z: Tensor, batch_size: int, generator: Generator) -> None:
        """Spread the encodings evenly over the levels, and fit the grid to them."""
        parts = z.reshape(len(z), *self.center.shape)
        deviation = parts.std(0, correction=0)
        self.center.copy_(parts.mean(0))
        self.spread.copy_(torch.where(deviation > 0, _LOGISTIC_SCALE * deviation, 1.0))
        grid = self._symmetric(self._level(z))
        products = ((parts - self.center) * grid).sum(0)
        self.gain.copy_(products / grid.square().sum(0).clamp(min=1e-12))
