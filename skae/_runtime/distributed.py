"""Ranks: training joins an initialised torch.distributed group, whose ranks share each batch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, distributed


def rank_and_size() -> tuple[int, int]:
    """Return this process's rank and the number of ranks; (0, 1) without a group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all ranks."""
    if rank_and_size()[1] > 1:
        for tensor in tensors:
            distributed.all_reduce(tensor)


def agreed(seed: int) -> int:
    """Return the seed of the first rank."""
    if rank_and_size()[1] == 1:
        return seed
    seeds = [seed]
    distributed.broadcast_object_list(seeds, src=0)
    return seeds[0]
