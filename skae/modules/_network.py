"""What an encoder or decoder can do: start at a linear map, ignore inputs, show its layers."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

# Gains are bounded away from zero, where the root has no derivative.
LEAST_GAIN = 1e-6


class Dense(NamedTuple):
    """An affine map ``x @ weight.T + bias``, or ``x @ weight + bias`` if `mirrored`."""

    weight: Tensor
    bias: Tensor | None  # (n_out,)
    mirrored: bool = False
    activation: nn.Module | None = None


class DenseLayers(NamedTuple):
    """The layers of a perceptron: hidden ones, the last one, and a linear path beside them."""

    hidden: list[Dense]
    last: Dense | None
    linear: Dense | None


def gains_of(layers: DenseLayers) -> Tensor:
    """Return how much outputs change with each input, shape (n_in,), see `Network.gains`."""
    paths = []
    if layers.last is not None:
        after = _squares(layers.last).sum(1)
        for layer in reversed(layers.hidden):
            after = _squares(layer) @ after
        paths.append(after)
    if layers.linear is not None:
        paths.append(_squares(layers.linear).sum(1))
    return (torch.stack(paths).sum(0) + LEAST_GAIN**2).sqrt()


def _squares(layer: Dense) -> Tensor:
    weight = layer.weight if layer.mirrored else layer.weight.t()
    return weight.square()


class Move(NamedTuple):
    """An isometry ``(x - origin) @ matrix.T + image``, whose inverse has the matrix transposed."""

    matrix: Tensor  # (n_after, n_before), float64
    origin: Tensor  # (n_before,)
    image: Tensor  # (n_after,)

    @property
    def inverse(self) -> Move:
        """The way back, of what lies in the image."""
        return Move(self.matrix.T, self.image, self.origin)


class Network(nn.Module):
    """Base of encoders and decoders: what it says is what the rest of the package goes by.

    The defaults are those of a network that can do nothing but map rows, and start at a linear map
    where it has a linear path.

    Parameters
    ----------
    n_in, n_out : int
        Number of inputs and outputs.

    Attributes
    ----------
    linear : torch.nn.Linear or None
        A linear path beside the others, which a subclass may set.
    mask_widths : list of int
        Widths of the hidden layers whose units dropout multiplies; empty without dropout.
    is_custom : bool
        Whether code of the user's runs in it, which needs isolated global state and is given
        blocks of rows one after the other.

    Examples
    --------
    A linear path, which can start at a linear map, and a wave beside it:

    >>> import torch
    >>> from skae.modules import Network
    >>> class Wave(Network):
    ...     def __init__(self, n_in, n_out):
    ...         super().__init__(n_in, n_out)
    ...         self.linear = torch.nn.Linear(n_in, n_out)
    ...         self.height = torch.nn.Parameter(torch.zeros(n_out))
    ...
    ...     def forward(self, x):
    ...         y = self.linear(x)
    ...         return y + self.height * y.sin()
    >>> wave = Wave(3, 2)
    >>> wave.start_at(torch.ones(2, 3), torch.zeros(2))
    >>> wave(torch.ones(1, 3)).detach()
    tensor([[3., 3.]])
    """

    n_in: int
    n_out: int
    mask_widths: list[int]
    is_custom: ClassVar[bool] = False
    # Beyond what weights say: multiply-adds per row of the largest product, and where weights are
    # used again, and the largest number of columns.
    largest_product: int = 0
    n_repeated: int = 0
    widest: int = 0

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_in, self.n_out, self.mask_widths = n_in, n_out, []
        self.linear: nn.Linear | None = None

    def dense_layers(self) -> DenseLayers | None:
        """Return the layers if they are all there is to the network; else None."""
        return None

    def gains(self) -> Tensor | None:
        """Return how much outputs change with each input, shape (n_in,); None if it is not known.

        It is the root of the sum over all paths from an input to an output of the product of the
        squared weights along it: of a linear map the norm of the input's column.
        """
        layers = self.dense_layers()
        return None if layers is None else gains_of(layers)

    @torch.no_grad()
    def start_at(self, weight: Tensor, offset: Tensor) -> None:
        """Start at the linear map ``x @ weight.T + offset``.

        Parameters
        ----------
        weight : torch.Tensor of shape (n_out, n_in)
            The map.
        offset : torch.Tensor of shape (n_out,)
            What it returns for zeros.

        Raises
        ------
        TypeError
            If the network cannot start at a linear map.
        """
        if self.linear is None:
            raise TypeError(
                f"{type(self).__name__} cannot start at a linear map: it has no linear path."
            )
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(offset)

    @torch.no_grad()
    def add_linear(self, weight: Tensor, offset: Tensor) -> None:
        """Add a linear map, as `start_at` has them, to the linear path.

        Parameters
        ----------
        weight : torch.Tensor of shape (n_out, n_in)
            What is added to the weights.
        offset : torch.Tensor of shape (n_out,)
            What is added to the biases.

        Raises
        ------
        TypeError
            If the network has no linear path.
        """
        if self.linear is None:
            raise TypeError(f"{type(self).__name__} has no linear path.")
        self.linear.weight.add_(weight.to(self.linear.weight))
        self.linear.bias.add_(offset.to(self.linear.bias))

    def no_decay(self) -> list[Tensor]:
        """Return the parameters without weight decay, beside biases."""
        return []

    def offset_outputs(self, offset: Tensor) -> None:
        """Start with outputs around `offset`, shape (n_out,), where the network can."""

    def ignore_inputs(self, constant: Tensor) -> None:
        """Ignore inputs that never vary, a boolean mask of shape (n_in,), where the network can."""

    def silence_outputs(self, constant: Tensor) -> None:
        """Return zeros for targets that never vary, a mask of shape (n_out,), where it can."""

    def read_moved(self, move: Move) -> None:
        """Take inputs that have been moved, and return what it did for those before.

        Parameters
        ----------
        move : Move
            The move.

        Raises
        ------
        TypeError
            If the network cannot.
        """
        raise TypeError(f"{type(self).__name__} cannot read rows in coordinates.")

    def write_moved(self, move: Move) -> None:
        """Return what it returned, moved.

        Parameters
        ----------
        move : Move
            The move.

        Raises
        ------
        TypeError
            If the network cannot.
        """
        raise TypeError(f"{type(self).__name__} cannot write rows in coordinates.")


def dense_layers_of(net: nn.Module) -> DenseLayers | None:
    """Return the layers of a network that shows them; None for any other module."""
    return net.dense_layers() if isinstance(net, Network) else None
