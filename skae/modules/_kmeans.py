"""k-means of several sets of vectors at once: k-means++, Lloyd's iteration, moves of centres."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

# Vectors times centres that are compared at once: about what a core's cache holds (four times as
# fast as 2**24 for 16 sets of 20,000 vectors and 512 centres).
_MOST_MATCHES = 2**18

# Lloyd's iteration ends when centres move by less than this fraction of a feature's variance.
_TOL, _MOST_ITERATIONS = 1e-4, 100
# So often some of the centres, one of so many, are moved, unless that is more work than this.
_MOST_ROUNDS, _CENTRES_PER_MOVE, _WORK_OF_ROUNDS = 20, 16, 2**30


def nearest(vectors: Tensor, centres: Tensor) -> Tensor:
    """Return the index of each vector's nearest centre in its set, int64 (n_sets, n_vectors).

    Parameters
    ----------
    vectors : torch.Tensor of shape (n_sets, n_vectors, dim)
        Vectors.
    centres : torch.Tensor of shape (n_sets, n_centres, dim)
        Centres; ties go to the first.
    """
    # argmin |v - c|^2 = argmax <v, c> - |c|^2 / 2, near the origin so that digits do not cancel
    origin = centres.mean(1, keepdim=True)
    centres = centres - origin
    norms = torch.linalg.vecdot(centres, centres)[:, None]  # (n_sets, 1, n_centres)
    at_once = max(1, _MOST_MATCHES // norms.numel())
    keys, vectors = centres.transpose(1, 2), vectors - origin
    found = torch.empty(vectors.shape[:2], dtype=torch.int64, device=vectors.device)
    for start in range(0, vectors.shape[1], at_once):
        some = slice(start, start + at_once)
        find_largest(torch.baddbmm(norms, vectors[:, some], keys, beta=-0.5), found[:, some])
    return found


def find_largest(matches: Tensor, index: Tensor) -> None:
    """Write the index of the largest of each vector's matches, the first of several.

    Parameters
    ----------
    matches : torch.Tensor of shape (n_sets, n_vectors, n_centres)
        Values.
    index : torch.Tensor of shape (n_sets, n_vectors)
        Where to write, int64.
    """
    if matches.device.type == "cpu" and matches.dtype != torch.bfloat16:
        # NumPy is up to ten times as fast
        np.argmax(matches.numpy(), axis=2, out=index.numpy())
    else:
        torch.argmax(matches, 2, out=index)


def totals(vectors: Tensor, index: Tensor, n_centres: int) -> tuple[Tensor, Tensor]:
    """Return number (n_sets, n_centres) and sum (n_sets, n_centres, dim) of each centre's vectors.

    `index`, (n_sets, n_vectors), says which centre each vector belongs to.
    """
    n_sets, _, dim = vectors.shape
    counts = vectors.new_zeros(n_sets, n_centres)
    sums = vectors.new_zeros(n_sets, n_centres, dim)
    add_totals(vectors, index, counts, sums)
    return counts, sums


def add_totals(vectors: Tensor, index: Tensor, counts: Tensor, sums: Tensor) -> None:
    """Add number and sum of each centre's vectors to `counts` and `sums`; see `totals`."""
    counts.scatter_add_(1, index, counts.new_ones(1).expand_as(index))
    sums.scatter_add_(1, index[:, :, None].expand_as(vectors), vectors)


class Clusters(NamedTuple):
    """Centres of several sets of vectors, and which vectors they are the nearest of.

    Attributes
    ----------
    centres : torch.Tensor of shape (n_sets, n_centres, dim)
        The centres.
    owners : torch.Tensor of int of shape (n_sets, n_vectors)
        Each vector's nearest centre.
    distances : torch.Tensor of shape (n_sets, n_vectors)
        Its squared distance to that.
    """

    centres: Tensor
    owners: Tensor
    distances: Tensor

    @property
    def counts(self) -> Tensor:
        """Number of vectors of each centre, (n_sets, n_centres)."""
        counts = self.centres.new_zeros(self.centres.shape[:2])
        return counts.scatter_add_(1, self.owners, counts.new_ones(1).expand_as(self.owners))

    @property
    def errors(self) -> Tensor:
        """Sum of each set's squared distances, float64 (n_sets,)."""
        return self.distances.double().sum(1)


