"""The Jacobian of decoding: what a unit of each code adds to a row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._engine.kernels import derivatives_along
from .._runtime.isolation import isolated_for
from ..modules._network import Dense, DenseLayers
from ..objectives import Loss
from ..objectives._checks import is_built_in
from .fitted import FittedNet

_FEATURES_AT_ONCE = 128


def loadings(net: FittedNet, code: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the Jacobian of `net.decode` at a code, float64 (n_components, n_features)."""
    core = net.core(torch.float64, device)
    at = torch.tensor(code, device=device, dtype=torch.float64)
    layers = _layers(net, core)
    with isolated_for(core, at):
        if layers is None:
            jacobian = _of_any(partial(net.rows, core), at)
        else:
            raw = at if net.basis is None else net.basis.leave(at[None])[0]
            by_raw_code = _of_layers(layers, raw, net.loss)
            jacobian = by_raw_code if net.basis is None else net.basis.through(by_raw_code)
    return jacobian.T.cpu().numpy() * net.unit_of_rows


def _layers(net: FittedNet, core: Any) -> DenseLayers | None:
    """Return the decoder's layers, if they and an elementwise mean are all there is to it."""
    loss = net.loss
    elementwise = loss is None or type(loss).mean is Loss.mean or is_built_in(loss)
    layers: DenseLayers | None = core.decoder.dense_layers() if elementwise else None
    return layers


def _of_layers(layers: DenseLayers, z: Tensor, loss: Loss | None) -> Tensor:
    """Return the Jacobian (n_features, n_codes) of a perceptron, and a loss's mean, at codes z."""
    x, jacobian = z, None
    output, derivative = 0 * z[:1], 0 * z[:1]
    for layer in layers.hidden:
        x, jacobian = _affine(layer, x, jacobian)
        x, derivatives = _elementwise(layer.activation or torch.nn.Identity(), x)
        jacobian = derivatives[:, None] * jacobian
    if layers.last is not None:
        output, derivative = _affine(layers.last, x, jacobian)
    if layers.linear is not None:
        direct, weight = _affine(layers.linear, z, None)
        output, derivative = output + direct, derivative + weight
    if loss is None or type(loss).mean is Loss.mean:
        return derivative
    return _elementwise(loss.mean, output[None])[1][0][:, None] * derivative


def _affine(layer: Dense, x: Tensor, jacobian: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the layer's output before its activation, and the Jacobian there."""
    weight = (layer.weight.T if layer.mirrored else layer.weight).detach()
    y = weight @ x if layer.bias is None else weight @ x + layer.bias.detach()
    return y, weight if jacobian is None else weight @ jacobian


def _elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function of each entry, and its derivatives."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
        if y is x:  # the identity
            return x.detach(), torch.ones_like(x)
        return y.detach(), torch.autograd.grad(y.sum(), x)[0]


def _of_any(rows: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Return the Jacobian (n_features, n_codes) of `rows` at a code, of any network.

    It is made by forward differentiation, one row for each code; of a network that has no such
    derivatives, of gradients of the features, some at a time.
    """
    tangents = torch.eye(len(at), dtype=at.dtype, device=at.device)
    along = derivatives_along(rows, at.repeat(len(at), 1), tangents)
    return _backward(rows, at) if along is None else along.T


def _backward(rows: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    with torch.no_grad():
        n_features = rows(at.expand(1, -1)).shape[1]
    parts = []
    for features in torch.arange(n_features, device=at.device).split(_FEATURES_AT_ONCE):
        codes = at.repeat(len(features), 1).requires_grad_()
        chosen = rows(codes).gather(1, features[:, None])
        parts.append(torch.autograd.grad(chosen.sum(), codes)[0])
    return torch.cat(parts)
