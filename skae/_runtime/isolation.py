"""Isolated state of torch's global generators and defaults, for code of the user's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Generator, Tensor

# Held while torch's global state is replaced, so that simultaneous fits do not mix theirs up.
_LOCK = threading.RLock()


@contextmanager
def isolated_state(
    generator: Generator, dtype: torch.dtype, device: torch.device | None = None
) -> Iterator[None]:
    """Let code of the user's run reproducibly, whatever torch's global state is.

    Such code may draw from torch's global generators and make tensors of its default dtype on its
    default device. All of these are set for the length of the block and put back.

    Parameters
    ----------
    generator : torch.Generator
        Source of the seed of the global generators.
    dtype : torch.dtype
        Default dtype.
    device : torch.device, default=None
        Where the code computes; None is the CPU.
    """
    device = device or torch.device("cpu")
    generators = _global_generators(device)
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    # A device context slows every call of torch down.
    elsewhere = torch.get_default_device() != device
    with _LOCK, device if elsewhere else nullcontext():
        states, default = [own.get_state() for own in generators], torch.get_default_dtype()
        try:
            torch.set_default_dtype(dtype)
            for own in generators:
                own.manual_seed(seed)
            yield
        finally:
            torch.set_default_dtype(default)
            for own, state in zip(generators, states, strict=True):
                own.set_state(state)


def _global_generators(device: torch.device) -> list[Generator]:
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    return generators


def seed_alike(device: torch.device) -> None:
    """Seed the global generators, inside `isolated_state`, as for any other rows."""
    for generator in _global_generators(device):
        generator.manual_seed(0)


def isolated_for(
    core: Any, x: Tensor, generator: Generator | None = None
) -> AbstractContextManager[None]:
    """Return the context in which `core` may be given rows `x`; it does nothing to built-in nets.

    Without a generator the global ones are seeded alike each time.
    """
    if not core.has_custom_parts:
        return nullcontext()
    generator = generator or Generator("cpu").manual_seed(0)
    return isolated_state(generator, x.dtype, x.device)
