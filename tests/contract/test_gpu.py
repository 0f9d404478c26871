"""What a CUDA device changes: nothing but where training and evaluation are computed."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import AutoencoderTransformer
from skae._data import batches
from skae.architectures import Convolutional, Convolutional1d
from skae.metrics import explained_variance_scorer
from tests.contract.checks import CALM, outputs

pytestmark = [*CALM, pytest.mark.gpu]

IMAGES = Convolutional((8, 8), channels=(8, 16), normalization="group", n_residual_blocks=1)
SERIES = Convolutional1d((64,), channels=(8, 16), causal=True)
LARGE = dict(hidden_layer_sizes=(512,), batch_size=512)  # products large enough to be rounded


def assert_close(found, expected):
    """Assert that two results of `outputs` agree to the rounding of float64."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-7, atol=1e-7, err_msg=name)


def assert_learned_alike(model, X, within=0.05):
    """Assert that a fit on a GPU explains about as much of the rows as one on the CPU."""
    on_gpu, on_cpu = (clone(model).set_params(device=d).fit(X) for d in ("cuda", "cpu"))
    found, expected = (explained_variance_scorer(each, X) for each in (on_gpu, on_cpu))
    assert found == pytest.approx(expected, abs=within)
    return on_gpu


def test_fit_and_use(model, blobs):
    """What was fitted on a GPU gives the same results there, on the CPU and from a pickle."""
    fitted = assert_learned_alike(model.set_params(max_iter=20), blobs)
    expected = outputs(fitted, blobs)
    assert all(np.isfinite(value).all() for value in expected.values())
    assert_close(outputs(pickle.loads(pickle.dumps(fitted)), blobs), expected)
    assert_close(outputs(fitted.set_params(device="cpu"), blobs), expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_large_products(model, digits, precision):
    """Networks with products that may be rounded learn as on the CPU."""
    model.set_params(precision=precision, max_iter=10, **LARGE)
    fitted = assert_learned_alike(model, digits.astype(np.float32))
    assert fitted.transform(digits.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("encoder", [IMAGES, SERIES], ids=["images", "series"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_convolutions(model, digits, encoder, precision):
    """Architectures learn as on the CPU, and what they learned can be used there."""
    model.set_params(encoder=encoder, precision=precision, hidden_layer_sizes="auto")
    fitted = assert_learned_alike(model, digits)
    expected = fitted.transform(digits)
    np.testing.assert_allclose(
        fitted.set_params(device="cpu").transform(digits), expected, rtol=1e-6, atol=1e-6
    )


def test_modules_of_ones_own(model, blobs):
    """Custom networks, which may draw, are seeded on the device too, and leave its state alone."""

    def network(n_in, n_out):
        layers = torch.nn.Linear(n_in, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, n_out)
        return torch.nn.Sequential(*layers)

    model.set_params(encoder=network, decoder=network, device="cuda")
    torch.cuda.manual_seed(0)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(0)
    one, other = (clone(model).fit(blobs).transform(blobs) for _ in range(2))
    assert torch.equal(torch.rand(3, device="cuda"), expected)
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_batches_of_rows_that_come_later(model, blobs):
    """Training goes on on a GPU, and then on the CPU, from where it was."""
    model.set_params(device="cuda").partial_fit(blobs[:100]).partial_fit(blobs[100:])
    before = explained_variance_scorer(model, blobs)
    model.set_params(device="cpu").partial_fit(blobs)
    assert np.isfinite(before)
    assert explained_variance_scorer(model, blobs) > before - 0.1


def test_rows_that_do_not_fit_on_the_device(model, blobs, monkeypatch):
    """Rows that are brought there batch by batch train the same network."""
    model.set_params(device="cuda")
    expected = clone(model).fit(blobs)
    monkeypatch.setattr(batches, "_FRACTION_OF_GPU", 0)
    found = clone(model).fit(blobs)
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-3)


def test_fits_side_by_side(blobs):
    """Fits in threads, which capture graphs, learn what they learn one after the other."""
    models = [
        AutoencoderTransformer(
            2, hidden_layer_sizes=(8,), max_iter=5, random_state=seed, device="cuda"
        )
        for seed in range(4)
    ]
    expected = [clone(model).fit(blobs).transform(blobs) for model in models]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda model: model.fit(blobs).transform(blobs), models))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_another_device_than_the_current_one(model, blobs):
    """A fit on the second device learns what one on the first does."""
    first, second = (clone(model).set_params(device=f"cuda:{i}").fit(blobs) for i in (0, 1))
    np.testing.assert_allclose(second.loss_curve_, first.loss_curve_, rtol=1e-3)
