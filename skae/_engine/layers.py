"""Networks as calls forward and backward: dense layers, and what autograd differentiates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..modules._custom import Rounded
from ..modules._network import LEAST_GAIN, Dense, DenseLayers, Network, dense_layers_of
from .kernels import BESIDE, IN_PLACE, accumulate_gradients, zero_all
from .program import Program, Signal


def write_network(
    program: Program, net: Network, x: Signal, y: Signal, mask: Tensor | None, *, inputs: bool
) -> None:
    """Write a network's pass from x to y.

    Parameters
    ----------
    program : Program
        What the calls are written to.
    net : Network
        The network. One that does not show its layers is differentiated automatically.
    x, y : Signal
        What goes in and what comes out.
    mask : torch.Tensor of shape (n_rows, sum of hidden widths) or None
        What hidden units are multiplied by.
    inputs : bool
        Whether the gradient in x is asked for.
    """
    layers = net.dense_layers()
    if layers is not None:
        _write_dense(program, layers, x, y, mask, inputs)
    else:
        _write_differentiated(program, net, x, y, mask, inputs)


def gradient_of(parameter: Tensor) -> Tensor:
    """Return the tensor in which a parameter's gradient is to be written; ValueError without."""
    if parameter.grad is None:
        raise ValueError("The parameter has no tensor for its gradient.")
    return parameter.grad


def _write_differentiated(
    program: Program, net: Network, x: Signal, y: Signal, mask: Tensor | None, inputs: bool
) -> None:
    masks = () if mask is None else (mask,)
    gradients = [gradient_of(weight) for weight in net.parameters() if weight.requires_grad]
    evaluate = Rounded(net) if program.rounds else net
    ends: list[Tensor] = []

    def forward() -> None:
        if gradients:  # before any is written, as networks may share weights
            zero_all(gradients)
        with torch.enable_grad():
            x_in = x.value.detach().requires_grad_(inputs)
            ends[:] = x_in, evaluate.forward(x_in, *masks)
        y.value.copy_(ends[1].detach())

    def backward() -> None:
        x_in, y_out = ends
        if y_out.requires_grad:
            accumulate_gradients(y_out, y.gradient)
        if inputs:
            x.gradient.zero_() if x_in.grad is None else x.gradient.copy_(x_in.grad)

    program.call(forward)
    program.on_backward(lambda: program.call(backward))


def _write_dense(
    program: Program, layers: DenseLayers, x: Signal, y: Signal, mask: Tensor | None, inputs: bool
) -> None:
    widths = [_matrix(layer, Tensor.detach).shape[1] for layer in layers.hidden]
    factors: Any = [None] * len(widths) if mask is None else mask.split(widths, dim=1)
    h = x
    for layer, width, factor in zip(layers.hidden, widths, factors, strict=True):
        h_next = program.signal(width)
        _write_affine(program, [(h, layer, inputs or h is not x)], h_next)
        h = _write_activation(program, layer.activation, h_next)
        if factor is not None:
            h = multiplied(program, h, factor)
    paths = [(h, layers.last, inputs or h is not x)] if layers.last else []
    paths += [(x, layers.linear, inputs)] if layers.linear else []
    _write_affine(program, paths, y)


