"""Code that was written for PCA, run with PCA and with AutoencoderTransformer in its place."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity

from skae import AutoencoderTransformer

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.parametrize("Reducer", [PCA, AutoencoderTransformer]),
]


@pytest.fixture
def settings(Reducer):
    """Return what makes fits quick and repeatable."""
    return dict(random_state=0) if Reducer is PCA else dict(random_state=0, max_iter=15)


def test_the_elbow_of_the_cumulated_ratios(digits, Reducer, settings):
    """The number of components for a share of the variance, read off the cumulated ratios."""
    reducer = Reducer(n_components=40, **settings).fit(digits)
    cumulated = np.cumsum(reducer.explained_variance_ratio_)

    assert 5 < np.argmax(cumulated >= 0.7) < 20
    assert cumulated[-1] <= 1


def test_components_are_shown_as_images_around_the_mean(digits, Reducer, settings):
    """Eigenfaces: components and mean in the shape of a picture."""
    reducer = Reducer(n_components=6, **settings).fit(digits)
    images = reducer.components_.reshape((6, 8, 8))

    assert reducer.mean_.reshape(8, 8).max() <= 1
    assert np.all(np.abs(images).max((1, 2)) > 0.1)


def test_whitened_codes_feed_a_distance(digits, Reducer, settings):
    """Whitened codes have unit variance, so that distances weigh all components alike."""
    codes = Reducer(n_components=10, whiten=True, **settings).fit_transform(digits)

    np.testing.assert_allclose(codes.var(0, ddof=1), 1, rtol=1e-6)


def test_without_a_number_all_components_are_kept(blobs, Reducer, settings):
    """``PCA()`` keeps min(n_samples, n_features) and loses nothing."""
    reducer = Reducer(**settings).fit(blobs)

    assert reducer.n_components_ == 6
    assert reducer.explained_variance_ratio_.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(
        reducer.inverse_transform(reducer.transform(blobs)), blobs, atol=1e-3
    )


def test_kmeans_starts_at_components(digits, Reducer, settings):
    """scikit-learn's digits example: k-means with the components as first centres."""
    reducer = Reducer(n_components=10, **settings).fit(digits)
    kmeans = KMeans(init=reducer.components_, n_clusters=10, n_init=1).fit(digits)

    assert kmeans.inertia_ > 0


def test_density_on_codes_draws_new_rows(digits, Reducer, settings):
    """scikit-learn's density example: draw codes, bring them back as rows."""
    reducer = Reducer(n_components=15, whiten=False, **settings)
    density = KernelDensity(bandwidth=0.5).fit(reducer.fit_transform(digits))
    new = reducer.inverse_transform(density.sample(44, random_state=0))

    assert new.shape == (44, 64)
    assert np.abs(new.mean(0) - digits.mean(0)).max() < 0.3


def test_a_share_of_the_variance_gives_the_number(digits, Reducer, settings):
    """`n_components_` after a float."""
    reducer = Reducer(n_components=0.8, **settings).fit(digits)

    assert 1 < reducer.n_components_ <= 13
    assert reducer.transform(digits).shape == (1797, reducer.n_components_)


def test_covariance_and_precision(blobs, Reducer, settings):
    """They are each other's inverse."""
    reducer = Reducer(n_components=3, **settings).fit(blobs)

    np.testing.assert_allclose(
        reducer.get_covariance() @ reducer.get_precision(), np.eye(6), atol=1e-8
    )


def test_every_parameter_and_attribute_is_in_the_table(Reducer, blobs):
    """What PCA has is either here under the same name or explained on the page."""
    page = (DOCS / "migration.md").read_text(encoding="utf-8")
    fitted = Reducer(2, random_state=0).fit(blobs)
    names = [name for name in vars(fitted) if re.fullmatch(r"[a-z]\w*_", name)]
    names = [*PCA().get_params(), *(names if Reducer is PCA else [])]

    assert [name for name in names if f"`{name}" not in page] == []
