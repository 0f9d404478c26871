"""Building a core: built-in perceptrons, or custom encoders and decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, nn

from .._runtime.isolation import isolated_state
from ._core import Core
from ._custom import _make_custom
from ._mlp import MLP, MirroredMLP

Part = nn.Module | Callable[[int, int], nn.Module] | None
Pair = tuple[nn.Module, nn.Module]


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
    pair: Callable[..., Pair] | None = None,
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
        Custom parts; None for a perceptron.
    generator : torch.Generator
        Source of the initial weights.
    tied_weights : bool, default=False
        Whether the decoder uses the encoder's weights, transposed.
    pair : callable or None, default=None
        Makes both networks instead, of the arguments by name between `n_features` and `skip`, and
        `generator`.

    Returns
    -------
    Core
        The core, float32 on the CPU.

    Raises
    ------
    ValueError
        If a custom part, or a network of a pair, returns another shape than it must, or is to be
        tied.
    """
    check_tied_weights(tied_weights, encoder, decoder)
    widths = list(hidden_layer_sizes)
    if pair is not None:
        with isolated_state(generator, torch.float32):
            made = pair(
                n_features=n_features,
                n_encoded=n_encoded,
                n_components=n_components,
                hidden_layer_sizes=widths,
                activation=activation,
                skip=skip,
                generator=generator,
            )
        return make(*_checked_pair(made, (n_features, n_encoded), (n_components, n_features)))
    perceptron = partial(MLP, activation=activation, skip=skip)
    first = _build_part("encoder", encoder, n_features, n_encoded, perceptron, widths, generator)
    if tied_weights:
        return make(first, MirroredMLP(first))
    widths = widths[::-1]
    second = _build_part(
        "decoder", decoder, n_components, n_features, perceptron, widths, generator
    )
    return make(first, second)


def check_tied_weights(tied_weights: bool, encoder: Part, decoder: Part) -> None:
    """Raise a ValueError if the weights of a custom network are to be tied."""
    if tied_weights and not (encoder is None and decoder is None):
        raise ValueError(
            "tied_weights=True needs perceptrons, but encoder or decoder is given. Use "
            "tied_weights=False, and tie the weights in your own modules, or leave both at None."
        )


def _checked_pair(made: Any, *widths: tuple[int, int]) -> list[Any]:
    """Return an encoder and a decoder in float32, once they have proved to have these widths."""
    nets = list(made) if isinstance(made, tuple | list) else [made]
    found = [(getattr(net, "n_in", None), getattr(net, "n_out", None)) for net in nets]
    if found == list(widths) and all(hasattr(net, "ignore_inputs") for net in nets):
        nets = [net.to(device="cpu", dtype=torch.float32) for net in nets]
        with torch.no_grad():
            shapes = [tuple(net(torch.zeros(2, net.n_in, device="cpu")).shape) for net in nets]
        if shapes == [(2, n_out) for _, n_out in widths]:
            return nets
        made = f"networks that return {shapes} for two rows"
    raise ValueError(
        "build of an architecture must return an encoder and a decoder, two skae.modules.Network "
        f"with (n_in, n_out) of {widths[0]} and {widths[1]}, but returned {made}."
    )


def _build_part(
    role: str,
    part: Part,
    n_in: int,
    n_out: int,
    perceptron: Callable[..., MLP],
    widths: Sequence[int],
    generator: Generator,
) -> Any:
    """Return a perceptron for None, a deep copy of a module, or what a callable makes."""
    if part is None:
        return perceptron(n_in, n_out, widths, generator=generator)
    with isolated_state(generator, torch.float32):
        return _make_custom(role, part, n_in, n_out)
