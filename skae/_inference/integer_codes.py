"""Integer codes: the vectors that they stand for, and the rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .fitted import FittedNet


def look_up(net: FittedNet, codes: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the vectors that integer codes stand for, float64 (n_rows, n_components)."""
    return net.map_codes(partial(_vectors, net), codes.astype(np.float64), device)


def decode_integers(net: FittedNet, codes: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the rows that integer codes stand for, float64 (n_rows, n_features)."""
    return net.decode(codes.astype(np.float64), device, partial(_vectors, net))


def _vectors(net: FittedNet, core: Any, codes: Tensor) -> Tensor:
    return net.leave_core(core.quantizer.lookup(codes.long()))
