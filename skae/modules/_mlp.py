"""Multilayer perceptrons: hidden layers, activations, the linear (PCA) path beside them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from ._network import Dense, DenseLayers, Move, Network

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class _Linear(nn.Linear):
    """A linear layer without weights of its own choice."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are, and torch's global generator alone."""


def linear(n_in: int, n_out: int, generator: Generator) -> nn.Linear:
    """Make a float32 linear layer with Glorot-uniform weights and zero biases.

    Unlike ``nn.Linear(...)`` it draws from `generator`, never from torch's global one.
    """
    layer = _Linear(n_in, n_out, device="cpu", dtype=torch.float32)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _set(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Give a layer other weights, of other shapes."""
    layer.weight, layer.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
    layer.out_features, layer.in_features = weight.shape


class MLP(Network):
    """Multilayer perceptron, with a linear path beside it where `skip` asks for one.

    Without `skip` it is the plain network ``linear, activation, ..., linear``. With `skip` its
    output is ``linear(x) + nonlinear(x)`` where the last layer of the nonlinear path starts at
    zero, so that the network starts as the linear map in ``linear`` and training adds what a
    linear map cannot do.

    Parameters
    ----------
    n_in, n_out : int
        Number of inputs and outputs.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers; empty for a linear map.
    activation : {"gelu", "identity", "logistic", "relu", "silu", "tanh"}, default="relu"
        Activation between the layers.
    skip : bool, default=False
        Whether a linear path runs beside the hidden layers.
    generator : torch.Generator or None, default=None
        Source of the initial weights; None starts from seed 0.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP
    >>> net = MLP(4, 2, [8], skip=True)
    >>> x = torch.ones(3, 4)
    >>> torch.equal(net(x), net.linear(x))  # the nonlinear path starts at zero
    True
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden_layer_sizes: Sequence[int],
        activation: str = "relu",
        *,
        skip: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(n_in, n_out)
        self.hidden_layer_sizes = self.mask_widths = list(hidden_layer_sizes)
        generator = generator or torch.Generator("cpu").manual_seed(0)
        widths = [n_in, *hidden_layer_sizes]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [linear(fan_in, fan_out, generator), ACTIVATIONS[activation]()]
        direct = skip or not hidden_layer_sizes
        self.linear = linear(n_in, n_out, generator) if direct else None
        if hidden_layer_sizes:
            last = linear(widths[-1], n_out, generator)
            if skip:
                nn.init.zeros_(last.weight)
            layers.append(last)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, masks: Tensor | None = None) -> Tensor:
        """Map rows (batch, n_in) to (batch, n_out).

        Hidden units are multiplied by `masks`, those of all hidden layers side by side.
        """
        if self.linear is None:
            return self._nonlinear(x, masks)
        if len(self.layers) == 0:
            return self.linear(x)
        return self.linear(x) + self._nonlinear(x, masks)

    def _nonlinear(self, x: Tensor, masks: Tensor | None) -> Tensor:
        if masks is None:
            for layer in self.layers:
                x = layer.forward(x)
            return x
        *stages, last = self.stages()
        for stage, mask in zip(
            stages, torch.split(masks, self.hidden_layer_sizes, dim=1), strict=True
        ):
            x = stage(x) * mask
        return last(x)

    def no_decay(self) -> list[Tensor]:
        """Return the weights of the linear path beside hidden layers."""
        linear = list(self.linear.parameters()) if self.linear and len(self.layers) else []
        return [weights for weights in linear if weights.ndim == 2]

    def linears(self) -> list[nn.Linear]:
        """Return the hidden and last layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def dense_layers(self) -> DenseLayers:
        """Return hidden and last layer, and the linear path."""
        activations = [*list(self.layers)[1::2], None]
        layers = [
            Dense(each.weight, each.bias, False, activation)
            for each, activation in zip(self.linears(), activations, strict=False)
        ]
        linear = None if self.linear is None else Dense(self.linear.weight, self.linear.bias)
        return DenseLayers(layers[:-1], layers[-1] if layers else None, linear)

    def stages(self) -> list[nn.Module]:
        """Return the layers with their activations, first to last, sharing their weights."""
        layers = list(self.layers)
        return [nn.Sequential(*layers[i : i + 2]) for i in range(0, len(layers), 2)]

    @torch.no_grad()
    def offset_outputs(self, offset: Tensor) -> None:
        """Start with outputs around `offset`, shape (n_out,)."""
        self._outer_layers(-1)[-1].bias.copy_(offset)

    @torch.no_grad()
    def ignore_inputs(self, constant: Tensor) -> None:
        """Zero the weights of inputs that never vary (boolean mask of shape (n_in,))."""
        for layer in self._outer_layers(0):
            layer.weight[:, constant] = 0.0

    @torch.no_grad()
    def silence_outputs(self, constant: Tensor) -> None:
        """Zero the outputs of targets that never vary (boolean mask of shape (n_out,)).

        Their targets are zero as well, so their gradients vanish and they stay exactly zero.
        """
        for layer in self._outer_layers(-1):
            layer.weight[constant] = 0.0
            layer.bias[constant] = 0.0

    @torch.no_grad()
    def read_moved(self, move: Move) -> None:
        """Take inputs that have been moved, and return what it did for those before.

        Parameters
        ----------
        move : Move
            The move.
        """
        for layer in self._outer_layers(0):
            matrix, origin, image = self._as_exact_as(layer, move)
            weight = layer.weight.to(matrix.dtype)
            moved = weight @ matrix.T
            _set(layer, moved, layer.bias + weight @ origin - moved @ image)
        self.n_in = len(move.image)

    @torch.no_grad()
    def write_moved(self, move: Move) -> None:
        """Return what it returned, moved.

        Parameters
        ----------
        move : Move
            The move.
        """
        for i, layer in enumerate(self._outer_layers(-1)):
            matrix, origin, image = self._as_exact_as(layer, move)
            weight, bias = layer.weight.to(matrix.dtype), layer.bias.to(matrix.dtype)
            bias = matrix @ bias if i else matrix @ (bias - origin) + image
            _set(layer, matrix @ weight, bias)
        self.n_out = len(move.image)

    def _as_exact_as(self, layer: nn.Linear, move: Move) -> Move:
        """Return a move in float64 for the linear path, and in the layer's dtype for others."""
        return move if layer is self.linear else Move(*(part.to(layer.weight) for part in move))

    def _outer_layers(self, position: int) -> list[nn.Linear]:
        """Return the first (0) or last (-1) linear layer of each path."""
        layers = [self.linear, self.layers[position] if len(self.layers) else None]
        return [layer for layer in layers if isinstance(layer, nn.Linear)]


