"""Gradients of the built-in networks written out: forward and backward pass on fixed buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._products import is_faster_by_onednn, onednn_product
from .modules import MLP, MirroredMLP, _building
from .modules._building import Foreign, Rounded

Call = Callable[[], Any]
Activation = Callable[["Tape", "Signal"], "Signal"]

_aten = torch.ops.aten


class Signal(NamedTuple):
    """Values on their way through a network, and the loss's slope in them, (n_rows, width)."""

    value: Tensor
    slope: Tensor


class Tape:
    """The calls of one pass forward and backward for batches of a fixed number of rows.

    A pass is one list of calls on tensors made beforehand: playing it allocates nothing and decides
    nothing. What is written forward registers what it does on the way back (`on_return`), which
    `turn` writes in reverse order.

    Slopes are those of the loss summed over rows, divided by `unit`.

    Parameters
    ----------
    n_rows : int
        Rows of a batch.
    like : torch.Tensor
        Has the dtype and device to work in.
    returns : bool, default=True
        Whether there is a way back, for which signals have room for slopes.
    updates : bool, default=False
        Whether what closed forms determine is updated on the way, as these are all rows of a step.
    rounds : bool, default=False
        Whether large products are in bfloat16.
    """

    def __init__(
        self,
        n_rows: int,
        like: Tensor,
        *,
        returns: bool = True,
        updates: bool = False,
        rounds: bool = False,
    ) -> None:
        self.n_rows, self.like = n_rows, like
        self.returns, self.updates, self.rounds = returns, updates, rounds
        self._rounded: dict[tuple[Any, ...], Tensor] = {}
        self.unit = 1.0
        self.calls: list[Call] = []
        self.sums: list[tuple[Tensor, float]] = []  # of losses: what is added up, and its factor
        self.loss_per_row = 0.0  # what does not depend on the rows
        self.ones = torch.ones(n_rows, dtype=like.dtype, device=like.device)
        self._returns: list[Call] = []
        self._begun: set[int] = set()

    def buffer(self, *shape: int) -> Tensor:
        """Return a tensor to write to; rows first."""
        return torch.zeros(shape, dtype=self.like.dtype, device=self.like.device)

    def signal(self, width: int) -> Signal:
        """Return a signal to write to."""
        value = self.buffer(self.n_rows, width)
        return Signal(value, torch.zeros_like(value) if self.returns else value[:0])

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        """Add a call."""
        self.calls.append(partial(function, *arguments, **keywords))

    def on_return(self, write: Call) -> None:
        """Register what adds the calls for the way back."""
        self._returns.append(write)

    def turn(self) -> None:
        """Add the calls for the way back, those of the last part first."""
        for write in reversed(self._returns):
            write()

    def add_product(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """Write ``a @ b`` to a slope, or add it to what the pass has written there before."""
        begun = out.data_ptr() in self._begun
        self._begun.add(out.data_ptr())
        self.write_product(a, b, out, out if begun else None)

    def write_product(self, a: Tensor, b: Tensor, out: Tensor, start: Tensor | None) -> None:
        """Write ``a @ b``, or ``start + a @ b``, to `out`."""
        if self.rounds and a.numel() * b.shape[1] >= _building.BFLOAT16_WORK:
            product = torch.zeros_like(out, dtype=torch.bfloat16)
            self.call(torch.mm, self._round(a), self._round(b), out=product)
            if start is None:
                self.call(out.copy_, product)
            else:
                self.call(torch.add, start, product, out=out)
        elif is_faster_by_onednn(a.numel() * b.shape[1], out):
            self.call(onednn_product, a, b, out, start)
        elif start is None:
            self.call(torch.mm, a, b, out=out)
        else:
            self.call(torch.addmm, start, a, b, out=out)

    def _round(self, factor: Tensor) -> Tensor:
        """Write a matrix in bfloat16, once: what has been a factor keeps its value in a pass."""
        if not factor.is_contiguous():
            return self._round(factor.t()).t()
        key = factor.data_ptr(), *factor.shape
        if key not in self._rounded:
            self._rounded[key] = torch.zeros_like(factor, dtype=torch.bfloat16)
            self.call(self._rounded[key].copy_, factor)
        return self._rounded[key]

    def count_product(self, a: Tensor, b: Tensor, factor: float) -> None:
        """Count ``factor * (a * b).sum()`` as loss."""
        total = self.buffer(1)
        self.call(total.addmv_, a.view(1, -1), b.view(-1))
        self.sums.append((total, factor))

    def count(self, values: Tensor, factor: float) -> Tensor:
        """Count ``factor * values.sum()`` as loss; return the tensor that `values` are added to."""
        total = torch.zeros_like(values)
        self.call(total.add_, values)
        self.sums.append((total, factor))
        return total

    def play(self) -> None:
        """Make the calls."""
        for call in self.calls:
            call()

    def captured(self, changed: Sequence[Tensor]) -> Call:
        """Return what makes all calls as one launch: a CUDA graph of them.

        They are made once before, so that libraries have set themselves up, after which sums and
        what else is `changed` by them is put back.
        """
        changed = [*(total for total, _ in self.sums), *changed]
        before = [tensor.clone() for tensor in changed]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.play()
        torch.cuda.current_stream().wait_stream(side)
        for tensor, saved in zip(changed, before, strict=True):
            tensor.copy_(saved)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.play()
        return graph.replay

    def take_loss(self) -> Tensor:
        """Return the loss counted since the last time, without `loss_per_row`, float64 ()."""
        loss = torch.zeros((), dtype=torch.float64, device=self.like.device)
        for total, factor in self.sums:
            loss.add_(total.sum(dtype=torch.float64), alpha=factor)
            total.zero_()
        return loss


class _Layer(NamedTuple):
    """An affine map ``x @ matrix + bias`` and the loss's slopes in its weights."""

    weight: Tensor
    bias: Tensor | None  # (n_out,)
    transposed: bool  # whether the matrix is the weight's transpose

    @property
    def matrix(self) -> Tensor:  # (n_in, n_out)
        """What rows are multiplied by."""
        return self._oriented(self.weight.detach())

    @property
    def matrix_slope(self) -> Tensor:
        """Where the slope in the matrix is to be written."""
        return self._oriented(_slope(self.weight))

    def _oriented(self, weight: Tensor) -> Tensor:
        return weight.t() if self.transposed else weight


def _slope(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise ValueError("The parameter has no place for its gradient.")
    return parameter.grad


def perceptron(
    tape: Tape,
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
    tape : Tape
        Where the calls go.
    net : MLP or MirroredMLP
        The perceptron.
    x, y : Signal
        What goes in and what comes out.
    mask : torch.Tensor of shape (n_rows, sum of hidden widths) or None
        What hidden units are multiplied by.
    returns : bool, default=True
        Whether the slope in x is asked for.
    """
    hidden, last, direct = _layers(net)
    widths = net.hidden_layer_sizes
    factors: Any = [None] * len(hidden) if mask is None else mask.split(widths, dim=1)
    h = x
    for (layer, activate), factor in zip(hidden, factors, strict=True):
        h_next = tape.signal(layer.matrix.shape[1])
        _affine(tape, [(h, layer, returns or h is not x)], h_next)
        h = activate(tape, h_next)
        if factor is not None:
            h = multiplied(tape, h, factor)
    paths = [(h, last, returns or h is not x)] if last else []
    paths += [(x, direct, returns)] if direct else []
    _affine(tape, paths, y)


def add_gradients(y: Tensor, slope: Tensor) -> None:
    """Add the gradients of y, of which the loss has this slope, to those of what it came from.

    It is what ``torch.Tensor.backward`` does after checks that take as long as the gradients of a
    small network.
    """
    engine = torch.autograd.Variable._execution_engine
    engine.run_backward((y,), (slope,), False, False, (), True, accumulate_grad=True)


def network(
    tape: Tape,
    net: MLP | MirroredMLP | Foreign,
    x: Signal,
    y: Signal,
    mask: Tensor | None,
    *,
    returns: bool = True,
) -> None:
    """Write the pass of a perceptron, see `perceptron`, or of a network of the user's own.

    The latter is differentiated automatically.
    """
    if not isinstance(net, Foreign):
        perceptron(tape, net, x, y, mask, returns=returns)
        return
    slopes = [_slope(weight) for weight in net.parameters() if weight.requires_grad]
    evaluate = Rounded(net) if tape.rounds else net
    ends: list[Tensor] = []

    def forward() -> None:
        if slopes:  # before any is written, as networks may share weights
            torch._foreach_zero_(slopes)
        with torch.enable_grad():
            x_in = x.value.detach().requires_grad_(returns)
            ends[:] = x_in, evaluate.forward(x_in)
        y.value.copy_(ends[1].detach())

    def backward() -> None:
        x_in, y_out = ends
        if y_out.requires_grad:
            add_gradients(y_out, y.slope)
        if returns:
            x.slope.zero_() if x_in.grad is None else x.slope.copy_(x_in.grad)

    tape.call(forward)
    tape.on_return(lambda: tape.call(backward))


def width_of(net: MLP | MirroredMLP | Foreign) -> tuple[int, int]:
    """Return the number of a network's inputs and outputs."""
    if isinstance(net, Foreign):
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
        self._tapes: dict[int, tuple[Tape, Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (n_rows, n_in) to (n_rows, n_out)."""
        n_rows = x.shape[0]
        if n_rows not in self._tapes:
            self._tapes[n_rows] = _forward_pass(self._net[0], n_rows)
        tape, x_in, y = self._tapes[n_rows]
        x_in.copy_(x)
        tape.play()
        return y


def _forward_pass(net: MLP | MirroredMLP, n_rows: int) -> tuple[Tape, Tensor, Tensor]:
    """Return a perceptron's pass, what it reads and what it writes."""
    tape = Tape(n_rows, next(net.parameters()), returns=False)
    x, y = (tape.signal(width) for width in width_of(net))
    perceptron(tape, net, x, y, None, returns=False)
    return tape, x.value, y.value


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


def _affine(tape: Tape, paths: list[tuple[Signal, _Layer, bool]], y: Signal) -> None:
    """Write y as the sum of affine maps of signals, whose slopes are asked for or not."""
    bias, *others = [layer.bias.detach() for _, layer, _ in paths if layer.bias is not None]
    for other in others:
        total = torch.zeros_like(bias)
        tape.call(torch.add, bias, other, out=total)
        bias = total
    start = bias.expand_as(y.value)
    for x, layer, _ in paths:
        tape.write_product(x.value, layer.matrix, y.value, start)
        start = y.value

    def back() -> None:
        for x, layer, returns in paths:
            tape.add_product(x.value.t(), y.slope, layer.matrix_slope)
            if layer.bias is not None:
                tape.call(torch.mv, y.slope.t(), tape.ones, out=_slope(layer.bias))
            if returns:
                tape.add_product(y.slope, layer.matrix.t(), x.slope)

    tape.on_return(back)


def multiplied(tape: Tape, h: Signal, factor: Tensor) -> Signal:
    """Write a product with constant factors, (n_rows, width), and return it."""
    y = Signal(torch.zeros_like(h.value), h.slope)
    tape.call(torch.mul, h.value, factor, out=y.value)
    tape.on_return(lambda: tape.call(torch.mul, h.slope, factor, out=h.slope))
    return y


def _in_place(function: Callable[..., Any], derivative: Callable[..., Any], *more: Any) -> Any:
    """Return an activation whose derivative follows from its result."""

    def activate(tape: Tape, h: Signal) -> Signal:
        tape.call(function, h.value)
        tape.on_return(lambda: tape.call(derivative, h.slope, h.value, *more, grad_input=h.slope))
        return h

    return activate


def _beside(function: Callable[..., Any], derivative: Callable[..., Any]) -> Any:
    """Return an activation whose derivative needs what went in."""

    def activate(tape: Tape, h: Signal) -> Signal:
        y = Signal(torch.zeros_like(h.value), h.slope)
        tape.call(function, h.value, out=y.value)
        tape.on_return(lambda: tape.call(derivative, h.slope, h.value, grad_input=h.slope))
        return y

    return activate


def unchanged(tape: Tape, h: Signal) -> Signal:
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
