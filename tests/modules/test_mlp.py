"""Tests of the perceptrons."""

import pytest
import torch

from skae.modules import MLP, MirroredMLP


def generator(seed=0):
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("hidden", [(), (5,), (5, 3)])
def test_plain_network_is_the_chain_of_its_layers(hidden):
    """Without a linear path the output is the layers applied one after the other."""
    net = MLP(4, 2, hidden, "tanh", generator=generator())
    x = h = torch.randn(6, 4, generator=generator(1))
    layers = list(net.layers) or [net.linear]
    for layer in layers:
        h = torch.tanh(h) if isinstance(layer, torch.nn.Tanh) else h @ layer.weight.T + layer.bias

    torch.testing.assert_close(net(x), h)
    assert len([p for p in net.parameters() if p.ndim == 2]) == len(hidden) + 1


def test_nonlinear_path_starts_at_zero_but_learns():
    """With a linear path the start is linear, and both paths have gradients."""
    net = MLP(4, 2, (5,), skip=True, generator=generator())
    x = torch.randn(6, 4, generator=generator(1))
    net(x).square().sum().backward()

    torch.testing.assert_close(net(x), net.linear(x), rtol=0, atol=0)
    assert net.layers[-1].weight.grad.abs().max() > 0
    assert net.linear.weight.grad.abs().max() > 0


def test_weights_come_from_the_generator_alone():
    """Equal seeds give equal weights, others do not, and torch's global generator is untouched."""
    before = torch.get_rng_state()
    first, same, other = (MLP(4, 2, (5,), generator=generator(seed)) for seed in (0, 0, 1))

    assert torch.equal(first.layers[0].weight, same.layers[0].weight)
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_initial_weights_have_glorot_variance(activation):
    """The variance of the first layer is 2 / (n_in + n_out)."""
    net = MLP(300, 2, (200,), activation, generator=generator())

    assert float(net.layers[0].weight.detach().var()) == pytest.approx(2 / 500, rel=0.03)


@pytest.mark.parametrize("skip", [False, True])
def test_silenced_outputs_are_zero_and_stay_zero(skip):
    """A target that is always zero has zero gradients at silenced outputs; inputs are ignored."""
    net = MLP(3, 3, (5,), skip=skip, generator=generator())
    constant = torch.tensor([False, True, False])
    net.ignore_inputs(constant)
    net.silence_outputs(constant)
    x = torch.randn(6, 3, generator=generator(1)) * ~constant
    out = net(x)
    (out - x).square().sum().backward()
    moved = x + constant * 7.0

    assert torch.equal(out[:, 1], torch.zeros(6))
    assert torch.equal(net(moved), out)
    for layer in [net.layers[-1], *([net.linear] if skip else [])]:
        assert not layer.weight.grad[1].any()
        assert not layer.bias.grad[1].any()
        assert layer.weight.grad[0].any() or layer.bias.grad[0].any()


@pytest.mark.parametrize("mirrored", [False, True])
def test_masks_switch_hidden_units_off_layer_by_layer(mirrored):
    """A mask of a unit is the network without that unit; masks of ones change nothing."""
    encoder = MLP(4, 2, (5, 3), "tanh", skip=True, generator=generator())
    torch.nn.init.normal_(encoder.layers[-1].weight, generator=generator(2))
    net, widths = (MirroredMLP(encoder), [3, 5]) if mirrored else (encoder, [5, 3])
    x = torch.randn(6, 2 if mirrored else 4, generator=generator(1))
    masks = torch.ones(6, 8)
    torch.testing.assert_close(net(x, masks), net(x))
    for unit in range(8):
        masks[:] = 1
        masks[:, unit] = 0
        layer, position = (0, unit) if unit < widths[0] else (1, unit - widths[0])
        outgoing = {
            (False, 0): encoder.layers[2].weight.T,
            (False, 1): encoder.layers[4].weight.T,
            (True, 0): encoder.layers[2].weight,
            (True, 1): encoder.layers[0].weight,
        }[mirrored, layer]
        saved = outgoing[position].clone()
        with torch.no_grad():
            outgoing[position] = 0
            without = net(x)
            outgoing[position] = saved

        assert not torch.allclose(without, net(x))
        torch.testing.assert_close(net(x, masks), without)
