"""Which library makes a product fastest on this processor."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

# Multiply-adds from which a product by oneDNN pays for its set-up and for copying its result.
_ONEDNN_WORK = 2**23
# Vendor and family of the processors on which such products were measured to be faster by oneDNN
# than by MKL: AMD's Zen 5 (twice as fast). On Zen 3, Zen 4 and Intel's they are slower.
_ONEDNN_FAMILIES = {("AuthenticAMD", 26)}


def is_faster_by_onednn(multiply_adds: int, out: Tensor) -> bool:
    """Return whether a product is large, in float32 and on a processor on which MKL is slow."""
    large = multiply_adds >= _ONEDNN_WORK and out.dtype == torch.float32
    return large and out.device.type == "cpu" and _onednn_wins()


@lru_cache(maxsize=1)
def _onednn_wins() -> bool:
    return torch.backends.mkldnn.is_available() and processor_family() in _ONEDNN_FAMILIES


def processor_family() -> tuple[str, int] | None:
    """Return the processor's vendor and family as Linux tells them, None where it does not."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    vendor = re.search(r"^vendor_id\s*: (\S+)$", described, re.MULTILINE)
    family = re.search(r"^cpu family\s*: (\d+)$", described, re.MULTILINE)
    return (vendor[1], int(family[1])) if vendor and family else None


def onednn_product(a: Tensor, b: Tensor, out: Tensor, start: Tensor | None) -> None:
    """Write ``a @ b``, or ``start + a @ b``, to `out`, by oneDNN, which allocates its result."""
    product = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    if start is None:
        out.copy_(product)
    else:
        torch.add(start, product, out=out)