def kmeans(
    vectors: Tensor, n_centres: int, generator: Generator, centres: Tensor | None = None
) -> Clusters:
    """Cluster each set of vectors: greedy k-means++ [1]_, Lloyd's iteration, moves of centres.

    Where Lloyd's iteration has ended, the centres that can best be missed move to vectors that are
    far from theirs, and it goes on from there; what is better is kept, as in [2]_. This takes the
    error below that of the best of several seeds.

    Parameters
    ----------
    vectors : torch.Tensor of shape (n_sets, n_vectors, dim)
        Vectors.
    n_centres : int
        Number of centres per set. Beyond the number of distinct vectors they repeat.
    generator : torch.Generator
        Source of the draws, on the CPU.
    centres : torch.Tensor of shape (n_sets, n_centres, dim), default=None
        Where to go on from, in k-means++'s place.

    Returns
    -------
    Clusters

    References
    ----------
    .. [1] Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007,
       sections 2.2 and 5.
    .. [2] Fritzke, "Breathing K-Means", 2020.
    """
    centres = _spread(vectors, n_centres, generator) if centres is None else centres
    best = _converged(vectors, centres)
    n_moved = max(1, n_centres // _CENTRES_PER_MOVE)
    n_rounds = min(_MOST_ROUNDS, _WORK_OF_ROUNDS // max(vectors.numel() * n_centres, 1))
    for _ in range(n_rounds):
        tried = _converged(vectors, _moved(vectors, best, n_moved, generator))
        better = tried.errors < best.errors
        best = Clusters(*(_where(better, new, old) for new, old in zip(tried, best, strict=True)))
        n_moved = n_moved if better.any() else max(1, n_moved // 2)
    return best


def _where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return `new` for the sets that are chosen, and else `old`."""
    return torch.where(chosen.view(-1, *[1] * (new.ndim - 1)), new, old)


def _converged(vectors: Tensor, centres: Tensor) -> Clusters:
    """Return where Lloyd's iteration ends that starts at these centres.

    A centre that loses its vectors stays.
    """
    smallest = _TOL * vectors.var(1, correction=0).mean(1)
    for _ in range(_MOST_ITERATIONS):
        counts, sums = totals(vectors, nearest(vectors, centres), centres.shape[1])
        means = sums / counts.clamp(min=1.0)[:, :, None]
        moved = torch.where(counts[:, :, None] > 0, means, centres)
        steps, centres = (moved - centres).square().sum((1, 2)), moved
        if (steps <= smallest).all():
            break
    index = nearest(vectors, centres)
    chosen = centres.gather(1, index[:, :, None].expand_as(vectors))
    return Clusters(centres, index, (vectors - chosen).square().sum(2))


def _moved(vectors: Tensor, found: Clusters, n_moved: int, generator: Generator) -> Tensor:
    """Return centres of which some have moved onto vectors, far ones more often.

    They are those whose vectors it costs least to leave to the centre next to theirs; of two that
    are next to each other only one moves.
    """
    weights = found.distances.clamp(min=1e-30).cpu()
    drawn = weights.multinomial(min(n_moved, weights.shape[1]), generator=generator)
    counts = found.counts.clamp(min=1e-3)
    costs = torch.cdist(found.centres, found.centres).square()
    costs *= 1 / (1 / counts[:, :, None] + 1 / counts[:, None])
    costs.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    cost, neighbour = costs.min(2)
    own = torch.arange(cost.shape[1], device=cost.device)
    second_of_two = (neighbour.gather(1, neighbour) == own) & (own > neighbour)
    moved = cost.masked_fill(second_of_two, torch.inf).topk(drawn.shape[1], largest=False).indices
    index, onto = (
        each.to(vectors.device)[:, :, None].expand(-1, -1, vectors.shape[2])
        for each in (moved, drawn)
    )
    return found.centres.scatter(1, index, vectors.gather(1, onto))


def _spread(vectors: Tensor, n_centres: int, generator: Generator) -> Tensor:
    """Draw centres from the vectors one by one, far ones more often.

    The probability is in proportion to the squared distance to the nearest centre drawn before; of
    some candidates the one is taken that leaves the smallest sum of these.
    """
    n_sets, n_vectors, dim = vectors.shape
    origin = vectors.mean(1, keepdim=True)
    vectors = vectors - origin
    n_trials = 2 + int(math.log(n_centres))
    own = torch.arange(n_sets, device=vectors.device)
    norms, keys = vectors.square().sum(2)[:, None], vectors.transpose(1, 2)
    centres = vectors.new_zeros(n_sets, n_centres, dim)
    left = vectors.new_ones(n_sets, n_vectors)
    for i in range(n_centres):
        weights = left.clamp(min=1e-30).cpu()
        drawn = weights.multinomial(n_trials, replacement=True, generator=generator)
        candidates = vectors[own[:, None], drawn.to(vectors.device)]  # (n_sets, n_trials, dim)
        distances = torch.baddbmm(norms, candidates, keys, alpha=-2)
        distances += candidates.square().sum(2, keepdim=True)
        distances.clamp_(min=0.0)
        if i:
            distances = torch.minimum(distances, left[:, None])
        best = distances.sum(2).argmin(1)
        centres[:, i], left = candidates[own, best], distances[own, best]
    return centres + origin


def draw_vectors(vectors: Tensor, n_drawn: int, generator: Generator) -> Tensor:
    """Draw vectors of each set, (n_sets, n_drawn, dim), each once where there are enough."""
    n_sets, n_vectors, dim = vectors.shape
    shape = (n_sets, n_vectors)
    scores = torch.rand(shape, generator=generator, device="cpu", dtype=torch.float32)
    distinct = scores.topk(min(n_drawn, n_vectors), dim=1).indices
    index = distinct.repeat(1, math.ceil(n_drawn / n_vectors))[:, :n_drawn].to(vectors.device)
    return vectors.gather(1, index[:, :, None].expand(-1, -1, dim))
