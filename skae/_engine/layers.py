"""Layers as calls forward and backward: perceptrons, and networks that autograd differentiates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..modules import MLP, MirroredMLP
from ..modules._custom import CustomNetwork, Rounded
from .program import Program, Signal, _aten, accumulate_gradients

Activation = Callable[["Program", "Signal"], "Signal"]


class _Layer(NamedTuple):
    """An affine map ``x @ matrix + bias`` and the loss's gradients in its weights."""

    weight: Tensor
    bias: Tensor | None  # (n_out,)
    transposed: bool  # whether the matrix is the weight's transpose

    @property
    def matrix(self) -> Tensor:  # (n_in, n_out)
        """What rows are multiplied by."""
        return self._oriented(self.weight.detach())

    @property
    def matrix_gradient(self) -> Tensor:
        """Where the gradient in the matrix is to be written."""
        return self._oriented(_gradient_of(self.weight))

    def _oriented(self, weight: Tensor) -> Tensor:
        return weight.t() if self.transposed else weight


def _gradient_of(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise ValueError("The parameter has no place for its gradient.")
    return parameter.grad


def perceptron(
    program: Program,
    net: MLP | MirroredMLP,
    x: Signal,
    y: Signal,
    mask: Tensor | None,
    *,
    returns: bool = True,
) -> None:
    """Write a perceptron's pass from x to y.

    Parameters
    ----------
    program : Program
        Where the calls go.
    net : MLP or MirroredMLP
        The perceptron.
    x, y : Signal
        What goes in and what comes out.
    mask : torch.Tensor of shape (n_rows, sum of hidden widths) or None
        What hidden units are multiplied by.
    returns : bool, default=True
        Whether the gradient in x is asked for.
    """
    hidden, last, direct = _layers(net)
    widths = net.hidden_layer_sizes
    factors: Any = [None] * len(hidden) if mask is None else mask.split(widths, dim=1)
    h = x
    for (layer, activate), factor in zip(hidden, factors, strict=True):
        h_next = program.signal(layer.matrix.shape[1])
        _affine(program, [(h, layer, returns or h is not x)], h_next)
        h = activate(program, h_next)
        if factor is not None:
            h = multiplied(program, h, factor)
    paths = [(h, last, returns or h is not x)] if last else []
    paths += [(x, direct, returns)] if direct else []
    _affine(program, paths, y)


def network(
    program: Program,
    net: MLP | MirroredMLP | CustomNetwork,
    x: Signal,
    y: Signal,
    mask: Tensor | None,
    *,
    returns: bool = True,
) -> None:
    """Write the pass of a perceptron, see `perceptron`, or of a network of the user's own.

    The latter is differentiated automatically.
    """
    if not isinstance(net, CustomNetwork):
        perceptron(program, net, x, y, mask, returns=returns)
        return
    gradients = [_gradient_of(weight) for weight in net.parameters() if weight.requires_grad]
    evaluate = Rounded(net) if program.rounds else net
    ends: list[Tensor] = []

    def forward() -> None:
        if gradients:  # before any is written, as networks may share weights
            torch._foreach_zero_(gradients)
        with torch.enable_grad():
            x_in = x.value.detach().requires_grad_(returns)
            ends[:] = x_in, evaluate.forward(x_in)
        y.value.copy_(ends[1].detach())

    def backward() -> None:
        x_in, y_out = ends
        if y_out.requires_grad:
            accumulate_gradients(y_out, y.gradient)
        if returns:
            x.gradient.zero_() if x_in.grad is None else x.gradient.copy_(x_in.grad)

    program.call(forward)
    program.on_backward(lambda: program.call(backward))


def width_of(net: MLP | MirroredMLP | CustomNetwork) -> tuple[int, int]:
    """Return the number of a network's inputs and outputs."""
    if isinstance(net, CustomNetwork):
        return net.n_in, net.n_out
    if isinstance(net, MirroredMLP):
        n_out, n_in = width_of(net.source)
        return n_in, n_out
    if net.linear is not None:
        return net.linear.in_features, net.linear.out_features
    first, *_, last = net.linears()
    return first.in_features, last.out_features


class OnBuffers(nn.Module):
    """A perceptron that allocates nothing for blocks of as many rows as it has been given before.

    What it returns holds until the next call; only one thread may call it at a time.

    Parameters
    ----------
    net : MLP or MirroredMLP
        The perceptron, whose weights are used where they are.
    """

    def __init__(self, net: MLP | MirroredMLP) -> None:
        super().__init__()
        self._net = (net,)  # in a tuple: it is not this module's
        self._programs: dict[int, tuple[Program, Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (n_rows, n_in) to (n_rows, n_out)."""
        n_rows = x.shape[0]
        if n_rows not in self._programs:
            self._programs[n_rows] = _forward_pass(self._net[0], n_rows)
        program, x_in, y = self._programs[n_rows]
        x_in.copy_(x)
        program.replay()
        return y


def _forward_pass(net: MLP | MirroredMLP, n_rows: int) -> tuple[Program, Tensor, Tensor]:
    """Return a perceptron's pass, what it reads and what it writes."""
    program = Program(n_rows, next(net.parameters()), returns=False)
    x, y = (program.signal(width) for width in width_of(net))
    perceptron(program, net, x, y, None, returns=False)
    return program, x.value, y.value


def _layers(
    net: MLP | MirroredMLP,
) -> tuple[list[tuple[_Layer, Activation]], _Layer | None, _Layer | None]:
    """Return the hidden layers with their activations, the last layer, and the direct path."""
    mlp = net if isinstance(net, MLP) else net.source
    linears, activations = mlp.linears(), list(mlp.layers)[1::2]
    bias: Tensor | None = None
    if isinstance(net, MLP):
        layers = [_Layer(each.weight, each.bias, True) for each in linears]
        bias = None if mlp.linear is None else mlp.linear.bias
    else:
        biases = list(net.biases)
        pairs = zip(linears, biases, strict=False)
        layers = [_Layer(each.weight, own, False) for each, own in pairs][::-1]
        activations = activations[::-1]
        bias = None if layers else biases[0]
    direct = None
    if mlp.linear is not None:
        direct = _Layer(mlp.linear.weight, bias, isinstance(net, MLP))
    kinds = [_ACTIVATIONS[type(each)] for each in activations]
    last = layers.pop() if layers else None
    return list(zip(layers, kinds, strict=True)), last, direct


def _affine(program: Program, paths: list[tuple[Signal, _Layer, bool]], y: Signal) -> None:
    """Write y as the sum of affine maps of signals, whose gradients are asked for or not."""
    bias, *others = [layer.bias.detach() for _, layer, _ in paths if layer.bias is not None]
    for other in others:
        total = torch.zeros_like(bias)
        program.call(torch.add, bias, other, out=total)
        bias = total
    start = bias.expand_as(y.value)
    for x, layer, _ in paths:
        program.write_product(x.value, layer.matrix, y.value, start)
        start = y.value

    def back() -> None:
        for x, layer, returns in paths:
            program.add_product(x.value.t(), y.gradient, layer.matrix_gradient)
            if layer.bias is not None:
                program.call(torch.mv, y.gradient.t(), program.ones, out=_gradient_of(layer.bias))
            if returns:
                program.add_product(y.gradient, layer.matrix.t(), x.gradient)

    program.on_backward(back)


def multiplied(program: Program, h: Signal, factor: Tensor) -> Signal:
    """Write a product with constant factors, (n_rows, width), and return it."""
    y = Signal(torch.zeros_like(h.value), h.gradient)
    program.call(torch.mul, h.value, factor, out=y.value)
    program.on_backward(lambda: program.call(torch.mul, h.gradient, factor, out=h.gradient))
    return y


def _in_place(function: Callable[..., Any], derivative: Callable[..., Any], *more: Any) -> Any:
    """Return an activation whose derivative follows from its result."""

    def activate(program: Program, h: Signal) -> Signal:
        program.call(function, h.value)
        program.on_backward(
            lambda: program.call(derivative, h.gradient, h.value, *more, grad_input=h.gradient)
        )
        return h

    return activate


def _beside(function: Callable[..., Any], derivative: Callable[..., Any]) -> Any:
    """Return an activation whose derivative needs what went in."""

    def activate(program: Program, h: Signal) -> Signal:
        y = Signal(torch.zeros_like(h.value), h.gradient)
        program.call(function, h.value, out=y.value)
        program.on_backward(
            lambda: program.call(derivative, h.gradient, h.value, grad_input=h.gradient)
        )
        return y

    return activate


def unchanged(program: Program, h: Signal) -> Signal:
    """Return a signal as it is."""
    return h


logistic = _in_place(torch.sigmoid_, _aten.sigmoid_backward.grad_input)

_ACTIVATIONS: dict[type, Activation] = {
    nn.GELU: _beside(torch._C._nn.gelu, _aten.gelu_backward.grad_input),
    nn.Identity: unchanged,
    nn.ReLU: _in_place(torch.relu_, _aten.threshold_backward.grad_input, 0),
    nn.SiLU: _beside(_aten.silu.out, _aten.silu_backward.grad_input),
    nn.Sigmoid: logistic,
    nn.Tanh: _in_place(torch.tanh_, _aten.tanh_backward.grad_input),
}
