"""Convolutional networks of images and series, with a linear (PCA) path beside them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import pad

from ._mlp import ACTIVATIONS, MLP, linear
from ._network import Network

N_GROUPS = 8
_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d}
Sizes = tuple[int, ...]


class Grid(NamedTuple):
    """How a row's features are laid out.

    Attributes
    ----------
    sizes : tuple of int
        Numbers of positions: of an image's rows and columns, or of time points.
    n_channels : int
        Number of values per position.
    channels_last : bool
        Whether the values of a position are next to each other in a row.
    """

    sizes: Sizes
    n_channels: int
    channels_last: bool

    def unflatten(self, x: Tensor) -> Tensor:
        """Return rows (batch, n_features) as (batch, n_channels, *sizes)."""
        if self.channels_last:
            return x.view(-1, *self.sizes, self.n_channels).movedim(-1, 1)
        return x.view(-1, self.n_channels, *self.sizes)

    def flatten(self, x: Tensor) -> Tensor:
        """Return (batch, n_channels, *sizes) as rows (batch, n_features)."""
        return (x.movedim(1, -1) if self.channels_last else x).flatten(1)


class Stack(NamedTuple):
    """What the convolutions of a network are like.

    Attributes
    ----------
    channels : sequence of int
        Number of channels after each of the encoder's convolutions, which halve the numbers of
        positions.
    kernel_size : int
        Width of kernels.
    n_residual_blocks : int
        Number of residual blocks after each convolution.
    normalize : bool
        Whether channels are normalised in groups.
    causal : bool
        Whether what comes out at a time depends on no later one.
    activation : str
        Activation between layers.
    """

    channels: Sequence[int]
    kernel_size: int
    n_residual_blocks: int
    normalize: bool
    causal: bool
    activation: str

    def sizes(self, grid: Grid) -> list[Sizes]:
        """Return the numbers of positions, from those of a row to those after each convolution."""
        sizes = [grid.sizes]
        for _ in self.channels:
            sizes.append(tuple(-(-size // 2) for size in sizes[-1]))
        return sizes

    def level(
        self, n_in: int, n_out: int, sizes: Sizes, generator: Generator, stride: int = 1
    ) -> list[nn.Module]:
        """Return a convolution to positions of these numbers, and what follows it there."""
        how: Any = {"causal": self.causal, "generator": generator}
        layers: list[nn.Module] = [
            Convolution(n_in, n_out, self.kernel_size, sizes, stride=stride, **how)
        ]
        activation = ACTIVATIONS[self.activation]
        for _ in range(self.n_residual_blocks):
            first = Convolution(n_out, n_out, self.kernel_size, sizes, **how)
            last = Convolution(n_out, n_out, 1, sizes, **how)
            nn.init.zeros_(last.convolution.weight)
            layers.append(Residual(activation(), first, activation(), last))
        if self.normalize:
            layers.append(nn.GroupNorm(N_GROUPS, n_out, device="cpu", dtype=torch.float32))
        return [*layers, activation()]


class Convolution(nn.Module):
    """A convolution that keeps the numbers of positions, or divides them by the stride.

    Parameters
    ----------
    n_in, n_out : int
        Numbers of channels.
    kernel_size : int
        Width of the kernel, odd unless `causal`.
    sizes : tuple of int
        Numbers of positions of what comes out.
    stride : int, default=1
        By how many positions the kernel moves.
    causal : bool
        Whether it looks at no later positions.
    generator : torch.Generator
        Source of the weights.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: int,
        sizes: Sizes,
        *,
        stride: int = 1,
        causal: bool,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.before = kernel_size - 1 if causal else 0
        around = 0 if causal else kernel_size // 2
        how = {"stride": stride, "padding": around, "device": "cpu", "dtype": torch.float32}
        make: Any = nn.utils.skip_init  # leaves torch's global generator alone
        self.convolution = make(_CONVOLUTIONS[len(sizes)], n_in, n_out, kernel_size, **how)
        nn.init.kaiming_uniform_(self.convolution.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(self.convolution.bias)
        self.n_positions, self.n_channels = prod(sizes), n_out

    @property
    def work(self) -> int:
        """Multiply-adds per row."""
        return self.n_positions * self.convolution.weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, ...) to (batch, n_out, *sizes)."""
        y: Tensor = self.convolution(pad(x, (self.before, 0)) if self.before else x)
        return y


def convolutions_of(module: nn.Module) -> list[Any]:
    """Return the convolutions in a module, first to last."""
    return [layer for layer in module.modules() if hasattr(layer, "n_positions")]


class Residual(nn.Module):
    """Layers whose output is added to what they are given.

    Parameters
    ----------
    *layers : torch.nn.Module
        The layers.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_channels, ...) to the same shape."""
        y: Tensor = self.layers(x)
        return x + y


class _Reshaped(nn.Module):
    """Rows as positions with channels, or these as rows."""

    def __init__(self, grid: Grid, *, flat: bool) -> None:
        super().__init__()
        self.grid, self.flat = grid, flat

    def forward(self, x: Tensor) -> Tensor:
        return self.grid.flatten(x) if self.flat else self.grid.unflatten(x)


class ConvolutionalNetwork(Network):
    """Convolutions and a perceptron, with a linear path beside them where `skip` asks for one.

    The last layer then starts at zero, so that the network starts as the linear path.

    Parameters
    ----------
    n_in, n_out : int
        Numbers of inputs and outputs.
    grid : Grid
        How rows are laid out.
    before : list of torch.nn.Module
        What rows go through before the perceptron.
    dense : MLP or None
        The perceptron, without a linear path; None for none.
    after : list of torch.nn.Module
        What its output goes through.
    skip : bool
        Whether there is a linear path.
    generator : torch.Generator
        Source of its weights.
    """

    used_in: Tensor
    used_out: Tensor

    def __init__(
        self,
        n_in: int,
        n_out: int,
        grid: Grid,
        before: Sequence[nn.Module],
        dense: MLP | None,
        after: Sequence[nn.Module],
        *,
        skip: bool,
        generator: Generator,
    ) -> None:
        super().__init__(n_in, n_out)
        self.grid = grid
        self.before, self.dense, self.after = nn.Sequential(*before), dense, nn.Sequential(*after)
        self.mask_widths = dense.mask_widths if dense else []
        self.linear = linear(n_in, n_out, generator) if skip else None
        if skip:
            nn.init.zeros_(self._last().weight)
        for name, width in (("used_in", n_in), ("used_out", n_out)):
            self.register_buffer(name, torch.ones(width, device="cpu", dtype=torch.float32))
        layers = convolutions_of(self)
        self.largest_product = max(layer.work for layer in layers)
        self.n_repeated = sum(layer.work - layer.work // layer.n_positions for layer in layers)
        self.widest = max(layer.n_positions * layer.n_channels for layer in layers)

    def forward(self, x: Tensor, masks: Tensor | None = None) -> Tensor:
        """Map rows (batch, n_in) to (batch, n_out), the perceptron's units times `masks`."""
        h = self.before(x * self.used_in)
        h = h if self.dense is None else self.dense(h, masks)
        y: Tensor = self.after(h) * self.used_out
        return y if self.linear is None else self.linear(x) + y

    def _last(self) -> Any:
        """Return the last layer of the nonlinear path."""
        if self.dense is not None and not convolutions_of(self.after):
            return self.dense.layers[-1] if len(self.dense.layers) else self.dense.linear
        return convolutions_of(self)[-1].convolution

    def no_decay(self) -> list[Tensor]:
        """Return the weights of the linear path."""
        return [] if self.linear is None else [self.linear.weight]

    @torch.no_grad()
    def offset_outputs(self, offset: Tensor) -> None:
        """Start with outputs around `offset`, shape (n_out,).

        Without a linear path it is the mean for each channel over the positions that vary.
        """
        layer = self.linear or self._last()
        if len(layer.bias) < len(offset):
            used = self.grid.unflatten(self.used_out[None]).flatten(2)[0]
            values = self.grid.unflatten(offset[None].to(used)).flatten(2)[0]
            offset = (values * used).sum(1) / used.sum(1).clamp(min=1)
        layer.bias.copy_(offset)

    @torch.no_grad()
    def ignore_inputs(self, constant: Tensor) -> None:
        """Take zeros for inputs that never vary (boolean mask of shape (n_in,))."""
        self.used_in[constant] = 0.0
        if self.linear is not None:
            self.linear.weight[:, constant] = 0.0

    @torch.no_grad()
    def silence_outputs(self, constant: Tensor) -> None:
        """Return zeros for targets that never vary (boolean mask of shape (n_out,))."""
        self.used_out[constant] = 0.0
        if self.linear is not None:
            self.linear.weight[constant] = 0.0
            self.linear.bias[constant] = 0.0


