"""Networks of the user's own: checked, wrapped, evaluated in bfloat16 where asked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ._core import Core, largest_weight
from ._network import Network

# Multiply-adds from which a product in bfloat16 pays.
BFLOAT16_WORK = 2**22


class CustomNetwork(Network):
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

    is_custom = True

    def __init__(self, module: nn.Module, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)
        self.module = module

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


def _make_custom(role: str, part: Any, n_in: int, n_out: int) -> nn.Module:
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
    return CustomNetwork(module, n_in, n_out).train()
