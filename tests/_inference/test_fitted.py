"""Tests of evaluation in blocks."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from scipy import sparse

from skae._data.scaling import fit_scaling
from skae._engine.layers import OnBuffers
from skae._inference import fitted as fitted_module
from skae._inference.fitted import FittedNet
from skae._inference.jacobian import _backward, _of_any, loadings
from skae._latent.basis import LatentBasis, sorted_basis
from skae._runtime.modes import Evaluation
from skae.modules import MLP, Autoencoder, MirroredMLP, build_core
from skae.modules._mlp import ACTIVATIONS
from skae.objectives import Bernoulli, SquaredError

CPU = torch.device("cpu")


def assert_rounding(got, expected):
    """Assert that results differ by rounding: 1e-12 or 1e-5 of the column's largest magnitude."""
    assert got.dtype == expected.dtype
    tolerance = 1e-12 if got.dtype == np.float64 else 1e-5
    assert (abs(got - expected) <= tolerance * abs(expected).max(0)).all()


def make_core(n_features, hidden, activation, skip, *, tied=False, generator=None):
    """Return an autoencoder with three codes."""
    return build_core(
        Autoencoder,
        n_features=n_features,
        n_encoded=3,
        n_components=3,
        hidden_layer_sizes=hidden,
        activation=activation,
        skip=skip,
        encoder=None,
        decoder=None,
        tied_weights=tied,
        generator=generator,
    )


@pytest.fixture
def net(digits):
    """Return a net with random weights for digits."""
    build = partial(make_core, 64, [20, 7], "tanh", True)
    core, blank = (build(generator=torch.Generator().manual_seed(s)) for s in (0, 2))
    with torch.no_grad():
        core.encoder.layers[-1].weight.normal_(generator=torch.Generator().manual_seed(1))
    return FittedNet.from_core(build, blank, core, fit_scaling(digits, "global"))


def test_blocks_equal_one_plain_forward_pass(net, digits):
    """Codes, rows and errors are those of the float64 network applied to everything at once."""
    core = net.make_core().double()
    with torch.no_grad():
        z = core.encode(torch.tensor(net.scaling.to_scaled(digits)))
        rows = net.scaling.from_scaled(core.decode(z).numpy())

    np.testing.assert_allclose(net.encode(digits, CPU), z, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(net.decode(z.numpy(), CPU), rows, rtol=1e-10, atol=1e-12)
    errors = np.square(digits - rows).sum(1)
    np.testing.assert_allclose(net.squared_errors(digits, CPU), errors, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_s_code_does_not_depend_on_its_company(net, digits, dtype):
    """Random selections in random order give the same as the whole, to rounding."""
    X = digits.astype(dtype)
    rng = np.random.default_rng(0)
    whole = net.encode(X, CPU)
    for size in (1, 2, 17, 128, 129, 700, 1024, 1500):
        chosen = rng.permutation(len(X))[:size]
        assert_rounding(net.encode(X[chosen], CPU), whole[chosen])
    assert whole.dtype == dtype


def test_results_are_the_caller_s_own(net, digits):
    """What is returned does not change with the next call, in this thread or in others."""
    pieces = [digits[:1], digits[1:17], digits[:40], digits, digits[:600]]
    first = [net.encode(piece, CPU) for piece in pieces]
    kept = [codes.copy() for codes in first]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda i: net.encode(pieces[i % 5], CPU), range(40)))
    assert all(np.array_equal(*pair) for pair in zip(first, kept, strict=True))
    assert all(np.array_equal(codes, kept[i % 5]) for i, codes in enumerate(again))
    assert not np.array_equal(net.encode(-digits[:1], CPU), first[0])


def test_a_net_keeps_little_of_what_many_rows_need(net, digits, monkeypatch):
    """Large buffers are for one block, whatever it worked off; copies and pickles have none."""
    monkeypatch.setattr(fitted_module, "_SMALL_BLOCK", 0)
    net.encode(np.vstack([digits] * 3), CPU)
    net.decode(np.zeros((3000, 3)), CPU)
    assert not any(each.idle for each in net._workspaces.values())
    net.encode(digits[:1], CPU)
    (workspace,) = (each for spaces in net._workspaces.values() for each in spaces.idle)
    assert sum(array.size for array in workspace._arrays.values()) <= 512 * 64
    assert not deepcopy(net)._workspaces


