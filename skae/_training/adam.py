"""Schedule-free Adam on flat vectors: all weights are views of one, all gradients of another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import nn

from .._engine.kernels import adam_update

# Gradients are taken at so large a share of the average and the rest of the last iterate.
_MOMENTUM = 0.9
# The first steps are shorter: the second moment is an estimate from few gradients then.
_WARMUP_STEPS = 100


class ScheduleFreeAdam:
    r"""Schedule-free Adam [1]_: steps as long as at the start, and an average of where they led.

    With :math:`z` the iterate, :math:`x` the average and :math:`y` where gradients :math:`g` are
    taken, the update of step :math:`t` is ([1]_, algorithm 1)

    .. math::
        y &= (1 - \beta) z_t + \beta x_t \\
        z_{t + 1} &= z_t - \gamma_t \left(\frac{g(y)}{\sqrt{\hat v_t} + \epsilon}
        + \lambda y\right) \\
        x_{t + 1} &= (1 - c_t) x_t + c_t z_{t + 1}

    :math:`\hat v` is Adam's second moment, and :math:`\gamma` rises to its value within 100 steps.
    The average gives a step the weight :math:`t \max_{i \le t} \gamma_i^2`, so that it forgets the
    first steps. Weight decay is decoupled and leaves some weights out.

    Between `begin` and `end` `weights` is :math:`y`, and otherwise the average, which may be
    changed: the iterate moves with it.

    Parameters
    ----------
    parameters : sequence of torch.nn.Parameter
        What is learned. They become views of `weights`, and their gradients of `gradient`.
    no_decay : collection of int
        ``id`` of those without weight decay.

    Attributes
    ----------
    weights, gradient : torch.Tensor of shape (n_weights,)
        All weights, those that decay first, and their gradients.
    state : list of torch.Tensor
        What else a run goes on from, outside of `begin` and `end`: the iterate minus the average,
        the second moment; and the number of steps, the sum of their weights and the largest rate.

    References
    ----------
    .. [1] Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, "The Road Less Scheduled", 2024.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], no_decay: Collection[int]) -> None:
        parameters = sorted(parameters, key=lambda p: id(p) in no_decay)
        device = next((p.device for p in parameters), torch.device("cpu"))
        dtype = next((p.dtype for p in parameters), torch.float32)
        sizes = [p.numel() for p in parameters]
        self.weights = torch.zeros(sum(sizes), device=device, dtype=dtype)
        self.gradient = torch.zeros_like(self.weights)
        n_decayed = sum(p.numel() for p in parameters if id(p) not in no_decay)
        views = zip(self.weights.split(sizes), self.gradient.split(sizes), strict=True)
        for parameter, (weight, gradient) in zip(parameters, views, strict=True):
            weight.copy_(parameter.detach().reshape(-1))
            parameter.data = weight.view(parameter.shape)
            parameter.grad = gradient.view(parameter.shape)
        self._iterate, self._average = torch.zeros_like(self.weights), self.weights.clone()
        self._decayed = self._iterate[:n_decayed], self.weights[:n_decayed]
        self._second = torch.zeros_like(self.weights)
        self._n_steps = torch.zeros((), device=device, dtype=torch.float32)  # CUDA reads no other
        counts = torch.zeros(3, device="cpu", dtype=torch.float64)
        self.state = [self._iterate, self._second, counts]
        self.set(0.0, 0.0, None)

    def set(self, rate: float, decay: float, largest_norm: float | None) -> None:
        """Set the step size, the decay relative to it, and the largest norm of a gradient."""
        self._rate, self._decay, self._largest_norm = rate, decay, largest_norm

    def begin(self) -> None:
        """Make `weights` what gradients are to be taken at."""
        self._t, self._total, self._largest_rate = self.state[2].tolist()
        self._n_steps.fill_(self._t)
        self._updates: dict[float, Callable[..., Any]] = {}
        self._average.copy_(self.weights)
        self._iterate.add_(self._average)
        self._look_ahead()

    def end(self) -> None:
        """Make `weights` the average."""
        self.state[2].copy_(self.state[2].new_tensor([self._t, self._total, self._largest_rate]))
        self._iterate.sub_(self._average)
        self.weights.copy_(self._average)

    def _look_ahead(self) -> None:
        torch.lerp(self._iterate, self._average, _MOMENTUM, out=self.weights)

    def __call__(self, divisor: float) -> None:
        """Make the update for the gradient over a divisor."""
        if not len(self.weights):
            return
        self._t += 1
        rate = self._rate * min(self._t / _WARMUP_STEPS, 1.0)
        if self._largest_norm is not None:
            norm = self.gradient.norm().clamp(min=torch.finfo(self.gradient.dtype).tiny)
            self.gradient.mul_((self._largest_norm * divisor / norm).clamp(max=1.0))
        if self._decay:
            iterate, weights = self._decayed
            iterate.sub_(weights, alpha=rate * self._decay)
        if divisor not in self._updates:
            moments = self.gradient, self._second, self._n_steps
            self._updates[divisor] = adam_update(self._iterate, self.gradient, moments, divisor)
        self._n_steps.add_(1)
        self._updates[divisor](lr=rate)
        self._largest_rate = max(self._largest_rate, rate)
        weight = self._t * self._largest_rate**2
        self._total += weight
        self._average.lerp_(self._iterate, weight / (self._total or 1.0))
        self._look_ahead()
