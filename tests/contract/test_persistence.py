"""Hashes, pickles and copies of fitted estimators."""

import copy
import io
import pickle

import joblib
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning

from skae import VQVAETransformer
from tests.contract.checks import CALM, assert_same, outputs

pytestmark = CALM


def test_hash(fitted, blobs):
    """Equal fits hash equally, also after use and a pickle round trip; another fit does not."""
    same = clone(fitted).fit(blobs)
    assert joblib.hash(same) == joblib.hash(fitted)
    outputs(same, blobs)
    assert joblib.hash(same) == joblib.hash(fitted)
    assert joblib.hash(pickle.loads(pickle.dumps(fitted))) == joblib.hash(fitted)
    assert joblib.hash(clone(fitted).fit(blobs * 2)) != joblib.hash(fitted)


class _Recorder(pickle.Unpickler):
    """An unpickler that notes the modules of all globals in a pickle."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.modules = set()

    def find_class(self, module, name):
        self.modules.add(module.split(".")[0])
        return super().find_class(module, name)


def modules_in(pickled):
    """Return the top-level modules whose objects a pickle refers to."""
    recorder = _Recorder(pickled)
    recorder.load()
    return recorder.modules


def test_pickle_holds_no_torch(fitted, blobs):
    """Nothing in a pickle belongs to torch, after fit, use or partial_fit, at any protocol."""
    assert "torch" in modules_in(pickle.dumps(torch.zeros(1)))  # the recorder sees torch
    for use in (lambda: None, lambda: outputs(fitted, blobs), lambda: fitted.partial_fit(blobs)):
        use()
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            assert "torch" not in modules_in(pickle.dumps(fitted, protocol))


def test_pickle_is_small(model, digits):
    """A 32-component model of the digits pickles under 1 MB, with what it keeps to draw rows.

    A plain model holds no training rows; the autoencoder holds residuals of some with their codes,
    and a mixture of codes is as large as its components are many.
    """
    model.set_params(n_components=32, hidden_layer_sizes="auto", max_iter=2)
    sizes = [len(pickle.dumps(clone(model).fit(X))) for X in (digits[:600], digits)]
    assert max(sizes) < 1e6
    if isinstance(model, VQVAETransformer):
        assert abs(sizes[1] - sizes[0]) < 1000
    else:
        assert abs(sizes[1] - sizes[0]) < 5e5


def test_deepcopy(fitted, blobs):
    """A deep copy is equal and lives on its own."""
    copied = copy.deepcopy(fitted)
    before = outputs(fitted, blobs)
    assert_same(outputs(copied, blobs), before)
    copied.partial_fit(blobs * 3)
    assert_same(outputs(fitted, blobs), before)


def test_memory_mapped_load(fitted, blobs, tmp_path):
    """Loaded with read-only, memory-mapped arrays it works as in memory, also for partial_fit."""
    fitted.partial_fit(blobs)
    joblib.dump(fitted, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert_same(outputs(mapped, blobs), outputs(fitted, blobs))
    assert_same(
        outputs(mapped.partial_fit(blobs), blobs), outputs(fitted.partial_fit(blobs), blobs)
    )


def test_pickle_round_trip(fitted, blobs):
    """A pickled copy gives the same bits, and so do both after the next training steps."""
    copied = pickle.loads(pickle.dumps(fitted))
    assert_same(outputs(copied, blobs), outputs(fitted, blobs))
    for _ in range(2):
        copied, _ = pickle.loads(pickle.dumps(copied)).partial_fit(blobs), fitted.partial_fit(blobs)
        assert_same(outputs(copied, blobs), outputs(fitted, blobs))
        assert joblib.hash(copied) == joblib.hash(fitted)


def test_pickle_of_another_version(fitted, blobs):
    """State written by another version loads with a warning that names both versions."""
    state = {**fitted.__getstate__(), "_skae_version": "0.0.99"}
    loaded = type(fitted).__new__(type(fitted))
    with pytest.warns(InconsistentVersionWarning, match=r"skae 0\.0\.99"):
        loaded.__setstate__(state)
    assert "_skae_version" not in vars(loaded)
    assert_same(outputs(loaded, blobs), outputs(fitted, blobs))
