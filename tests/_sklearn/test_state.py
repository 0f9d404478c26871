"""Tests of the version stamp."""

import pickle

from skae import AutoencoderTransformer


def test_the_same_version_loads_silently():
    """A round trip keeps parameters and leaves no stamp behind."""
    loaded = pickle.loads(pickle.dumps(AutoencoderTransformer(3)))

    assert vars(loaded) == vars(AutoencoderTransformer(3))
