"""Tests of the scorers on skae, its linear relatives and pipelines."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import NMF, PCA, KernelPCA, TruncatedSVD
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler

from skae import AutoencoderTransformer
from skae.metrics import (
    explained_variance_scorer,
    neg_mean_absolute_error_scorer,
    neg_mean_squared_error_scorer,
)

ESTIMATORS = [
    PCA(5),
    KernelPCA(5, fit_inverse_transform=True),
    NMF(5, max_iter=500, tol=1e-2),
    TruncatedSVD(5, random_state=0),
    AutoencoderTransformer(5, max_iter=0),
    make_pipeline(MinMaxScaler(), PCA(5)),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_scores_are_those_of_the_reconstruction(estimator, digits):
    """All three equal NumPy's figures on the reconstruction in the input's units."""
    X = digits[:300]
    estimator = estimator.fit(X)
    error = X - estimator.inverse_transform(estimator.transform(X))
    explained = 1 - np.square(error).sum() / np.square(X - X.mean(0)).sum()

    assert explained_variance_scorer(estimator, X) == pytest.approx(explained)
    assert neg_mean_squared_error_scorer(estimator, X) == pytest.approx(-np.square(error).mean())
    assert neg_mean_absolute_error_scorer(estimator, X) == pytest.approx(-np.abs(error).mean())


def test_scores_take_csr_and_rows_without_variance(digits):
    """CSR rows score as dense ones; without variance the fraction is NaN."""
    pca = PCA(5).fit(digits)

    assert explained_variance_scorer(pca, sparse.csr_array(digits)) == pytest.approx(
        explained_variance_scorer(pca, digits)
    )
    assert explained_variance_scorer(pca, digits[:1]) == 0.0
    assert explained_variance_scorer(MaxAbsScaler().fit(digits[:1]), digits[:1]) == 1.0


def test_training_score_is_the_estimator_s_own(digits):
    """On training rows the scorer and `score` agree."""
    model = AutoencoderTransformer(5, max_iter=3, early_stopping=False, random_state=0).fit(digits)

    assert explained_variance_scorer(model, digits) == pytest.approx(model.score(digits))


def test_reconstructions_may_be_sparse(digits):
    """A transformer whose inverse returns CSR is scored as well."""
    X = sparse.csr_array(digits)

    assert explained_variance_scorer(MaxAbsScaler().fit(X), X) == pytest.approx(1.0)
