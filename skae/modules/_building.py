"""Building a core: built-in perceptrons, or the user's own encoder and decoder."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ._core import Core, largest_weight
from ._mlp import MLP, MirroredMLP

# Multiply-adds from which a product in bfloat16 pays.
BFLOAT16_WORK = 2**22

Part = nn.Module | Callable[[int, int], nn.Module] | None


# Held while torch's global state is borrowed, so that simultaneous fits do not share a loan.
_LOAN = threading.RLock()


class Foreign(nn.Module):
    """A network of the user's own.

    It is given copies, so that layers that work in place leave rows and codes as they are, and
    returns their dtype.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    n_in, n_out : int
        Number of its inputs and outputs.
    """

    def __init__(self, module: nn.Module, n_in: int, n_out: int) -> None:
        super().__init__()
        self.module, self.n_in, self.n_out = module, n_in, n_out

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (batch, n_in) to (batch, n_out).

        Raises
        ------
        ValueError
            If the network returns another shape.
        """
        result: Tensor = self.module(x.clone())
        if result.shape != (x.shape[0], self.n_out):
            raise ValueError(
                f"{type(self.module).__name__} must map rows of shape {tuple(x.shape)} to shape "
                f"{(x.shape[0], self.n_out)}, but returned shape {tuple(result.shape)}."
            )
        return result.to(x.dtype)


class Rounded(nn.Module):
    """A network that computes in bfloat16 where torch's autocast does, if it has large products.

    Parameters
    ----------
    net : torch.nn.Module
        The network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._largest = largest_weight(net)

    def forward(self, x: Tensor, *masks: Tensor) -> Tensor:
        """Map rows (batch, n_in) to (batch, n_out), in their dtype."""
        large = x.shape[0] * self._largest >= BFLOAT16_WORK
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=large):
            result: Tensor = self.net(x, *masks)
        return result.to(x.dtype)


def with_networks(core: Core, wrap: Callable[[nn.Module], nn.Module]) -> Core:
    """Return a core that is the same but for what is made of its encoder and decoder."""
    other = copy.copy(core)
    wrapped = {name: wrap(getattr(core, name)) for name in ("encoder", "decoder")}
    other._modules = {**core._modules, **wrapped}
    return other


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
        Whether the decoder uses the encoder's weights, transposed.

    Returns
    -------
    Core
        The core, float32 on the CPU.

    Raises
    ------
    ValueError
        If one of the user's own parts returns another shape than it must, or is to be tied.
    """
    if tied_weights and not (encoder is None and decoder is None):
        raise ValueError(
            "tied_weights=True needs the built-in networks, but encoder or decoder is given. Tie "
            "the weights in your own modules, or leave both at None."
        )
    widths = list(hidden_layer_sizes)
    perceptron = partial(MLP, activation=activation, skip=skip)
    first = _build_part("encoder", encoder, n_features, n_encoded, perceptron, widths, generator)
    if tied_weights and isinstance(first, MLP):
        return make(first, MirroredMLP(first))
    widths = widths[::-1]
    second = _build_part(
        "decoder", decoder, n_components, n_features, perceptron, widths, generator
    )
    return make(first, second)


def _build_part(
    role: str,
    part: Part,
    n_in: int,
    n_out: int,
    perceptron: Callable[..., MLP],
    widths: Sequence[int],
    generator: Generator,
) -> nn.Module:
    """Return a perceptron for None, a deep copy of a module, or what a callable makes."""
    if part is None:
        return perceptron(n_in, n_out, widths, generator=generator)
    with foreign_code(generator, torch.float32):
        return _make_foreign(role, part, n_in, n_out)


def _make_foreign(role: str, part: Any, n_in: int, n_out: int) -> nn.Module:
    """Return a deep copy of a module, or what a callable makes, once it has proved to work."""
    try:
        module = copy.deepcopy(part) if isinstance(part, nn.Module) else part(n_in, n_out)
    except TypeError as error:
        raise TypeError(
            f"The {role} must be a torch.nn.Module or a callable (n_in, n_out) that returns one, "
            f"but {part!r} failed for ({n_in}, {n_out}): {error}"
        ) from error
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
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"The {role} must map rows of shape (2, {n_in}) to shape (2, {n_out}), but "
            f"{type(module).__name__} failed: {error}"
        ) from error
    if shape != (2, n_out):
        raise ValueError(
            f"The {role} must map rows of shape (2, {n_in}) to shape (2, {n_out}), but "
            f"{type(module).__name__} returned shape {shape}."
        )
    return Foreign(module, n_in, n_out).train()


@contextmanager
def foreign_code(
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
    with _LOAN, device if elsewhere else nullcontext():
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
        generators.append(torch.cuda.default_generators[device.index or 0])
    return generators


def seed_alike(device: torch.device) -> None:
    """Seed the global generators, while they are lent, as for any other rows."""
    for generator in _global_generators(device):
        generator.manual_seed(0)


def lent_to(
    core: Core, x: Tensor, generator: Generator | None = None
) -> AbstractContextManager[None]:
    """Return the context in which `core` may be given rows `x`; it does nothing to built-in nets.

    Without a generator the global ones are seeded alike each time.
    """
    if not core.has_foreign_parts:
        return nullcontext()
    generator = generator or Generator("cpu").manual_seed(0)
    return foreign_code(generator, x.dtype, x.device)
