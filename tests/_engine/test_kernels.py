"""Canaries of private torch: each name that the package uses is there and does what it did."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import skae
from skae._engine import kernels

PACKAGE = Path(skae.__file__).parent
PRIVATE = re.compile(r"torch\._\w+|torch\.ops\b|\._execution_engine|\btorch\.\w+\._[a-z]\w*")


def generator():
    """Return a seeded generator."""
    return torch.Generator().manual_seed(0)


def randn(*shape):
    """Return float64 draws."""
    return torch.randn(shape, generator=generator(), dtype=torch.float64)


def test_private_names_are_in_one_file():
    """When torch moves one, there is one place to mend."""
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if PRIVATE.search(path.read_text(encoding="utf-8").replace("torch.__path__", ""))
    }
    assert found == {"_engine/kernels.py"}


@pytest.mark.parametrize(
    "kind", [*kernels.IN_PLACE, *kernels.BESIDE], ids=lambda kind: kind.__name__
)
def test_activations_and_their_derivatives(kind):
    """They are those of the modules and of autograd: torch.ops.aten.*_backward.grad_input."""
    x, gradient = randn(5, 3), randn(5, 3) + 0.1
    leaf = x.clone().requires_grad_()
    expected = kind()(leaf)
    expected.backward(gradient)
    if kind in kernels.IN_PLACE:
        function, derivative, more = kernels.IN_PLACE[kind]
        value = seen = function(x)
    else:
        function, derivative, more = kernels.BESIDE[kind]
        value, seen = torch.zeros_like(x), x
        function(x, out=value)
    found = gradient.clone()
    derivative(found, seen, *more, grad_input=found)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(found, leaf.grad)


def test_fused_adam():
    """torch._fused_adam_ makes the step of torch.optim.Adam, for a gradient over a divisor.

    There is no first moment: what is written in its place may be the gradient.
    """
    weights = torch.randn(7, generator=generator())
    expected = nn.Parameter(weights.clone())
    optimizer = torch.optim.Adam([expected], lr=0.1, betas=(0.0, 0.999))
    scaled = torch.zeros(7)
    state = [scaled, torch.zeros(7), torch.zeros(())]
    update = kernels.adam_update(weights, scaled, state, 5.0)
    for rate in (0.1, 0.2, 0.05):
        gradient = torch.randn(7, generator=generator())
        scaled.copy_(5 * gradient)  # the division is in place
        expected.grad = gradient
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        state[2].add_(1)
        update(lr=rate)
    torch.testing.assert_close(weights, expected.detach())


def test_gradients_accumulate():
    """torch.autograd.Variable._execution_engine.run_backward is Tensor.backward."""
    leaf = randn(4).requires_grad_()
    for _ in range(2):
        y = leaf.square()
        kernels.accumulate_gradients(y, torch.ones_like(y))
    torch.testing.assert_close(leaf.grad, 4 * leaf.detach())


def test_zeros():
    """torch._foreach_zero_ sets all tensors."""
    tensors = [torch.ones(3), torch.ones(2, 2)]
    kernels.zero_all(tensors)
    assert not any(tensor.any() for tensor in tensors)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_product_by_onednn(start, transposed):
    """torch.ops.mkldnn._linear_pointwise multiplies."""
    a, b = randn(6, 4).float(), randn(4, 5).float()
    b = b.t().contiguous().t() if transposed else b
    begin = torch.ones(6, 5) if start else None
    out = torch.zeros(6, 5)
    kernels.onednn_product(a, b, out, begin)
    torch.testing.assert_close(out, a @ b + (1 if start else 0), rtol=1e-4, atol=1e-4)
    assert partial(kernels.is_faster_by_onednn, 1, out)() is False
