"""Quantizers: nearest codebook vectors, residual stages, EMA or gradient updates, dead codes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ._kmeans import add_totals, draw_vectors, find_largest, kmeans, nearest

Call = Callable[[], Any]

# Vectors times codes that are compared at once on a fixed buffer; more are taken in pieces.
_MOST_MATCHES = 2**20

# A code with a smaller moving average of assignments stays where it is: digits have run out.
LEAST_COUNT = 1e-6


class Quantizer(nn.Module):
    """Abstract base of quantizers: latent rows become a few integers, and these vectors again.

    Parameters
    ----------
    n_codes : int
        Number of integers per row.

    Attributes
    ----------
    codebook : torch.Tensor of shape (n_codebooks, codebook_size, code_dim)
        The codebooks' vectors.
    owner : torch.Tensor of shape (n_codes,)
        Which codebook each of a row's integers belongs to.
    n_stages : int
        Number of stages, whose vectors add up.
    """

    owner: Tensor
    n_stages: int = 1

    def __init__(self, n_codes: int) -> None:
        super().__init__()
        self.n_codes = n_codes

    @abstractmethod
    def nearest(self, z: Tensor) -> Tensor:
        """Return the codes of latent rows (batch, n_components), int64 (batch, n_codes)."""

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the latent rows (batch, n_components) that codes (batch, n_codes) stand for."""
        codebook: Tensor = self.codebook  # type: ignore[assignment]
        return codebook[self.owner, codes].flatten(1)

    def partial_sums(self, codes: Tensor) -> Tensor:
        """Return what codes stand for after each stage, (batch, n_stages, n_components)."""
        return self.lookup(codes)[:, None]

    def straight_through(self, z_e: Tensor, z: Tensor) -> Tensor:
        """Return `z` with the gradient of the encoder's output `z_e`."""
        return z_e + (z - z_e).detach()

    @abstractmethod
    def start(self, z: Tensor, batch_size: int, generator: Generator) -> None:
        """Start the codebooks for encodings `z`, (n_rows, n_components), and such batches."""

    def refine(self, z: Tensor, generator: Generator) -> None:
        """Move the codebooks, after training, to where encodings `z` are."""

    def observe(self, z: Tensor, codes: Tensor) -> None:
        """Add a slice's assignments, z (batch, n_components), to the batch's statistics."""

    def statistics(self) -> list[Tensor]:
        """Return the tensors that `observe` adds to."""
        return []

    def update(self) -> None:
        """Move the codebooks by the batch's statistics."""

    def bind(
        self, z_e: Tensor, z: Tensor, gradient: Tensor, stages: Tensor, *, updates: bool
    ) -> tuple[Call, Call | None] | None:
        """Return what quantizes on fixed buffers, and what learns; None is for autograd.

        Parameters
        ----------
        z_e, z : torch.Tensor of shape (n_rows, n_components)
            The encodings, and where to write the vectors that stand for them.
        gradient : torch.Tensor of shape (n_rows, n_components)
            Gradient of the objective in these vectors, which the second call takes and sets to 0.
        stages : torch.Tensor of shape (n_rows, n_stages, n_components)
            Where to write `partial_sums`. Of one stage it is a view of `z`.
        updates : bool
            Whether these are all rows of a step, so that `update` follows at once.

        Returns
        -------
        tuple of callable or None
            The first writes `z` and observes the assignments; the second, or None, writes the
            codebooks' gradients.
        """
        return None

    def has_dead(self, threshold: float) -> bool:
        """Return whether `restart_dead` may find a code to move."""
        return True

    def restart_dead(self, z: Tensor, threshold: float, generator: Generator) -> None:
        """Move codes that have fallen out of use onto encodings drawn from `z`.

        Parameters
        ----------
        z : torch.Tensor of shape (n_rows, n_components)
            Encodings of training rows.
        threshold : float
            A code is dead when its moving average of assignments is below this fraction of the
            codebook's mean.
        generator : torch.Generator
            Source of the draws, on the CPU.
        """


