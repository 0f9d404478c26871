"""Quantizers: nearest codebook vectors, EMA codebook updates, restart of dead codes, perplexity."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

# Rows times codes that are compared at once.
_MOST_MATCHES = 2**24


class EMAQuantizer(nn.Module):
    r"""Product vector quantizer whose codebooks follow the encodings as moving averages.

    A latent row is cut into `n_codes` vectors; each is replaced by the nearest vector, in
    Euclidean distance, of its own codebook. Per batch, with :math:`n_i` vectors assigned to code
    :math:`i` and their sum :math:`s_i` [1]_ (appendix A.1)

    .. math:: N_i \leftarrow \gamma N_i + (1 - \gamma) n_i, \quad
              m_i \leftarrow \gamma m_i + (1 - \gamma) s_i, \quad e_i = m_i / N_i.

    Parameters
    ----------
    n_codes : int
        Number of codes per row, each with a codebook of its own.
    codebook_size : int
        Number of vectors per codebook.
    code_dim : int
        Length of a codebook vector.
    decay : float, default=0.99
        The :math:`\gamma` above, per batch.

    Attributes
    ----------
    codebook : torch.Tensor of shape (n_codes, codebook_size, code_dim)
        The codebook vectors.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017.
    .. [2] Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import EMAQuantizer
    >>> quantizer = EMAQuantizer(n_codes=1, codebook_size=2, code_dim=1)
    >>> z = torch.tensor([[0.0], [0.2], [0.9], [1.0]])
    >>> quantizer.start_kmeans(z, 4, torch.Generator().manual_seed(0))
    >>> quantizer.codebook.flatten().sort().values
    tensor([0.1000, 0.9500])
    """

    codebook: Tensor
    mean_counts: Tensor
    mean_sums: Tensor
    _counts: Tensor
    _sums: Tensor

    def __init__(
        self, n_codes: int, codebook_size: int, code_dim: int, decay: float = 0.99
    ) -> None:
        super().__init__()
        self.decay = decay
        shape = (n_codes, codebook_size, code_dim)
        codebook = torch.zeros(shape, device="cpu", dtype=torch.float32)
        self.register_buffer("codebook", codebook)
        self.register_buffer("mean_counts", torch.ones_like(codebook[:, :, 0]))
        self.register_buffer("mean_sums", codebook.clone())
        self.register_buffer("_counts", torch.zeros_like(codebook[:, :, 0]), persistent=False)
        self.register_buffer("_sums", codebook.clone(), persistent=False)

    def split(self, z: Tensor) -> Tensor:
        """Cut latent rows (batch, n_components) into vectors (n_codes, batch, code_dim)."""
        n_codes, _, code_dim = self.codebook.shape
        return z.reshape(len(z), n_codes, code_dim).transpose(0, 1)

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Return the index of each vector's nearest code, int64 of shape (batch, n_codes)."""
        # argmin |z - e|^2 = argmax <z, e> - |e|^2 / 2
        half_norms = 0.5 * self.codebook.square().sum(2)  # (n_codes, codebook_size)
        n_rows = max(1, _MOST_MATCHES // half_norms.numel())
        pieces = torch.split(self.split(z), n_rows, dim=1)
        keys = self.codebook.transpose(1, 2)
        found = [(torch.bmm(v, keys) - half_norms[:, None]).argmax(2) for v in pieces]
        return torch.cat(found, dim=1).T

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (batch, n_codes) as latent rows (batch, n_components)."""
        position = torch.arange(codes.shape[1], device=codes.device)
        return self.codebook[position, codes].flatten(1)

    @torch.no_grad()
    def observe(self, z: Tensor, codes: Tensor) -> None:
        """Add a slice's assignments, z (batch, n_components), to the batch's statistics."""
        vectors, codes = self.split(z), codes.T
        self._counts.scatter_add_(1, codes, torch.ones_like(vectors[:, :, 0]))
        self._sums.scatter_add_(1, codes[:, :, None].expand_as(vectors), vectors)

    @torch.no_grad()
    def update(self, decay: float | None = None) -> None:
        """Move the codebooks towards the means of the batch's assignments."""
        step = 1 - (self.decay if decay is None else decay)
        self.mean_counts.lerp_(self._counts, step)
        self.mean_sums.lerp_(self._sums, step)
        alive = self.mean_counts > 1e-6
        means = self.mean_sums / self.mean_counts.clamp(min=1e-6)[:, :, None]
        self.codebook.copy_(torch.where(alive[:, :, None], means, self.codebook))
        self._counts.zero_()
        self._sums.zero_()

    @torch.no_grad()
    def start_kmeans(
        self, z: Tensor, batch_size: int, generator: Generator, n_iter: int = 20
    ) -> None:
        """Start the codebooks at k-means of encodings `z`, (n_rows, n_components).

        Codes are spread out first by k-means++ (see the class). Lloyd's iteration is then the
        moving average without memory; codes that lose all their vectors are restarted on the way.
        The averages are left as for batches of `batch_size` rows.
        """
        self._spread(self.split(z), generator)
        self.mean_counts.fill_(1.0)
        for _ in range(n_iter):
            self.restart_dead(z, 1e-6, generator)
            self.observe(z, self.nearest(z))
            self.update(decay=0.0)
        self.mean_counts *= batch_size / len(z)
        self.mean_sums.copy_(self.codebook * self.mean_counts[:, :, None])

    def _spread(self, vectors: Tensor, generator: Generator) -> None:
        """Draw codes from vectors (n_codes, n_rows, code_dim), far ones more often.

        The odds are the squared distance to the nearest code drawn before.
        """
        odds = torch.ones_like(vectors[:, :, 0])  # (n_codes, n_rows)
        position = torch.arange(len(vectors), device=vectors.device)
        for i in range(self.codebook.shape[1]):
            row = odds.clamp(min=1e-30).cpu().multinomial(1, generator=generator)[:, 0]
            self.codebook[:, i] = vectors[position, row.to(vectors.device)]
            distances = (vectors - self.codebook[:, i, None]).square().sum(2)
            odds = distances if i == 0 else torch.minimum(odds, distances)

    @torch.no_grad()
    def restart_dead(self, z: Tensor, threshold: float, generator: Generator) -> None:
        """Move codes that have fallen out of use onto encodings drawn from `z`.

        Parameters
        ----------
        z : torch.Tensor of shape (n_rows, n_components)
            Encodings of training rows to draw from.
        threshold : float
            A code is dead when its moving average of assignments is below this fraction of the
            codebook's mean.
        generator : torch.Generator
            Source of the draws, on the CPU.
        """
        mean = self.mean_counts.mean(1, keepdim=True)
        dead = self.mean_counts <= threshold * mean
        rows = self._draw_rows(len(z), generator).to(z.device)
        rows = rows[:, :, None].expand_as(self.codebook)
        candidates = self.split(z).gather(1, rows)
        self.codebook.copy_(torch.where(dead[:, :, None], candidates, self.codebook))
        self.mean_counts.copy_(torch.where(dead, mean, self.mean_counts))
        self.mean_sums.copy_(self.codebook * self.mean_counts[:, :, None])

    def _draw_rows(self, n_rows: int, generator: Generator) -> Tensor:
        """Draw a row for each code, (n_codes, codebook_size), each once where there are enough."""
        n_codes, size, _ = self.codebook.shape
        shape = (n_codes, n_rows)
        scores = torch.rand(shape, generator=generator, device="cpu", dtype=torch.float32)
        distinct = scores.topk(min(size, n_rows), dim=1).indices
        return distinct.repeat(1, math.ceil(size / n_rows))[:, :size]


def perplexity(counts: Tensor) -> Tensor:
    r"""Return ``exp(entropy)`` of code frequencies: the number of codes in even use.

    Parameters
    ----------
    counts : torch.Tensor of shape (..., codebook_size)
        How often each code was used.

    Returns
    -------
    torch.Tensor of shape (...)
        Between 1 and `codebook_size`.
    """
    frequencies = counts / counts.sum(-1, keepdim=True)
    return torch.special.entr(frequencies).sum(-1).exp()
