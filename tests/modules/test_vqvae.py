"""Tests of the vector-quantised network."""

import torch

from skae.modules import MLP, VQVAE, VectorQuantizer


def test_gradient_passes_straight_through():
    """The encoder's output receives exactly the gradient that the decoder's input has."""
    core = VQVAE(MLP(5, 4, []), MLP(4, 5, [8]), VectorQuantizer(2, 3, 2))
    core.quantizer.codebook.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    out = core(x)
    out.z_e.retain_grad()
    (out.x_hat - x).square().sum().backward()

    z = out.z.clone().requires_grad_()
    (core.decode(z) - x).square().sum().backward()
    torch.testing.assert_close(out.z_e.grad, z.grad)
    torch.testing.assert_close(out.x_hat, core.decode(out.z))


def test_encoding_is_the_vector_of_the_code():
    """Codes, their vectors and the forward pass agree."""
    core = VQVAE(MLP(5, 4, []), MLP(4, 5, []), VectorQuantizer(2, 3, 2))
    core.quantizer.codebook.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    out = core(x)

    assert torch.equal(out.codes, core.codes(x))
    assert torch.equal(out.z, core.encode(x))
    assert torch.equal(out.z, core.quantizer.lookup(out.codes))