class VectorQuantizer(Quantizer):
    r"""Codebooks of vectors that follow the encodings, by moving averages or by gradients.

    A latent row is cut into `n_parts` vectors and each is replaced by the nearest vector, in
    Euclidean distance, of a codebook. With stages the next stage quantizes what those before have
    left over, and the vectors add up ([2]_, equation 2).

    Per batch, with :math:`n_i` vectors assigned to code :math:`i` and their sum :math:`s_i`,
    moving averages are ([1]_, appendix A.1)

    .. math:: N_i \leftarrow \gamma N_i + (1 - \gamma) n_i, \quad
              m_i \leftarrow \gamma m_i + (1 - \gamma) s_i, \quad e_i = m_i / N_i.

    Parameters
    ----------
    n_parts : int
        Number of vectors that a latent row is cut into.
    codebook_size : int
        Number of vectors per codebook.
    code_dim : int
        Length of a codebook vector.
    n_stages : int, default=1
        Number of stages. Codes are ordered by stage first.
    shared : bool, default=False
        Whether the parts share a codebook, one per stage.
    decay : float or None, default=0.99
        The :math:`\gamma` above, per batch. None is for codebooks that are trained by gradients;
        only the use of their codes is then averaged, with 0.99.

    Attributes
    ----------
    codebook : torch.Tensor of shape (n_codebooks, codebook_size, code_dim)
        The codebook vectors, a parameter if `decay` is None and else a buffer.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017.
    .. [2] Lee, Kim, Kim, Cho and Han, "Autoregressive Image Generation using Residual
       Quantization", 2022.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import VectorQuantizer
    >>> quantizer = VectorQuantizer(n_parts=1, codebook_size=2, code_dim=1)
    >>> z = torch.tensor([[0.0], [0.2], [0.9], [1.0]])
    >>> quantizer.start(z, 4, torch.Generator().manual_seed(0))
    >>> quantizer.codebook.flatten().sort().values
    tensor([0.1000, 0.9500])
    """

    codebook: Tensor
    mean_counts: Tensor
    mean_sums: Tensor
    _counts: Tensor
    _sums: Tensor

    def __init__(
        self,
        n_parts: int,
        codebook_size: int,
        code_dim: int,
        *,
        n_stages: int = 1,
        shared: bool = False,
        decay: float | None = 0.99,
    ) -> None:
        super().__init__(n_stages * n_parts)
        self.n_stages, self.n_parts, self.shared, self.decay = n_stages, n_parts, shared, decay
        owner = torch.arange(self.n_codes, device="cpu")
        self.register_buffer("owner", owner // n_parts if shared else owner, persistent=False)
        n_codebooks = n_stages if shared else self.n_codes
        shape = (n_codebooks, codebook_size, code_dim)
        codebook = torch.zeros(shape, device="cpu", dtype=torch.float32)
        if decay is None:
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
        self.register_buffer("mean_counts", torch.ones_like(codebook[:, :, 0]))
        self.register_buffer("mean_sums", codebook.clone())
        self.register_buffer("_counts", torch.zeros_like(codebook[:, :, 0]), persistent=False)
        self.register_buffer("_sums", codebook.clone(), persistent=False)

    def nearest(self, z: Tensor) -> Tensor:
        """Return the index of each vector's nearest code, int64 of shape (batch, n_codes)."""
        return self.quantize(z)[0]

    @torch.no_grad()
    def quantize(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes, int64 (batch, n_codes), and what they stand for, without gradients."""
        left = self._parts(z)
        total, found = torch.zeros_like(left), []
        for stage in range(self.n_stages):
            codes, chosen = self._assign(stage, left)
            found.append(codes)
            total, left = total + chosen, left - chosen
        return torch.cat(found).T, total.transpose(0, 1).flatten(1)

    def _assign(self, stage: int, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stage's codes of vectors (n_parts, batch, code_dim), and their vectors."""
        keys = self.codebook[self._codebooks_of(stage)].expand(self.n_parts, -1, -1)
        codes = nearest(vectors, keys)
        return codes, keys.gather(1, codes[:, :, None].expand_as(vectors))

    def _codebooks_of(self, stage: int) -> slice:
        n_each = len(self.codebook) // self.n_stages
        return slice(stage * n_each, (stage + 1) * n_each)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (batch, n_codes), stages added up, (batch, n_components)."""
        chosen = self._chosen(codes)
        total = chosen[:, 0]
        for stage in range(1, self.n_stages):
            total = total + chosen[:, stage]
        return total.flatten(1)

    def partial_sums(self, codes: Tensor) -> Tensor:
        """Return what codes stand for after each stage, (batch, n_stages, n_components)."""
        return self._chosen(codes).cumsum(1).flatten(2)

    def _parts(self, z: Tensor) -> Tensor:
        """Cut latent rows (batch, n_components) into vectors (n_parts, batch, code_dim)."""
        return z.reshape(len(z), self.n_parts, -1).transpose(0, 1)

    def _chosen(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes, (batch, n_stages, n_parts, code_dim)."""
        chosen = self.codebook[self.owner, codes]
        return chosen.view(len(codes), self.n_stages, self.n_parts, -1)

    def _pooled(self, values: Tensor) -> Tensor:
        """Sort values per row and code, (batch, n_codes, ...), by codebook, (n_codebooks, n, ...).

        A codebook that parts share has `n_parts` times as many.
        """
        n_codebooks = len(self.codebook)
        return values.transpose(0, 1).reshape(n_codebooks, -1, *values.shape[2:])

    def _targets(self, z: Tensor, codes: Tensor) -> Tensor:
        """Return what each code stands for, by codebook: parts of z less the stages before."""
        chosen = self._chosen(codes)
        before = chosen.cumsum(1) - chosen
        targets = z.reshape(len(z), 1, self.n_parts, -1) - before
        return self._pooled(targets.flatten(1, 2))

    @torch.no_grad()
    def observe(self, z: Tensor, codes: Tensor) -> None:
        """Add a slice's assignments to the batch's statistics."""
        add_totals(self._targets(z, codes), self._pooled(codes), self._counts, self._sums)

    def statistics(self) -> list[Tensor]:
        """Return the batch's counts and sums."""
        return [self._counts, self._sums]

    def update(self) -> None:
        """Move the averages, and codebooks that follow them, by the batch's assignments."""
        step, mean_counts = 1 - (0.99 if self.decay is None else self.decay), self.mean_counts
        mean_counts.lerp_(self._counts, step)
        if self.decay is not None:
            mean_sums, codebook = self.mean_sums, self.codebook
            mean_sums.lerp_(self._sums, step)
            used = (mean_counts > LEAST_COUNT)[:, :, None]
            torch.where(used, mean_sums / mean_counts[:, :, None], codebook, out=codebook)
        self._counts.zero_()
        self._sums.zero_()

    def bind(
        self, z_e: Tensor, z: Tensor, gradient: Tensor, stages: Tensor, *, updates: bool
    ) -> tuple[Call, Call | None]:
        """Return what quantizes on fixed buffers, and writes gradients if codebooks have them."""
        n_parts, size, _ = self.codebook.shape
        several = self.n_stages > 1 or self.shared or self.decay is None
        if several or n_parts * len(z_e) * size > _MOST_MATCHES:
            return self._bind_stages(z_e, z, gradient, stages, updates)
        return self._bind_one_stage(z_e, z, updates), None

    def _bind_stages(
        self, z_e: Tensor, z: Tensor, gradient: Tensor, stages: Tensor, updates: bool
    ) -> tuple[Call, Call | None]:
        found: list[Tensor] = []
        slot = self.codebook.grad  # None where codebooks follow moving averages

        def assign() -> None:
            codes, vectors = self.quantize(z_e)
            z.copy_(vectors)
            if self.n_stages > 1:
                stages.copy_(self.partial_sums(codes))
            self.observe(z_e, codes)
            found[:] = [codes]
            if updates:
                self.update()

        if slot is None:
            return assign, None

        def learn() -> None:
            parts = gradient.view(len(gradient), 1, self.n_parts, -1)
            parts = parts.expand(-1, self.n_stages, -1, -1).flatten(1, 2)
            slot.zero_().index_put_((self.owner, found[0]), parts, accumulate=True)
            gradient.zero_()

        return assign, learn

    def _bind_one_stage(self, z_e: Tensor, z: Tensor, updates: bool) -> Call:
        """Return `nearest`, `lookup`, `observe` and `update` of separate codebooks as one call."""
        keys, (counts, sums) = self.codebook, self.statistics()
        n_parts, size, dim = keys.shape
        share = 1 - (self.decay or 0.0)
        parts, chosen = (each.view(len(z), n_parts, dim).transpose(0, 1) for each in (z_e, z))
        origin, centred, norms = (
            torch.zeros_like(keys[:, :1]),
            *map(torch.zeros_like, (keys, counts)),
        )
        shifted, vectors, moved = torch.zeros_like(parts), torch.zeros_like(parts), keys.clone()
        matches = keys.new_zeros(n_parts, len(z), size)
        codes = torch.zeros((n_parts, len(z)), dtype=torch.int64, device=z.device)
        index, ones = codes[:, :, None].expand_as(parts), counts.new_ones(1).expand_as(codes)
        average, used = keys.new_full((n_parts, 1, size), 1 / size), counts > 0
        mean_counts, mean_sums = self.mean_counts, self.mean_sums
        columns, shares = centred.transpose(1, 2), mean_counts[:, :, None]
        start, each_used = norms[:, None], used[:, :, None]

        def assign() -> None:
            torch.bmm(average, keys, out=origin)
            torch.sub(keys, origin, out=centred)
            torch.linalg.vecdot(centred, centred, out=norms)
            torch.sub(parts, origin, out=shifted)
            torch.baddbmm(start, shifted, columns, beta=-0.5, out=matches)
            find_largest(matches, codes)
            torch.gather(keys, 1, index, out=vectors)
            chosen.copy_(vectors)
            counts.scatter_add_(1, codes, ones)
            sums.scatter_add_(1, index, parts)
            if updates:
                move()

        def move() -> None:
            mean_counts.lerp_(counts, share)
            mean_sums.lerp_(sums, share)
            torch.gt(mean_counts, LEAST_COUNT, out=used)
            torch.div(mean_sums, shares, out=moved)
            torch.where(each_used, moved, keys, out=keys)
            counts.zero_()
            sums.zero_()

        return assign

    @torch.no_grad()
    def start(self, z: Tensor, batch_size: int, generator: Generator) -> None:
        """Start the codebooks at k-means of encodings, stage by stage.

        The averages are left as for batches of `batch_size` rows.
        """
        vectors_per_row = self.n_codes / len(self.codebook)
        self.mean_counts.fill_(batch_size * vectors_per_row / self.codebook.shape[1])
        self._cluster(z, generator, [None] * self.n_stages)

    @torch.no_grad()
    def refine(self, z: Tensor, generator: Generator) -> None:
        """Let k-means of encodings go on from the codebooks, stage by stage."""
        own = map(self._codebooks_of, range(self.n_stages))
        self._cluster(z, generator, [self.codebook[each].detach() for each in own])

    def _cluster(self, z: Tensor, generator: Generator, centres: Sequence[Tensor | None]) -> None:
        """Set codebooks to k-means of encodings that starts at each stage's centres, if any."""
        left, size = self._parts(z), self.codebook.shape[1]
        for stage in range(self.n_stages):
            own = self._codebooks_of(stage)
            vectors = left.flatten(0, 1)[None] if self.shared else left
            clusters = kmeans(vectors, size, generator, centres[stage])
            self.codebook[own] = clusters.centres
            total = self.mean_counts[own].sum(1, keepdim=True)
            self.mean_counts[own] = clusters.counts * (total / vectors.shape[1])
            left = left - self._assign(stage, left)[1]
        self.mean_sums.copy_(self.codebook * self.mean_counts[:, :, None])

    def has_dead(self, threshold: float) -> bool:
        """Return whether a code has fallen out of use."""
        return bool(self._dead(threshold).any())

    def _dead(self, threshold: float) -> Tensor:
        return self.mean_counts <= threshold * self.mean_counts.mean(1, keepdim=True)

    @torch.no_grad()
    def restart_dead(self, z: Tensor, threshold: float, generator: Generator) -> None:
        """Move codes that have fallen out of use onto encodings drawn from `z`.

        A code stays if its vectors, left to the code next to it, would cost more than those of a
        code do on average: it stands for few that are far from others.
        """
        mean, codes = self.mean_counts.mean(1, keepdim=True), self.nearest(z)
        targets, pooled = self._targets(z, codes), self._pooled(codes)
        chosen = self.codebook.gather(1, pooled[:, :, None].expand_as(targets))
        error = (targets - chosen).square().sum(2).mean(1, keepdim=True)
        gaps = torch.cdist(self.codebook, self.codebook).square()
        gaps.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        dead = self._dead(threshold) & (self.mean_counts * gaps.amin(2) <= mean * error)
        drawn = draw_vectors(targets, self.codebook.shape[1], generator)
        self.codebook.copy_(torch.where(dead[:, :, None], drawn, self.codebook))
        self.mean_counts.copy_(torch.where(dead, mean, self.mean_counts))
        self.mean_sums.copy_(self.codebook * self.mean_counts[:, :, None])


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
