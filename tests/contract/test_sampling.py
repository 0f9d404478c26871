"""Draws and paths: `sample` and `interpolate`."""

import numpy as np
import pytest

from tests.contract.checks import CALM

pytestmark = CALM


def test_interpolation(fitted, blobs):
    """Paths begin and end at the reconstructions and are straight in the codes."""
    A, B = blobs[:5], blobs[5:10]
    rows = fitted.interpolate(A, B, n_steps=5)
    middle = fitted.inverse_transform((fitted.transform(A) + fitted.transform(B)) / 2)

    assert rows.shape == (5, 5, 6)
    np.testing.assert_allclose(rows[:, 0], fitted.inverse_transform(fitted.transform(A)))
    np.testing.assert_allclose(rows[:, -1], fitted.inverse_transform(fitted.transform(B)))
    np.testing.assert_allclose(rows[:, 2], middle)
    with pytest.raises(ValueError, match="A has 5 rows and B has 4"):
        fitted.interpolate(A, B[:4])
    with pytest.raises(ValueError, match="n_steps must be an int"):
        fitted.interpolate(A, B, n_steps=1)


def test_sample_is_seeded(fitted):
    """An int or a RandomState repeats a draw; another seed does not."""
    first = fitted.sample(20, random_state=3)
    assert first.shape == (20, 6)
    assert np.array_equal(fitted.sample(20, random_state=3), first)
    assert np.array_equal(fitted.sample(20, random_state=np.random.RandomState(3)), first)
    assert not np.array_equal(fitted.sample(20, random_state=4), first)
    assert len(np.unique(fitted.sample(500, random_state=0), axis=0)) > 50


def test_sample_resembles_the_rows(fitted, blobs):
    """Draws have the rows' mean and spread."""
    draws = fitted.sample(4000, random_state=0)
    spread = blobs.std(0)
    assert (np.abs(draws.mean(0) - blobs.mean(0)) < 0.25 * spread).all()
    assert (np.abs(np.log(draws.std(0) / spread)) < 0.5).all()


@pytest.mark.parametrize("n_samples", [0, -1, 1.5, True, "3", None])
def test_sample_of_no_rows(fitted, n_samples):
    """A number of draws that is no positive integer is refused by name."""
    with pytest.raises(ValueError, match=r"n_samples .*Got"):
        fitted.sample(n_samples)
