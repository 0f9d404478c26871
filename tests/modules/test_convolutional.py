"""Tests of convolutional networks: layouts, shapes, causality, gradients beside autograd's."""

import numpy as np
import pytest
import torch

from skae._training.step import Step
from skae.modules import Autoencoder
from skae.modules._convolutional import Convolution, Grid, Stack, convolutional_pair
from skae.objectives import Objective, SquaredError


def stack(channels=(4, 6), kernel_size=3, *, blocks=0, normalize=False, causal=False):
    """Return what convolutions are like."""
    return Stack(channels, kernel_size, blocks, normalize, causal, "tanh")


def pair(grid, layers, k=3, widths=(), *, skip=True, seed=0):
    """Return an encoder and a decoder with random weights everywhere, in float64."""
    generator = torch.Generator().manual_seed(seed)
    how = dict(n_encoded=k, n_components=k, hidden_layer_sizes=widths)
    nets = convolutional_pair(grid, layers, **how, skip=skip, generator=generator)
    with torch.no_grad():
        for net in nets:
            for weight in net.parameters():
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return [net.double() for net in nets]


@pytest.mark.parametrize(
    ("grid", "layers"),
    [
        (Grid((8, 8), 1, True), stack()),
        (Grid((7, 5), 3, True), stack((4, 8, 8), blocks=1)),
        (Grid((5, 9), 2, False), stack((8,), 5, normalize=True)),
        (Grid((1, 1), 2, False), stack((4,), 1)),
        (Grid((13,), 3, True), stack((8, 16), 4, blocks=1, causal=True)),
        (Grid((2,), 1, True), stack()),
    ],
)
@pytest.mark.parametrize("widths", [(), (6,)])
@pytest.mark.parametrize("skip", [True, False])
def test_rows_of_any_shape_become_codes_and_rows_again(grid, layers, widths, skip):
    """Odd sizes too, in both dtypes, and each row by itself."""
    n_features = int(np.prod(grid.sizes)) * grid.n_channels
    encoder, decoder = pair(grid, layers, widths=widths, skip=skip)
    x = torch.randn(5, n_features).double()
    z = encoder(x)
    assert z.shape == (5, 3)
    assert decoder(z).shape == (5, n_features)
    torch.testing.assert_close(encoder(x[2:3]), z[2:3])
    torch.testing.assert_close(decoder(z[2:3]), decoder(z)[2:3])
    assert encoder.float()(x.float()).dtype == torch.float32


def test_layouts_are_the_same_network():
    """Pixels in another order, with the linear path's weights in that order, give the same."""
    last, first = Grid((6, 4), 3, True), Grid((6, 4), 3, False)
    order = np.arange(72).reshape(6, 4, 3).transpose(2, 0, 1).ravel()
    nets = [pair(grid, stack()) for grid in (last, first)]
    with torch.no_grad():
        nets[1][0].linear.weight.copy_(nets[0][0].linear.weight[:, order])
        for name in ("weight", "bias"):
            values = getattr(nets[0][1].linear, name)[order]
            getattr(nets[1][1].linear, name).copy_(values)
    x = torch.randn(4, 72).double()
    z = nets[0][0](x)
    torch.testing.assert_close(nets[1][0](x[:, order]), z)
    torch.testing.assert_close(nets[1][1](z), nets[0][1](z)[:, order])


def test_a_convolution_is_a_sum_over_neighbours():
    """Written out for one channel and a kernel of 3, with zeros around."""
    layer = Convolution(1, 1, 3, (6,), causal=False, generator=torch.Generator())
    x = torch.arange(6.0)[None, None]
    padded = np.pad(np.arange(6.0), 1)
    weights = layer.convolution.weight.detach().numpy().ravel()
    expected = [padded[i : i + 3] @ weights for i in range(6)]
    np.testing.assert_allclose(layer(x)[0, 0].detach(), expected, rtol=1e-5)
    assert layer.work == 18


