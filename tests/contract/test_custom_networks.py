"""Encoders and decoders of the user's own."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import AutoencoderTransformer, VAETransformer
from tests.contract.checks import CALM, assert_same, assert_unfitted, default_dtype, outputs

pytestmark = CALM


def two_layers(n_in, n_out):
    """Return a network of two layers."""
    return torch.nn.Sequential(torch.nn.Linear(n_in, 5), torch.nn.Tanh(), torch.nn.Linear(5, n_out))


@pytest.mark.parametrize("factory", [torch.nn.Linear, two_layers])
def test_own_factory(model, blobs, factory):
    """A class or a function makes the networks, from the estimator's seed alone."""
    model.set_params(encoder=factory, decoder=factory, batch_size=20)
    model.set_params(max_iter=30, learning_rate=1e-2)
    torch.manual_seed(1)
    first = clone(model).fit(blobs)
    torch.manual_seed(2)
    assert joblib.hash(clone(model).fit(blobs)) == joblib.hash(first)
    assert first.transform(blobs).shape == (200, 4)
    assert first.loss_curve_[-1] < first.loss_curve_[0]
    copied = pickle.loads(pickle.dumps(first))
    assert_same(outputs(copied, blobs), outputs(first, blobs))


class Attention(torch.nn.Module):
    """A decoder without second derivatives, that makes tensors of its own and draws."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.first, self.last = torch.nn.Linear(n_in, 32), torch.nn.Linear(32, n_out)

    def forward(self, z):
        """Return rows."""
        h = self.first(z @ torch.eye(z.shape[1])).view(len(z), 1, 4, 8)
        h = torch.nn.functional.scaled_dot_product_attention(h, h, h).flatten(1)
        return self.last(h + 1e-3 * torch.randn(h.shape))


def test_own_decoder_needs_gradients_only(model, blobs):
    """Whatever trains can be described, and torch's global generator stays as it was."""
    torch.manual_seed(3)
    state = torch.get_rng_state()
    model.set_params(decoder=Attention, max_iter=2).fit(blobs)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.isfinite(model.transform(blobs)).all()
    if isinstance(model, AutoencoderTransformer):
        assert model.components_.shape == (4, 6)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_own_network_may_work_in_place(model, blobs, part):
    """Layers that overwrite their input change neither the rows nor the codes."""
    outcomes = []
    for inplace in (False, True):

        def make(n_in, n_out, inplace=inplace):
            relu = torch.nn.LeakyReLU(0.5, inplace=inplace)
            return torch.nn.Sequential(relu, torch.nn.Linear(n_in, n_out))

        fitted = clone(model).set_params(**{part: make}, max_iter=5).fit(blobs)
        outcomes.append([fitted.score(blobs), *fitted.loss_curve_])
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("kind", ["pca", "random"])
def test_dropout_takes_part(model, blobs, kind):
    """It changes training, and nothing after it: results are the same at every call."""
    model.set_params(hidden_layer_sizes=(8,), init=kind)
    dropped = clone(model).set_params(dropout=0.5).fit(blobs)
    assert not np.allclose(dropped.loss_curve_, clone(model).fit(blobs).loss_curve_)
    assert_same(outputs(dropped, blobs), outputs(dropped, blobs))


