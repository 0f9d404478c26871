"""Building a core: built-in perceptrons, or the user's own encoder and decoder."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, nn

from ._core import Core
from ._mlp import MLP, MirroredMLP

Part = nn.Module | Callable[[int, int], nn.Module] | None


# Held while torch's global state is borrowed, so that simultaneous fits do not share a loan.
_LOAN = threading.RLock()


def build_core(
    make: Callable[[nn.Module, nn.Module], Core],
    *,
    n_features: int,
    n_encoded: int,
    n_components: int,
    hidden_layer_sizes: Sequence[int],
    activation: str,
    skip: bool,
    encoder: Part,
    decoder: Part,
    generator: Generator,
    tied_weights: bool = False,
) -> Core:
    """Build encoder and decoder, the decoder's hidden layers in reverse order, and their core.

    Parameters
    ----------
    make : callable
        ``make(encoder, decoder) -> Core``.
    n_features, n_encoded, n_components : int
        Widths of a row, of the encoder's output and of a code.
    hidden_layer_sizes : sequence of int
        Widths of the encoder's hidden layers.
    activation : str
        Activation of the built-in perceptrons.
    skip : bool
        Whether these have a linear path.
    encoder, decoder : torch.nn.Module, callable ``(n_in, n_out) -> torch.nn.Module`` or None
        The user's own parts; None for a perceptron.
    generator : torch.Generator
        Source of the initial weights.
    tied_weights : bool, default=False
        Whether the decoder uses the encoder's weights, transposed, where that is a perceptron.

    Returns
    -------
    Core
        The core, float32 on the CPU.

    Raises
    ------
    ValueError
        If one of the user's own parts returns another shape than it must.
    """
    widths = list(hidden_layer_sizes)
    first = _build_part(
        "encoder", encoder, n_features, n_encoded, widths, activation, skip, generator
    )
    if tied_weights and isinstance(first, MLP):
        return make(first, MirroredMLP(first))
    second = _build_part(
        "decoder", decoder, n_components, n_features, widths[::-1], activation, skip, generator
    )
    return make(first, second)


def _build_part(
    role: str,
    part: Part,
    n_in: int,
    n_out: int,
    hidden_layer_sizes: Sequence[int],
    activation: str,
    skip: bool,
    generator: Generator,
) -> nn.Module:
    """Return a perceptron for None, a deep copy of a module, or what a callable makes."""
    if part is None:
        return MLP(n_in, n_out, hidden_layer_sizes, activation, skip=skip, generator=generator)
    if isinstance(part, nn.Module):
        module = copy.deepcopy(part)
    else:
        module = _call_seeded(part, n_in, n_out, generator)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"The {role} must be a torch.nn.Module or a callable (n_in, n_out) that returns one, "
            f"but {part!r} returned {module!r}."
        )
    module = module.to(device="cpu", dtype=torch.float32)
    rows = torch.zeros((2, n_in), device="cpu", dtype=torch.float32)
    try:
        with torch.no_grad():
            shape = tuple(module.eval()(rows).shape)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"The {role} must map rows of shape (2, {n_in}) to shape (2, {n_out}), but "
            f"{type(module).__name__} failed: {error}"
        ) from error
    if shape != (2, n_out):
        raise ValueError(
            f"The {role} must map rows of shape (2, {n_in}) to shape (2, {n_out}), but "
            f"{type(module).__name__} returned shape {shape}."
        )
    return module.train()


@contextmanager
def foreign_draws(generator: Generator, device: torch.device | None = None) -> Iterator[None]:
    """Let code of the user's draw reproducibly from torch's global generators, put back afterwards.

    Parameters
    ----------
    generator : torch.Generator
        Source of their seed.
    device : torch.device, default=None
        Where the code draws, besides the CPU.
    """
    generators = [torch.default_generator]
    if device is not None and device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    with _LOAN:
        before = [own.get_state() for own in generators]
        try:
            for own in generators:
                own.manual_seed(seed)
            yield
        finally:
            for own, state in zip(generators, before, strict=True):
                own.set_state(state)


def _call_seeded(
    factory: Callable[[int, int], nn.Module], n_in: int, n_out: int, generator: Generator
) -> nn.Module:
    """Let a user's factory draw its weights reproducibly.

    Such code makes its weights in torch's default dtype and on its default device, which are set
    for the length of the call and put back.
    """
    with foreign_draws(generator), torch.device("cpu"):
        dtype = torch.get_default_dtype()
        try:
            torch.set_default_dtype(torch.float32)
            return factory(n_in, n_out)
        finally:
            torch.set_default_dtype(dtype)