def _matrix(layer: Dense, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what is made of a layer's weight, oriented as the matrix that rows meet."""
    weight = of(layer.weight)
    return weight if layer.mirrored else weight.t()


def _write_affine(program: Program, paths: list[tuple[Signal, Dense, bool]], y: Signal) -> None:
    """Write y as the sum of affine maps of signals, whose gradients are asked for or not."""
    bias, *others = [layer.bias.detach() for _, layer, _ in paths if layer.bias is not None]
    for other in others:
        total = torch.zeros_like(bias)
        program.call(torch.add, bias, other, out=total)
        bias = total
    start = bias.expand_as(y.value)
    for x, layer, _ in paths:
        program.write_product(x.value, _matrix(layer, Tensor.detach), y.value, start)
        start = y.value

    def write_backward() -> None:
        for x, layer, inputs in paths:
            program.add_product(x.value.t(), y.gradient, _matrix(layer, gradient_of))
            if layer.bias is not None:
                gradient = gradient_of(layer.bias)
                program.call(torch.mv, y.gradient.t(), program.ones, out=gradient)
            if inputs:
                matrix = _matrix(layer, Tensor.detach)
                program.add_product(y.gradient, matrix.t(), x.gradient)

    program.on_backward(write_backward)


def write_gains(program: Program, layers: DenseLayers) -> Signal:
    """Write a perceptron's gains, see `Network.gains`, and what they add to weights' gradients.

    The pass backward is to have written the gradients in the weights before.
    """
    chains = [[*layers.hidden, layers.last]] if layers.last else []
    chains += [[layers.linear]] if layers.linear else []
    width = _matrix(chains[0][0], Tensor.detach).shape[0]
    gains = Signal(program.buffer(width), program.buffer(width))
    written = [_Chain(program, chain) for chain in chains]

    def forward() -> None:
        gains.gradient.zero_()
        gains.value.fill_(LEAST_GAIN**2)
        for chain in written:
            gains.value.add_(chain.forward())
        gains.value.sqrt_()

    def backward() -> None:
        per_square = gains.gradient / gains.value  # twice the derivative in the squared gains
        for chain in written:
            chain.backward(per_square)

    program.call(forward)
    program.on_backward(lambda: program.call(backward))
    return gains


class _Chain:
    """Layers one after the other, and the sums over paths of products of their squared weights."""

    def __init__(self, program: Program, layers: Sequence[Dense]) -> None:
        self.matrices = [_matrix(layer, Tensor.detach) for layer in layers]
        self.gradients = [_matrix(layer, gradient_of) for layer in layers]
        self.squares = [torch.zeros_like(matrix) for matrix in self.matrices]
        self.after = [program.buffer(matrix.shape[0]) for matrix in self.matrices]
        self.after.append(program.buffer(self.matrices[-1].shape[1]).fill_(1.0))

    def forward(self) -> Tensor:
        """Return the sums over the paths from each input."""
        for i in reversed(range(len(self.matrices))):
            torch.square(self.matrices[i], out=self.squares[i])
            torch.mv(self.squares[i], self.after[i + 1], out=self.after[i])
        return self.after[0]

    def backward(self, before: Tensor) -> None:
        """Add to the gradients, given twice the derivative in each sum, that of the weights."""
        for i, (matrix, gradient) in enumerate(zip(self.matrices, self.gradients, strict=True)):
            sums = before[:, None] * self.after[i + 1]
            before = self.squares[i].t() @ before
            gradient.addcmul_(matrix, sums)


def multiplied(program: Program, h: Signal, factor: Tensor) -> Signal:
    """Write a product with factors that have no gradient, (n_rows, width), and return it."""
    y = Signal(torch.zeros_like(h.value), h.gradient)
    program.call(torch.mul, h.value, factor, out=y.value)
    program.on_backward(lambda: program.call(torch.mul, h.gradient, factor, out=h.gradient))
    return y


def _write_activation(program: Program, activation: nn.Module | None, h: Signal) -> Signal:
    kind: Any = type(activation)
    y = h
    if kind in IN_PLACE:
        function, derivative, more = IN_PLACE[kind]
        program.call(function, h.value)
    elif kind in BESIDE:
        function, derivative, more = BESIDE[kind]
        y = Signal(torch.zeros_like(h.value), h.gradient)
        program.call(function, h.value, out=y.value)
    else:
        return h
    arguments = (h.gradient, h.value, *more)
    program.on_backward(lambda: program.call(derivative, *arguments, grad_input=h.gradient))
    return y


def on_buffers(net: nn.Module) -> nn.Module:
    """Return a network of dense layers on buffers, and any other as it is."""
    return OnBuffers(net) if dense_layers_of(net) else net


class OnBuffers(nn.Module):
    """A network of dense layers that allocates nothing for numbers of rows that it has seen before.

    What it returns holds until the next call; only one thread may call it at a time.

    Parameters
    ----------
    net : Network
        The network, whose weights are used where they are.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self._net = (net,)  # in a tuple: it is not this module's
        self._programs: dict[int, tuple[Program, Tensor, Tensor]] = {}

    def __call__(self, x: Tensor) -> Tensor:  # nobody hooks into it
        """Map rows (n_rows, n_in) to (n_rows, n_out)."""
        n_rows = x.shape[0]
        if n_rows not in self._programs:
            self._programs[n_rows] = _forward_program(self._net[0], n_rows)
        program, x_in, y = self._programs[n_rows]
        x_in.copy_(x)
        program.replay()
        return y


def _forward_program(net: Network, n_rows: int) -> tuple[Program, Tensor, Tensor]:
    """Return a network's pass forward, what it reads and what it writes."""
    program = Program(n_rows, next(net.parameters()), differentiates=False)
    x, y = (program.signal(width) for width in (net.n_in, net.n_out))
    write_network(program, net, x, y, None, inputs=False)
    return program, x.value, y.value