@pytest.mark.parametrize("kind", ["global", "standard", None])
@pytest.mark.parametrize("loss", [None, Bernoulli()])
def test_a_decoder_gives_rows_less_an_origin(net, digits, kind, loss):
    """They are those of `decode`, to rounding, in one place."""
    net.scaling, net.loss = fit_scaling(digits, kind), loss
    codes, origin = np.random.default_rng(0).normal(size=(30, 3)), digits.mean(0)
    decode = net.decoder(CPU, origin)
    with Evaluation():
        first = decode(codes)
        found = first.copy()
        assert np.shares_memory(decode(-codes), first)
        single = decode(codes.astype(np.float32))
        assert single.dtype == np.float64
        np.testing.assert_allclose(single, found, atol=1e-4)
    np.testing.assert_allclose(found, net.decode(codes, CPU) - origin, atol=1e-10)
    if loss:  # else it is the network that is zero there
        assert not found[:, net.scaling.constant].any()


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity", "silu", "gelu"])
@pytest.mark.parametrize("hidden", [(), (5,), (9, 4)])
@pytest.mark.parametrize("skip", [False, True])
def test_perceptrons_on_buffers_are_themselves(activation, hidden, skip):
    """Both directions, for any number of rows."""
    encoder = MLP(7, 3, hidden, activation, skip=skip).double()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(1))
        for net, width in ((encoder, 7), (MirroredMLP(encoder).double(), 3)):
            played = OnBuffers(net)
            for n_rows in (4, 1, 4, 0):
                x = torch.randn(n_rows, width, dtype=torch.float64)
                torch.testing.assert_close(played(x), net(x), rtol=1e-12, atol=1e-12)


def test_csr_rows_have_the_same_codes(net, digits):
    """Densifying by block changes nothing."""
    assert np.array_equal(net.encode(sparse.csr_array(digits), CPU), net.encode(digits, CPU))


def test_a_result_that_is_not_finite_is_an_error(net):
    """Overflow is told with the largest value, never returned."""
    with pytest.raises(ValueError, match=r"not finite.*1\.0e\+38"):
        net.encode(np.full((1, 64), 1e38, dtype=np.float32), CPU)


def test_loadings_are_the_derivatives_of_decoding(net):
    """They are what small steps of the code give."""
    code = np.array([0.3, -0.2, 0.5])
    steps = 1e-5 * np.vstack([np.eye(3), -np.eye(3)])
    up, down = np.split(net.decode(code + steps, CPU), 2)
    gradients = (up - down) / 2e-5
    np.testing.assert_allclose(loadings(net, code, CPU), gradients, rtol=1e-6, atol=1e-8)


UNITS = fit_scaling(np.arange(28.0).reshape(4, 7) ** 2, "standard")
LOSSES = {"none": None, "squared": SquaredError(), "bernoulli": Bernoulli()}
BASES = {
    "none": None,
    "rotated": LatentBasis(np.ones(3), np.eye(2, 3), np.arange(6.0).reshape(3, 2), np.zeros(2)),
    "sorted": sorted_basis(np.array([2, 0, 1]), np.array([2.0, -1, 0.5])),
}


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("hidden", [(), (5,), (9, 4)])
@pytest.mark.parametrize("tied", [False, True])
def test_loadings_of_perceptrons_are_what_autograd_finds(loss, hidden, tied, basis):
    """In closed form, in any basis, for outputs that are natural parameters too."""
    skip = len(hidden) < 2
    for activation in ACTIVATIONS:
        build = partial(make_core, 7, hidden, activation, skip, tied=tied)
        core = build(generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            for weight in core.parameters():
                weight.normal_(generator=torch.Generator().manual_seed(1))
        net = FittedNet.from_core(build, build(generator=None), core, UNITS, LOSSES[loss])
        net.basis = BASES[basis]
        at = np.array([0.3, -0.2, 0.5])[: 2 if basis == "rotated" else 3]
        exact = net.core(torch.float64, CPU)
        gradients = _backward(partial(net.rows, exact), torch.tensor(at))
        expected = gradients.T.numpy() * net.unit_of_rows
        np.testing.assert_allclose(loadings(net, at, CPU), expected, rtol=1e-12, atol=1e-12)


class Backwards(torch.autograd.Function):
    """A function that knows its gradient and nothing else."""

    @staticmethod
    def forward(ctx, z):
        """Cube."""
        ctx.save_for_backward(z)
        return z**3

    @staticmethod
    def backward(ctx, gradient):
        """Differentiate."""
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


FUNCTIONS = {
    "forward": (torch.sin, torch.cos),
    "backward only": (Backwards.apply, lambda z: 3 * z**2),
    "constant": (lambda z: torch.zeros(len(z), 3, dtype=z.dtype), torch.zeros_like),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_loadings_of_any_network(name):
    """Forward derivatives; gradients where there are no others; zeros where codes are ignored."""
    function, derivatives = FUNCTIONS[name]
    at = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    weight = torch.randn(3, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = _of_any(lambda z: function(z) @ weight, at)
    torch.testing.assert_close(found, weight.T * derivatives(at))
