"""The causal autoencoder over codes: each code's odds given the codes before it (NADE)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from ._core import Core, Noise
from ._mlp import linear


class CausalOutput(NamedTuple):
    """What `CausalAutoencoder.forward` returns."""

    x_hat: Tensor  # (batch, n_codes, codebook_size), logits
    z: Tensor  # (batch, n_codes, n_hidden)


class _Prefixes(nn.Module):
    """Hidden states of all prefixes of a row of codes."""

    def __init__(self, n_codes: int, codebook_size: int, n_hidden: int, generator: Generator):
        super().__init__()
        table = torch.zeros((n_codes * codebook_size, n_hidden), device="cpu", dtype=torch.float32)
        self.table = nn.Parameter(table.normal_(std=n_codes**-0.5, generator=generator))
        self.offset = nn.Parameter(table.new_zeros(n_codes, n_hidden))
        self.hidden = linear(n_hidden, n_hidden, generator, gain=2**0.5)
        first = codebook_size * torch.arange(n_codes, device="cpu")
        self.register_buffer("first", first, persistent=False)

    first: Tensor

    def forward(self, codes: Tensor) -> Tensor:
        """Return the states (batch, n_codes, n_hidden), the i-th from the codes before the i-th."""
        entries = nn.functional.embedding(codes.long() + self.first, self.table)
        return self.states(entries.cumsum(1) - entries, self.offset)

    def states(self, sums: Tensor, offset: Tensor) -> Tensor:
        """Return states for the sums of the entries of codes before."""
        h = (sums + offset).relu()
        return h + self.hidden(h).relu()


class _Logits(nn.Module):
    """Logits of each code from its state."""

    def __init__(self, n_codes: int, codebook_size: int, n_hidden: int):
        super().__init__()
        weight = torch.zeros((n_codes, n_hidden, codebook_size), device="cpu", dtype=torch.float32)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(weight.new_zeros(n_codes, codebook_size))

    def forward(self, states: Tensor) -> Tensor:
        """Map states (batch, n_codes, n_hidden) to logits (batch, n_codes, codebook_size)."""
        logits = torch.baddbmm(self.bias[:, None], states.transpose(0, 1), self.weight)
        return logits.transpose(0, 1)


class CausalAutoencoder(Core):
    r"""Autoregressive distribution of rows of integer codes [1]_.

    .. math:: p(c_1 \dots c_n) = \prod_i p(c_i | c_1 \dots c_{i-1})

    The state before the i-th code is made from the sum of one learned vector for each code before
    it, so that all states of a row cost one cumulative sum (equations 1 and 2 of [1]_); here it
    passes another hidden layer, with a shortcut. The odds start at those of `start_at`, whatever
    the codes before.

    Parameters
    ----------
    n_codes : int
        Number of codes per row.
    codebook_size : int
        Number of values of each.
    n_hidden : int
        Width of the states.
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
    torch.Size([5, 3, 8])
    """

    def __init__(
        self,
        n_codes: int,
        codebook_size: int,
        n_hidden: int,
        generator: Generator | None = None,
    ) -> None:
        generator = generator or Generator("cpu").manual_seed(0)
        prefixes = _Prefixes(n_codes, codebook_size, n_hidden, generator)
        super().__init__(prefixes, _Logits(n_codes, codebook_size, n_hidden))
        self.n_draws = n_codes

    @property
    def has_foreign_parts(self) -> bool:
        """Nothing of it is the user's."""
        return False

    @torch.no_grad()
    def start_at(self, frequencies: Tensor) -> None:
        """Start at independent codes with positive frequencies, (n_codes, codebook_size)."""
        logits: Any = self.decoder
        logits.bias.copy_(frequencies.log())

    def encode(self, x: Tensor) -> Tensor:
        """Return the state before each code, shape (batch, n_codes, n_hidden)."""
        return self.encoder(x)

    def forward(self, x: Tensor, noise: Noise | None = None) -> CausalOutput:
        """Return the logits of each code given those before it."""
        states = self.encode(x)
        return CausalOutput(self.decoder(states), states)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each row of codes in nats, shape (batch,)."""
        log_odds = self(x).x_hat.log_softmax(2)
        return log_odds.gather(2, x.long()[:, :, None])[:, :, 0].sum(1)

    def sample(self, n_rows: int, generator: Generator) -> Tensor:
        """Draw codes one after the other, int64 of shape (n_rows, n_codes).

        `generator`, on the CPU, is the source of the draws.
        """
        prefixes: Any = self.encoder
        logits: Any = self.decoder
        n_codes, size = logits.bias.shape
        table = prefixes.table.view(n_codes, size, -1)
        sums = table.new_zeros(n_rows, table.shape[2])
        drawn = []
        for i in range(n_codes):
            states = prefixes.states(sums, prefixes.offset[i])
            odds = torch.addmm(logits.bias[i], states, logits.weight[i]).softmax(1)
            code = odds.cpu().multinomial(1, generator=generator)[:, 0].to(sums.device)
            sums = sums + table[i, code]
            drawn.append(code)
        return torch.stack(drawn, 1)
