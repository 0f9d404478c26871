"""The one entry to private torch: names that it may move, each held by a test."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

_aten = torch.ops.aten

Activation = tuple[Callable[..., Any], Callable[..., Any], tuple[float, ...]]

# Activations in place: the function, its derivative from what it returned, and more arguments.
IN_PLACE: dict[type[nn.Module], Activation] = {
    nn.ReLU: (torch.relu_, _aten.threshold_backward.grad_input, (0,)),
    nn.Sigmoid: (torch.sigmoid_, _aten.sigmoid_backward.grad_input, ()),
    nn.Tanh: (torch.tanh_, _aten.tanh_backward.grad_input, ()),
}
# Activations beside what goes in, from which their derivative is computed.
BESIDE: dict[type[nn.Module], Activation] = {
    nn.GELU: (torch._C._nn.gelu, _aten.gelu_backward.grad_input, ()),
    nn.SiLU: (_aten.silu.out, _aten.silu_backward.grad_input, ()),
}

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


def accumulate_gradients(y: Tensor, gradient: Tensor) -> None:
    """Add gradients, given that in y, to the ``grad`` of what y came from.

    It is what ``torch.Tensor.backward`` does after checks that take as long as the gradients of a
    small network.
    """
    engine = torch.autograd.Variable._execution_engine
    engine.run_backward((y,), (gradient,), False, False, (), True, accumulate_grad=True)


def zero_all(tensors: list[Tensor]) -> None:
    """Set tensors to zero in one call."""
    torch._foreach_zero_(tensors)


def adam_update(
    weights: Tensor, gradient: Tensor, state: Sequence[Tensor], divisor: float
) -> Callable[..., Any]:
    """Return a call ``(lr=)`` that makes Adam's update of flat weights without a first moment.

    It is for the gradient over a divisor. `state` are what is written instead of the first moment,
    which may be the gradient, the second moment, and the number of steps, which the caller counts.
    """
    first, second, n_steps = state
    return partial(
        torch._fused_adam_,
        [weights],
        [gradient],
        [first],
        [second],
        [],
        [n_steps],
        beta1=0.0,
        beta2=0.999,
        weight_decay=0.0,
        eps=1e-8,
        amsgrad=False,
        maximize=False,
        grad_scale=torch.tensor(divisor, dtype=torch.float32, device=weights.device),
    )


def derivatives_along(
    function: Callable[[Tensor], Tensor], x: Tensor, tangents: Tensor
) -> Tensor | None:
    """Return the derivative of a function of each row of x along the row of tangents.

    None where the function has no such derivative. torch warns of what it loads at the first call.
    """
    try:
        with warnings.catch_warnings(), forward_ad.dual_level():
            warnings.simplefilter("ignore", DeprecationWarning)
            value, tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(x, tangents)))
    except (NotImplementedError, RuntimeError):
        return None
    return torch.zeros_like(value) if tangent is None else tangent.detach()
