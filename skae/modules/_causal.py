"""The causal autoencoder over codes: each code's probability given the codes before it (NADE)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import embedding, silu

from ._core import Core, Noise
from ._mlp import linear

# Layers after the first, and the length of vectors that are learned.
_DEPTH = 2
_LEARNED_DIM = 8


class CausalOutput(NamedTuple):
    """What `CausalAutoencoder.forward` returns."""

    x_hat: Tensor  # (n_codes, batch, codebook_size), logits
    z: Tensor  # (n_codes, batch, n_hidden)


class _Prefixes(nn.Module):
    """Hidden states of all prefixes of a row of codes."""

    vectors: Tensor
    first: Tensor

    def __init__(
        self,
        n_codes: int,
        codebook_size: int,
        n_hidden: int,
        vector_dim: int | None,
        generator: Generator,
    ) -> None:
        super().__init__()
        dim = vector_dim or _LEARNED_DIM
        vectors = torch.empty((n_codes, codebook_size, dim), device="cpu", dtype=torch.float32)
        vectors.normal_(generator=generator)
        if vector_dim is None:
            self.vectors = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)
        weight = torch.empty((n_codes, dim, n_hidden), device="cpu", dtype=torch.float32)
        spread = (2 / (n_codes * dim)) ** 0.5
        self.weight = nn.Parameter(weight.normal_(std=spread, generator=generator))
        self.offset = nn.Parameter(weight.new_zeros(n_codes, n_hidden))
        norms = [nn.LayerNorm(n_hidden, device="cpu", dtype=torch.float32) for _ in range(_DEPTH)]
        self.norms = nn.ModuleList(norms)
        layers = [linear(n_hidden, n_hidden, generator) for _ in range(_DEPTH)]
        self.layers = nn.ModuleList(layers)
        first = codebook_size * torch.arange(n_codes, device="cpu")
        self.register_buffer("first", first, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the states (n_codes, batch, n_hidden), the i-th from the codes before the i-th."""
        chosen = embedding(codes.long() + self.first, self.vectors.flatten(0, 1))
        entries = torch.bmm(chosen.transpose(0, 1), self.weight)
        return self.states(entries.cumsum(0) - entries + self.offset[:, None])

    def states(self, sums: Tensor) -> Tensor:
        """Return states for what is summed up of the codes before."""
        h = silu(sums)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            h = h + silu(layer(norm(h)))
        return h


class _Logits(nn.Module):
    """Logits of each code from its state."""

    def __init__(self, n_codes: int, codebook_size: int, n_hidden: int, generator: Generator):
        super().__init__()
        n_inner = max(n_hidden // 8, 1)
        inner = torch.empty((n_codes, n_hidden, n_inner), device="cpu", dtype=torch.float32)
        self.inner = nn.Parameter(inner.normal_(std=n_hidden**-0.5, generator=generator))
        self.outer = nn.Parameter(inner.new_zeros(n_codes, n_inner, codebook_size))
        self.bias = nn.Parameter(inner.new_zeros(n_codes, 1, codebook_size))

    def forward(self, states: Tensor) -> Tensor:
        """Map states (n_codes, batch, n_hidden) to logits (n_codes, batch, codebook_size)."""
        return torch.baddbmm(self.bias, torch.bmm(states, self.inner), self.outer)


class CausalAutoencoder(Core):
    r"""Autoregressive distribution of rows of integer codes [1]_.

    .. math:: p(c_1 \dots c_n) = \prod_i p(c_i | c_1 \dots c_{i-1})

    The state before the i-th code starts from a sum of one vector for each code before it, so that
    those of all codes of a row cost one cumulative sum (equations 1 and 2 of [1]_). Then it passes
    normalised layers with shortcuts. The probabilities start at `start_frequencies`, whatever the
    codes before.

    Parameters
    ----------
    n_codes : int
        Number of codes per row.
    codebook_size : int
        Number of values of each.
    n_hidden : int
        Width of the states.
    vector_dim : int or None, default=None
        Length of the vectors that codes stand for, which `start_vectors` is to set, so that codes
        with alike vectors are taken alike. None is for vectors that are learned.
    generator : torch.Generator or None, default=None
        Source of the initial weights; None starts from seed 0.

    References
    ----------
    .. [1] Larochelle and Murray, "The Neural Autoregressive Distribution Estimator", 2011.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import CausalAutoencoder
    >>> CausalAutoencoder(3, 8, n_hidden=16)(torch.zeros(5, 3)).x_hat.shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        n_codes: int,
        codebook_size: int,
        n_hidden: int,
        vector_dim: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        generator = generator or Generator("cpu").manual_seed(0)
        super().__init__(
            _Prefixes(n_codes, codebook_size, n_hidden, vector_dim, generator),
            _Logits(n_codes, codebook_size, n_hidden, generator),
        )
        self.n_draws = n_codes

    @property
    def has_custom_parts(self) -> bool:
        """Nothing of it is the user's."""
        return False

    @torch.no_grad()
    def start_vectors(self, vectors: Tensor) -> None:
        """Set what codes stand for, (n_codes, codebook_size, vector_dim); it is standardized."""
        prefixes: Any = self.encoder
        centred = vectors - vectors.mean(1, keepdim=True)
        spread = centred.square().mean((1, 2), keepdim=True).sqrt()
        prefixes.vectors.copy_(centred / torch.where(spread > 0, spread, 1.0))

    @torch.no_grad()
    def start_frequencies(self, frequencies: Tensor) -> None:
        """Start at independent codes with positive frequencies, (n_codes, codebook_size)."""
        logits: Any = self.decoder
        logits.bias.copy_(frequencies.log()[:, None])

    def encode(self, x: Tensor) -> Tensor:
        """Return the state before each code, shape (n_codes, batch, n_hidden)."""
        return self.encoder(x)

    def forward(self, x: Tensor, noise: Noise | None = None) -> CausalOutput:
        """Return the logits of each code given those before it."""
        states = self.encode(x)
        return CausalOutput(self.decoder(states), states)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each row of codes in nats, shape (batch,)."""
        log_probabilities = self(x).x_hat.log_softmax(2)
        return log_probabilities.gather(2, x.long().T[:, :, None])[:, :, 0].sum(0)

    def sample(self, n_rows: int, generator: Generator) -> Tensor:
        """Draw codes one after the other, int64 of shape (n_rows, n_codes).

        `generator`, on the CPU, is the source of the draws.
        """
        prefixes: Any = self.encoder
        logits: Any = self.decoder
        sums = prefixes.weight.new_zeros(n_rows, prefixes.weight.shape[2])
        drawn = []
        for i, offset in enumerate(prefixes.offset):
            state = prefixes.states(sums + offset) @ logits.inner[i]
            probabilities = torch.addmm(logits.bias[i], state, logits.outer[i]).softmax(1)
            code = probabilities.cpu().multinomial(1, generator=generator)[:, 0].to(sums.device)
            sums = sums + prefixes.vectors[i, code] @ prefixes.weight[i]
            drawn.append(code)
        return torch.stack(drawn, 1)
