"""Which library makes a product fastest on this processor."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

# Multiply-adds from which a product by oneDNN pays for its set-up and for copying its result.
_ONEDNN_WORK = 2**23


def is_faster_by_onednn(multiply_adds: int, out: Tensor) -> bool:
    """Tell whether a product is large, in float32 and on a processor on which MKL is slow."""
    large = multiply_adds >= _ONEDNN_WORK and out.dtype == torch.float32
    return large and out.device.type == "cpu" and _mkl_is_slow()


@lru_cache(maxsize=1)
def _mkl_is_slow() -> bool:
    """Tell whether the processor is AMD's, where MKL reaches half of oneDNN's speed."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "AuthenticAMD" in described and torch.backends.mkldnn.is_available()


def onednn_product(a: Tensor, b: Tensor, out: Tensor, start: Tensor | None) -> None:
    """Write ``a @ b``, or ``start + a @ b``, to `out`, by oneDNN, whose products have no place."""
    product = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    if start is None:
        out.copy_(product)
    else:
        torch.add(start, product, out=out)
