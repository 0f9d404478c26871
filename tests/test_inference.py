"""Tests of evaluation in blocks."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import sparse

from skae._inference import FittedNet
from skae._input import fit_scaling
from skae.modules import Autoencoder, build_core

CPU = torch.device("cpu")


@pytest.fixture
def net(digits):
    """Return a net with random weights for digits."""
    build = partial(
        build_core,
        Autoencoder,
        n_features=64,
        n_encoded=3,
        n_components=3,
        hidden_layer_sizes=[20, 7],
        activation="tanh",
        skip=True,
        encoder=None,
        decoder=None,
    )
    core, blank = (build(generator=torch.Generator().manual_seed(s)) for s in (0, 2))
    with torch.no_grad():
        core.encoder.layers[-1].weight.normal_(generator=torch.Generator().manual_seed(1))
    return FittedNet.from_core(build, blank, core, fit_scaling(digits, "global"))


def test_blocks_equal_one_plain_forward_pass(net, digits):
    """Codes, rows and errors are those of the float64 network applied to everything at once."""
    core = net.make_core().double()
    with torch.no_grad():
        z = core.encode(torch.tensor(net.scaling.to_net(digits)))
        rows = net.scaling.from_net(core.decode(z).numpy())

    np.testing.assert_allclose(net.encode(digits, CPU), z, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(net.decode(z.numpy(), CPU), rows, rtol=1e-10, atol=1e-12)
    errors = np.square(digits - rows).sum(1)
    np.testing.assert_allclose(net.squared_errors(digits, CPU), errors, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_s_code_does_not_depend_on_its_company(net, digits, dtype):
    """Random selections in random order give the same bits as the whole."""
    X = digits.astype(dtype)
    rng = np.random.default_rng(0)
    whole = net.encode(X, CPU)
    for size in (1, 2, 17, 128, 129, 700, 1024, 1500):
        chosen = rng.permutation(len(X))[:size]
        assert np.array_equal(net.encode(X[chosen], CPU), whole[chosen])
    assert whole.dtype == dtype


def test_csr_rows_have_the_same_codes(net, digits):
    """Densifying by block changes nothing."""
    assert np.array_equal(net.encode(sparse.csr_array(digits), CPU), net.encode(digits, CPU))


def test_a_result_that_is_not_finite_is_an_error(net):
    """Overflow is told with the largest value, never returned."""
    with pytest.raises(ValueError, match=r"not finite.*1\.0e\+38"):
        net.encode(np.full((1, 64), 1e38, dtype=np.float32), CPU)


def test_loadings_are_the_slopes_of_decoding(net):
    """They are what small steps of the code give."""
    code = np.array([0.3, -0.2, 0.5])
    steps = 1e-5 * np.vstack([np.eye(3), -np.eye(3)])
    up, down = np.split(net.decode(code + steps, CPU), 2)
    slopes = (up - down) / 2e-5
    np.testing.assert_allclose(net.loadings(code, CPU), slopes, rtol=1e-6, atol=1e-8)