class MirroredLinear(nn.Module):
    """A linear layer run backwards: transposed weights that belong to it, and another bias.

    Parameters
    ----------
    layer : torch.nn.Linear
        The layer.
    bias : torch.nn.Parameter of shape (layer.in_features,)
        What is added.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MirroredLinear
    >>> layer = torch.nn.Linear(4, 2)
    >>> bias = torch.nn.Parameter(torch.zeros(4))
    >>> z = torch.ones(3, 2)
    >>> torch.equal(MirroredLinear(layer, bias)(z), z @ layer.weight)
    True
    """

    def __init__(self, layer: nn.Linear, bias: nn.Parameter) -> None:
        super().__init__()
        self._layer = (layer,)  # in a tuple: the weights are that layer's
        self.bias = bias

    def forward(self, z: Tensor) -> Tensor:
        """Map (batch, layer.out_features) to (batch, layer.in_features)."""
        return z @ self._layer[0].weight + self.bias


class MirroredMLP(Network):
    """Decoder with tied weights: a perceptron's layers in reverse order, transposed.

    Only its biases are its own.

    Parameters
    ----------
    mlp : MLP
        The perceptron, (batch, n_in) to (batch, n_out), whose weights it uses.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP, MirroredMLP
    >>> encoder = MLP(4, 2, [])
    >>> z = torch.ones(3, 2)
    >>> torch.equal(MirroredMLP(encoder)(z), z @ encoder.linear.weight)
    True
    """

    def __init__(self, mlp: MLP) -> None:
        super().__init__(mlp.n_out, mlp.n_in)
        self.hidden_layer_sizes = self.mask_widths = mlp.hidden_layer_sizes[::-1]
        self._mlp = (mlp,)  # in a tuple: the weights are the perceptron's, not this module's
        layers = mlp.linears()
        if not layers and mlp.linear is not None:
            layers = [mlp.linear]
        self.biases = nn.ParameterList(
            torch.zeros(layer.in_features, device="cpu", dtype=torch.float32) for layer in layers
        )

    @property
    def source(self) -> MLP:
        """The perceptron whose weights are used."""
        return self._mlp[0]

    def forward(self, z: Tensor, masks: Tensor | None = None) -> Tensor:
        """Map codes (batch, n_out) to rows (batch, n_in), hidden units multiplied by masks."""
        mlp = self.source
        x = self._nonlinear(z, masks) + self.biases[0]
        return x if mlp.linear is None else x + z @ mlp.linear.weight

    def _nonlinear(self, z: Tensor, masks: Tensor | None = None) -> Tensor | float:
        linears, activations = self.source.linears(), list(self.source.layers)[1::2]
        if not linears:
            return 0.0
        factors = None if masks is None else torch.split(masks, self.hidden_layer_sizes, dim=1)
        for i in range(len(linears) - 1, 0, -1):
            z = activations[i - 1](z @ linears[i].weight + self.biases[i])
            z = z if factors is None else z * factors[-i]
        return z @ linears[0].weight

    def dense_layers(self) -> DenseLayers:
        """Return hidden and last layer, and the linear path, all with the tied weights."""
        linears, biases = self.source.linears(), list(self.biases)
        activations = [None, *list(self.source.layers)[1::2]]
        layers = [
            Dense(each.weight, bias, True, activation)
            for each, bias, activation in zip(linears, biases, activations, strict=False)
        ][::-1]
        linear = self.source.linear
        path = None if linear is None else Dense(linear.weight, None if layers else biases[0], True)
        return DenseLayers(layers[:-1], layers[-1] if layers else None, path)

    def stages(self) -> list[nn.Module]:
        """Return the layers with their activations, first to last, sharing their weights."""
        linears, activations = self.source.linears(), list(self.source.layers)[1::2]
        stages: list[nn.Module] = []
        for i in range(len(linears) - 1, -1, -1):
            mirrored = MirroredLinear(linears[i], self.biases[i])
            stages.append(nn.Sequential(mirrored, *activations[i - 1 : i]))
        return stages

    @torch.no_grad()
    def start_at(self, weight: Tensor, offset: Tensor) -> None:
        """Start at ``z @ weight.T + offset``.

        Parameters
        ----------
        weight : torch.Tensor of shape (n_in, n_out)
            The tied weights of the linear path, transposed; not used.
        offset : torch.Tensor of shape (n_in,)
            What a code of zeros gives.
        """
        zero = torch.zeros(weight.shape[1], device="cpu", dtype=torch.float32)
        self.biases[0].copy_(offset - self._nonlinear(zero))

    @torch.no_grad()
    def add_linear(self, weight: Tensor, offset: Tensor) -> None:
        """Add an offset; the weights of the linear path are the perceptron's.

        Parameters
        ----------
        weight : torch.Tensor of shape (n_out, n_in)
            What is added to the weights.
        offset : torch.Tensor of shape (n_out,)
            What is added to the biases.
        """
        self.biases[0].add_(offset.to(self.biases[0]))

    @torch.no_grad()
    def offset_outputs(self, offset: Tensor) -> None:
        """Start with outputs around `offset`, shape (n_in,)."""
        self.biases[0].copy_(offset)

    @torch.no_grad()
    def silence_outputs(self, constant: Tensor) -> None:
        """Zero the outputs of targets that never vary; the tied weights of these are zero."""
        self.biases[0][constant] = 0.0

    @torch.no_grad()
    def write_moved(self, move: Move) -> None:
        """Return what it returned, moved: the weights are the perceptron's, which have been.

        Parameters
        ----------
        move : Move
            The move.
        """
        moved = move.matrix @ (self.biases[0] - move.origin) + move.image
        self.biases[0] = nn.Parameter(moved.float())
        self.n_out = len(move.image)