@pytest.mark.parametrize("causal", [True, False])
def test_causal_features_know_no_later_time(causal):
    """What comes out at position j, of two halvings, depends on times up to 4 j."""
    encoder, decoder = pair(Grid((16,), 1, True), stack(causal=causal))
    x = torch.randn(1, 16).double().requires_grad_(True)
    features = encoder.before[:-1](x)
    for j in range(4):
        (gradient,) = torch.autograd.grad(features[0, :, j].sum(), x, retain_graph=True)
        assert bool((gradient[0, 4 * j + 1 :] == 0).all()) == causal
    h = torch.randn(1, 6, 4).double().requires_grad_(True)
    rows = decoder.after[1:](h)
    gradients = [torch.autograd.grad(rows[0, time], h, retain_graph=True)[0] for time in range(12)]
    later = [bool((g[0, :, t // 4 + 1 :] == 0).all()) for t, g in enumerate(gradients)]
    assert all(later) == causal


@pytest.mark.parametrize("layers", [stack(), stack((8,), blocks=1, normalize=True)])
def test_networks_start_as_their_linear_path(layers):
    """The last layer starts at zero, so that training begins at the linear map."""
    generator = torch.Generator().manual_seed(0)
    nets = convolutional_pair(
        Grid((6, 6), 1, True),
        layers,
        n_encoded=4,
        n_components=4,
        hidden_layer_sizes=(5,),
        skip=True,
        generator=generator,
    )
    for net in nets:
        x = torch.randn(3, net.n_in)
        weight, offset = torch.randn(net.n_out, net.n_in), torch.randn(net.n_out)
        net.start_at(weight, offset)
        torch.testing.assert_close(net(x), x @ weight.T + offset)
        assert [tuple(w.shape) for w in net.no_decay()] == [(net.n_out, net.n_in)]
        net.add_linear(weight, offset)
        torch.testing.assert_close(net(x), 2 * (x @ weight.T + offset))


def test_without_a_linear_path_none_can_be_set():
    """Outputs then start around a mean for each channel."""
    grid = Grid((4, 4), 2, True)
    encoder, decoder = pair(grid, stack(), skip=False)
    for call in (encoder.start_at, decoder.add_linear):
        with pytest.raises(TypeError, match="linear"):
            call(torch.zeros(3, 3), torch.zeros(3))
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.zero_()
    decoder.offset_outputs(torch.tensor([1.0, 5.0]).repeat(16) + torch.arange(32.0) / 32)
    found = decoder(torch.zeros(1, 3).double()).detach().reshape(16, 2)
    np.testing.assert_allclose(found, np.tile([[1 + 15 / 32, 5 + 16 / 32]], (16, 1)), atol=1e-6)


def test_constant_pixels_are_left_out():
    """Codes do not depend on them, and they are returned as zero."""
    constant = torch.zeros(36, dtype=torch.bool)
    constant[[0, 7, 35]] = True
    core = Autoencoder(*pair(Grid((6, 6), 1, True), stack()))
    core.leave_out(constant)
    x = torch.randn(4, 36).double()
    moved = x + 100 * constant
    torch.testing.assert_close(core.encode(moved), core.encode(x))
    assert (core.decode(core.encode(x))[:, constant] == 0).all()
    assert (core.decode(core.encode(x))[:, ~constant] != 0).all()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("skip", [True, False])
def test_compiled_gradients_are_autograd_s(skip, dropout):
    """To 1e-10, of all weights, in slices too; dense layers have dropout."""
    from copy import deepcopy

    core = Autoencoder(*pair(Grid((6, 5), 2, True), stack(blocks=1), widths=(7,), skip=skip))
    x, found = torch.randn(9, 60).double(), []
    noise = core.draw_noise(9, torch.Generator().manual_seed(0), dropout)
    assert set(noise) == ({"encoder", "decoder"} if dropout else set())
    noise = {name: drawn.double() for name, drawn in noise.items()}
    for compiled, slice_rows in ((True, 20), (True, 4), (False, 20)):
        made = deepcopy(core)
        step = Step(
            made,
            Objective(SquaredError(0.5)),
            None,
            learning_rate=0.1,
            dropout=dropout,
            compiled=compiled,
            slice_rows=slice_rows,
        )
        assert step.is_compiled == compiled
        unit = step._gradients.differentiate(x, x, noise, step._slices(len(x)), None)
        found.append([p.grad * unit for p in made.parameters()])
    for expected in found[2]:
        assert expected.abs().max() > 0
    for each in found[:2]:
        for gradient, expected in zip(each, found[2], strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


def test_work_counts_every_position():
    """Threads and blocks go by multiply-adds and widths, of which weights alone say too little."""
    encoder, decoder = pair(Grid((8, 8), 1, True), stack((4, 6)))
    core = Autoencoder(encoder, decoder)
    first, second, last = 9 * 4 * 16, 9 * 4 * 6 * 4, 9 * 4 * 64
    middle = 9 * 6 * 4 * 16
    assert core.largest_product == max(first, second, middle, last) == middle
    dense = 24 * 3 + 64 * 3 + 3 * 24 + 3 * 64
    biases = sum(p.numel() for p in core.parameters() if p.ndim == 1)
    found = core.multiply_adds - biases
    assert found == first + second + middle + last + dense
    assert core.widest == 8 * 8