def test_own_module(model, blobs):
    """A module is copied: fit leaves it alone, starts from its weights, and clone copies it."""
    torch.manual_seed(0)
    encoder = two_layers(6, 8 if isinstance(model, VAETransformer) else 4).double().eval()
    encoder[0].weight.requires_grad_(False)
    before = copy.deepcopy(encoder)
    model.set_params(encoder=encoder).fit(blobs)
    assert model.encoder is encoder
    assert clone(model).encoder is not encoder
    assert [p.requires_grad for p in encoder.parameters()] == [False, True, True, True]
    assert not encoder.training
    for got, expected in zip(encoder.parameters(), before.parameters(), strict=True):
        assert got.dtype == torch.float64
        assert got.grad is None
        assert torch.equal(got, expected)
    if isinstance(model, AutoencoderTransformer):
        codes = model.set_params(max_iter=0, scale=None).fit(blobs).transform(blobs)
        raw = np.column_stack([encoder(torch.tensor(blobs)).detach().numpy(), np.ones(200)])
        basis = np.linalg.lstsq(codes, raw - raw.mean(0), rcond=None)[0]  # codes are affine in it
        np.testing.assert_allclose(codes @ basis + raw.mean(0), raw, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_frozen_module_of_one_s_own(model, blobs, precision):
    """A network that was trained before stays as it is, and the other learns."""
    torch.manual_seed(0)
    encoder = two_layers(6, 8 if isinstance(model, VAETransformer) else 4).requires_grad_(False)
    model.set_params(encoder=encoder, precision=precision).fit(blobs)
    for name, value in encoder.state_dict().items():
        assert np.array_equal(model._net.arrays[f"encoder.module.{name}"], value.numpy())
    if not isinstance(model, VAETransformer):
        assert model.loss_curve_[-1] < model.loss_curve_[0]


class Drawing(torch.nn.Sequential):
    """A network with batch statistics and dropout, which torch draws from its global generator."""

    def __init__(self, n_in, n_out):
        dropout, norm = torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(n_in)
        super().__init__(norm, dropout, torch.nn.Linear(n_in, n_out))


@pytest.mark.parametrize("batch_size", [7, 199, 200])
def test_own_network_that_draws(model, blobs, batch_size):
    """Dropout follows the seed, leaves torch's generator alone, and no batch has a single row."""
    model.set_params(encoder=Drawing, batch_size=batch_size, early_stopping=False)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = clone(model).fit(blobs)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    with ThreadPoolExecutor(2) as pool:
        fits = list(pool.map(lambda _: clone(model).fit(blobs), range(4)))
    assert {joblib.hash(fit) for fit in fits} == {joblib.hash(first)}
    assert not np.array_equal(
        clone(model).set_params(random_state=5).fit(blobs).loss_curve_, first.loss_curve_
    )


class Jittery(torch.nn.Linear):
    """A network that draws whenever it is used."""

    def forward(self, x):
        return super().forward(x) + 1e-3 * torch.randn(1) * torch.ones(1)


def lazy(n_in, n_out):
    """Return a network whose weights are drawn when it first sees rows."""
    return torch.nn.Sequential(torch.nn.LazyLinear(5), torch.nn.ReLU(), torch.nn.LazyLinear(n_out))


@pytest.mark.parametrize("network", [lazy, Jittery])
def test_own_network_that_draws_late(model, blobs, network):
    """Lazy weights, and draws in evaluation, follow the seed and leave torch's state alone."""
    model.set_params(encoder=network, max_iter=5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = outputs(clone(model).fit(blobs), blobs)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    with default_dtype(torch.float64):
        assert_same(outputs(clone(model).fit(blobs), blobs), first)


class Factory:
    """A factory with a state, as it might come from a library."""

    def __call__(self, n_in, n_out):
        return torch.nn.Linear(n_in, n_out)


def test_own_factory_goes_on(model, blobs):
    """An object that makes networks is the same one in a second part and in a warm start."""
    model.set_params(encoder=Factory(), warm_start=True)
    model.partial_fit(blobs).partial_fit(blobs).fit(blobs)
    restored = pickle.loads(pickle.dumps(model)).fit(blobs)
    assert restored.transform(blobs).shape == (200, 4)


def test_own_network_cannot_be_exchanged(model, blobs):
    """A warm start with another module of the same kind is refused, not ignored."""
    width = 8 if isinstance(model, VAETransformer) else 4
    model.set_params(encoder=torch.nn.Linear(6, width), warm_start=True).fit(blobs)
    with pytest.raises(ValueError, match="cannot go on from its last fit with encoder"):
        model.set_params(encoder=torch.nn.Linear(6, width)).fit(blobs)


@pytest.mark.parametrize(("early_stopping", "n_networks"), [(True, 1), ("auto", 5 + 3)])
def test_own_factory_is_called_once_for_a_network(model, blobs, early_stopping, n_networks):
    """A factory is not called again to transform, nor for a warm start; five folds have theirs.

    So have the three networks of all rows.
    """
    calls = []

    def factory(n_in, n_out):
        calls.append((n_in, n_out))
        return torch.nn.Linear(n_in, n_out)

    model.set_params(encoder=factory, warm_start=True, early_stopping=early_stopping).fit(blobs)
    outputs(model, blobs)
    model.fit(blobs).transform(blobs)
    assert len(calls) == n_networks


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_own_network_of_a_wrong_shape(model, blobs, role):
    """A network with another output than asked for is refused in one sentence with both shapes."""
    model.set_params(**{role: lambda n_in, n_out: torch.nn.Linear(n_in, n_out + 1)})
    with pytest.raises(ValueError, match=rf"The {role} must map .*shape \(2, \d+\).*returned"):
        model.fit(blobs)
    assert_unfitted(model)


@pytest.mark.parametrize("broken", [torch.nn.Linear(3, 2), lambda n_in, n_out: "no network"])
def test_own_network_that_does_not_work(model, blobs, broken):
    """A module of another input width, or a callable that makes none, is refused as the encoder."""
    with pytest.raises((ValueError, TypeError), match="encoder"):
        model.set_params(encoder=broken).fit(blobs)
    assert_unfitted(model)
