"""Noise of residuals near codes."""

import numpy as np
import pytest

from skae._latent.noise import NoiseNearCodes, most_near


def test_noise_is_that_of_the_nearest_code():
    """A draw's residual is that of the row whose code is nearest, computed one by one."""
    rng = np.random.default_rng(0)
    codes, residuals = rng.normal(size=(300, 2)), rng.normal(size=(300, 5))
    drawn = rng.normal(size=(2500, 2))
    nearest = np.square(drawn[:, None] - codes.astype(np.float32)).sum(2).argmin(1)
    found = NoiseNearCodes.of(codes, residuals).near(drawn)
    np.testing.assert_allclose(found, residuals[nearest], rtol=1e-6)
    assert found.dtype == np.float64


@pytest.mark.parametrize(("n_old", "n_new", "share", "kept"), [(3, 4, 0.9, 3), (4096, 500, 0.5, 0)])
def test_noise_of_earlier_rows_keeps_its_share(n_old, n_new, share, kept):
    """All rows are kept while there is room, and then so many that their share is right."""
    old = NoiseNearCodes.of(np.zeros((n_old, 1)), np.zeros((n_old, 2)))
    new = NoiseNearCodes.of(np.ones((n_new, 1)), np.ones((n_new, 2)))
    both = new.joined(old, share)
    assert len(both.codes) == len(both.residuals) == min(n_old + n_new, 4096)
    n_zeros = int((both.codes == 0).sum())
    assert n_zeros == (kept or 4096 - n_new)
    assert int((both.residuals[:, 0] == 0).sum()) == n_zeros


def test_what_is_kept_is_bounded():
    """Few rows of wide tables are kept, and thousands of narrow ones."""
    assert most_near(5) == 4096
    assert most_near(784 + 32) == 160
    assert most_near(20_000) == 64
