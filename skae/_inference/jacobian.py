"""The Jacobian of decoding: what a unit of each code adds to a row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .._runtime.isolation import isolated_for
from .fitted import FittedNet

_FEATURES_AT_ONCE = 128


def loadings(net: FittedNet, code: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the Jacobian of `net.decode` at a code, float64 (n_components, n_features)."""
    core = net.core(torch.float64, device)
    at = torch.tensor(code, device=device, dtype=torch.float64)
    with isolated_for(core, at):
        gradients = _jacobian(partial(net.rows, core), at)
    return gradients.cpu().numpy() * net.unit_of_rows


def _jacobian(rows: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Return the Jacobian (n_components, n_features) of `rows` at a code.

    It is made of gradients of the features, some at a time: custom networks are sure to have these,
    but perhaps no second ones.
    """
    with torch.no_grad():
        n_features = rows(at.expand(1, -1)).shape[1]
    parts = []
    for features in torch.arange(n_features, device=at.device).split(_FEATURES_AT_ONCE):
        codes = at.repeat(len(features), 1).requires_grad_()
        chosen = rows(codes).gather(1, features[:, None])
        parts.append(torch.autograd.grad(chosen.sum(), codes)[0])
    return torch.cat(parts).T
