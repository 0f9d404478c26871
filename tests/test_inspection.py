"""Inspection: the score of the first codes."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.inspection import cumulative_score
from skae.metrics import explained_variance_scorer

QUICK = dict(max_iter=5, early_stopping=False, random_state=0)


@pytest.mark.parametrize("make", [np.asarray, csr_array])
def test_pca_s_is_its_ratios_added_up(digits, make):
    """Dense and CSR rows, PCA and an autoencoder without training."""
    pca = PCA(6, svd_solver="full").fit(digits)
    model = AutoencoderTransformer(6, max_iter=0).fit(digits)
    expected = pca.explained_variance_ratio_.cumsum()
    np.testing.assert_allclose(cumulative_score(pca, digits), expected, rtol=1e-10)
    np.testing.assert_allclose(cumulative_score(model, make(digits)), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [AutoencoderTransformer, VAETransformer, VQVAETransformer])
def test_the_last_is_the_score_of_all_codes(digits, kind):
    """And the first ones that of rows with the other codes at their means."""
    model = kind(4, **QUICK).fit(digits)
    found = cumulative_score(model, digits)
    assert found[-1] == pytest.approx(explained_variance_scorer(model, digits), rel=1e-9)
    codes = model.transform(digits)
    codes[:, 2:] = codes[:, 2:].mean(0)
    errors = np.square(digits - model.inverse_transform(codes)).sum()
    total = np.square(digits - digits.mean(0)).sum()
    assert found[1] == pytest.approx(1 - errors / total, rel=1e-9)


def test_pipelines_and_what_has_no_vectors(digits):
    """A pipeline is scored in its own rows; integers and constant rows are refused."""
    pipeline = make_pipeline(StandardScaler(), PCA(3)).fit(digits)
    assert cumulative_score(pipeline, digits)[-1] == pytest.approx(
        explained_variance_scorer(pipeline, digits)
    )
    model = VQVAETransformer(4, encode="codes", **QUICK).fit(digits)
    with pytest.raises(ValueError, match="encode='vectors'"):
        cumulative_score(model, digits)
    with pytest.raises(ValueError, match="does not vary"):
        cumulative_score(PCA(2).fit(digits), np.ones((3, 64)))