def convolutional_pair(
    grid: Grid,
    stack: Stack,
    *,
    n_encoded: int,
    n_components: int,
    hidden_layer_sizes: Sequence[int],
    by_position: bool = False,
    skip: bool,
    generator: Generator,
) -> tuple[ConvolutionalNetwork, ConvolutionalNetwork]:
    """Build an encoder, and a decoder that mirrors it.

    Before each of its convolutions the decoder repeats positions: what is upsampled by transposed
    convolutions has the pattern of these [1]_.

    Parameters
    ----------
    grid : Grid
        How rows are laid out.
    stack : Stack
        What convolutions are like.
    n_encoded, n_components : int
        Widths of the encoder's output and of a code.
    hidden_layer_sizes : sequence of int
        Hidden layers between convolutions and codes; in reverse order in the decoder.
    by_position : bool, default=False
        Whether there are no dense layers, and each position has its own part of the code.
    skip : bool
        Whether there are linear paths.
    generator : torch.Generator
        Source of the weights.

    Returns
    -------
    encoder, decoder : ConvolutionalNetwork

    References
    ----------
    .. [1] Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", 2016.
    """
    channels, sizes = [grid.n_channels, *stack.channels], stack.sizes(grid)
    n_features, widths = prod(grid.sizes) * grid.n_channels, list(hidden_layer_sizes)
    inner = Grid(sizes[-1], channels[-1], channels_last=False)
    n_positions, n_inner = prod(inner.sizes), prod(inner.sizes) * inner.n_channels
    how: Any = {"skip": skip, "generator": generator}
    plain: Any = {"causal": stack.causal, "generator": generator}

    before: list[nn.Module] = [_Reshaped(grid, flat=False)]
    for i in range(1, len(sizes)):
        before += stack.level(channels[i - 1], channels[i], sizes[i], generator, stride=2)
    dense = None
    if by_position:
        places = inner._replace(n_channels=n_encoded // n_positions, channels_last=True)
        before.append(Convolution(channels[-1], places.n_channels, 1, sizes[-1], **plain))
        before.append(_Reshaped(places, flat=True))
    else:
        dense = MLP(n_inner, n_encoded, widths, stack.activation, generator=generator)
        before.append(_Reshaped(inner, flat=True))
    encoder = ConvolutionalNetwork(n_features, n_encoded, grid, before, dense, [], **how)

    before = []
    if by_position:
        places = places._replace(n_channels=n_components // n_positions)
        before.append(_Reshaped(places, flat=False))
        before.append(Convolution(places.n_channels, channels[-1], 1, sizes[-1], **plain))
    else:
        dense = MLP(n_components, n_inner, widths[::-1], stack.activation, generator=generator)
    after: list[nn.Module] = [] if by_position else [_Reshaped(inner, flat=False)]
    after.append(ACTIVATIONS[stack.activation]())
    for i in range(len(sizes) - 1, 0, -1):
        after.append(nn.Upsample(sizes[i - 1]))
        if i > 1:
            after += stack.level(channels[i], channels[i - 1], sizes[i - 1], generator)
    after.append(Convolution(channels[1], channels[0], stack.kernel_size, sizes[0], **plain))
    after.append(_Reshaped(grid, flat=True))
    decoder = ConvolutionalNetwork(n_components, n_features, grid, before, dense, after, **how)
    return encoder, decoder
