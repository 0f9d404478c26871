"""Adam on flat vectors: all weights are views of one, all gradients of another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import nn

from .._engine.kernels import adam_update


class Adam:
    """Adam [1]_, each update of which is one fused operation on flat vectors.

    Weight decay is decoupled [2]_ and spares some weights.

    Parameters
    ----------
    parameters : sequence of torch.nn.Parameter
        What is learned. They become views of `weights`, and their gradients of `gradient`.
    spared : collection of int
        ``id`` of those that weight decay spares.

    Attributes
    ----------
    weights, gradient : torch.Tensor of shape (n_weights,)
        All weights, those that decay first, and their gradients.
    state : list of torch.Tensor
        First moment, second moment and number of steps.

    References
    ----------
    .. [1] Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.
    .. [2] Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], spared: Collection[int]) -> None:
        parameters = sorted(parameters, key=lambda p: id(p) in spared)
        device = next((p.device for p in parameters), torch.device("cpu"))
        dtype = next((p.dtype for p in parameters), torch.float32)
        sizes = [p.numel() for p in parameters]
        self.weights = torch.zeros(sum(sizes), device=device, dtype=dtype)
        self.gradient = torch.zeros_like(self.weights)
        self._decayed = self.weights[: sum(p.numel() for p in parameters if id(p) not in spared)]
        views = zip(self.weights.split(sizes), self.gradient.split(sizes), strict=True)
        for parameter, (weight, gradient) in zip(parameters, views, strict=True):
            weight.copy_(parameter.detach().reshape(-1))
            parameter.data = weight.view(parameter.shape)
            parameter.grad = gradient.view(parameter.shape)
        moments = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.state = [*moments, self.weights.new_zeros(())]
        self.set(0.0, 0.0, None)

    def set(self, rate: float, decay: float, longest: float | None) -> None:
        """Set the step size, the decay relative to it, and the largest norm of a gradient."""
        self._rate, self._kept, self._longest = rate, 1 - rate * decay, longest
        self._updates: dict[float, Callable[[], Any]] = {}

    def __call__(self, divisor: float) -> None:
        """Make the update for the gradient over a divisor."""
        if not len(self.weights):
            return
        if self._longest is not None:
            norm = self.gradient.norm().clamp(min=torch.finfo(self.gradient.dtype).tiny)
            self.gradient.mul_((self._longest * divisor / norm).clamp(max=1.0))
        if self._kept != 1:
            self._decayed.mul_(self._kept)
        self.state[2].add_(1)
        if divisor not in self._updates:
            self._updates[divisor] = adam_update(
                self.weights, self.gradient, self.state, self._rate, divisor
            )
        self._updates[divisor]()
