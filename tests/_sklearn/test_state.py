"""Tests of the version stamp."""

import pickle

import pytest
from sklearn.exceptions import InconsistentVersionWarning

from skae import AutoencoderTransformer


def test_another_version_is_told():
    """A state written by another version loads with a warning that names both."""
    state = AutoencoderTransformer(3).__getstate__()
    loaded = AutoencoderTransformer()
    with pytest.warns(InconsistentVersionWarning, match=r"skae 0\.0\.1"):
        loaded.__setstate__({**state, "_skae_version": "0.0.1"})

    assert loaded.n_components == 3
    assert "_skae_version" not in vars(loaded)


def test_the_same_version_loads_silently():
    """A round trip keeps parameters and leaves no stamp behind."""
    loaded = pickle.loads(pickle.dumps(AutoencoderTransformer(3)))

    assert vars(loaded) == vars(AutoencoderTransformer(3))
