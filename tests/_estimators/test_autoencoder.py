"""Tests of AutoencoderTransformer against PCA."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.metrics import explained_variance_scorer

ENDS_EARLY = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("storage", [np.asarray, csr_array])
@pytest.mark.parametrize("rows", [1797, 40])
def test_the_start_is_pca(digits, storage, rows):
    """Before any epoch codes, reconstructions and score are PCA's, tall or wide, dense or CSR."""
    X = digits[:rows]
    pca = PCA(5).fit(X)
    start = AutoencoderTransformer(5, max_iter=0).fit(storage(X))
    codes = start.transform(X)

    np.testing.assert_allclose(codes, pca.transform(X), atol=1e-5)
    np.testing.assert_allclose(
        start.inverse_transform(codes), pca.inverse_transform(pca.transform(X)), atol=1e-5
    )
    assert start.score(X) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)
    np.testing.assert_allclose(start.mean_, pca.mean_, rtol=1e-12)


@ENDS_EARLY
@pytest.mark.parametrize(
    "load", [load_iris, load_wine, load_breast_cancer, load_diabetes], ids=lambda f: f.__name__
)
def test_never_worse_than_pca_on_new_rows(load):
    """With all defaults, rows that fit never saw are reconstructed at least as well."""
    train, test = train_test_split(load().data, random_state=0)
    pca = PCA(2).fit(train)
    error = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
    total = np.square(test - train.mean(0)).sum()
    model = AutoencoderTransformer(2, random_state=0).fit(train)

    assert model.score(test) >= 1 - error / total - 0.002


@ENDS_EARLY
def test_better_than_pca_where_rows_are_curved(digits):
    """On digits an eighth of the unexplained variance and more goes away."""
    train, test = digits[:1300], digits[1300:]
    pca = PCA(8).fit(train)
    error = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
    model = AutoencoderTransformer(8, random_state=0).fit(train)

    assert -model.score_samples(test).sum() < 7 / 8 * error


def test_score_is_the_explained_fraction_with_the_training_mean(digits):
    """`score` and `score_samples` agree with NumPy on new rows."""
    train, test = digits[:800], digits[800:]
    model = AutoencoderTransformer(4, early_stopping=False, max_iter=3, random_state=0).fit(train)
    errors = np.square(test - model.inverse_transform(model.transform(test))).sum(1)

    np.testing.assert_allclose(model.score_samples(test), -errors, rtol=1e-9)
    total = np.square(test - train.mean(0)).sum()
    assert model.score(test) == pytest.approx(1 - errors.sum() / total)


def test_samples_have_the_moments_of_the_codes(digits):
    """From the PCA start, draws have the mean and covariance of the reconstructions."""
    model = AutoencoderTransformer(3, max_iter=0, latent_density="gaussian").fit(digits)
    reconstructions = model.inverse_transform(model.transform(digits))
    draws = model.sample(20_000, random_state=0, mean=True)

    np.testing.assert_allclose(draws.mean(0), reconstructions.mean(0), atol=0.02)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(reconstructions.T), atol=0.01)


@ENDS_EARLY
def test_too_few_rows_to_hold_any_out_keep_the_start(digits):
    """With nine rows "auto" stays at PCA; with held-out rows of one's own it trains."""
    few = AutoencoderTransformer(2, random_state=0).fit(digits[:9])
    own = AutoencoderTransformer(2, max_iter=2, n_iter_no_change=1, random_state=0)

    assert few.n_iter_ == 0
    assert few.loss_curve_ == []
    assert own.fit(digits[:9], X_val=digits[9:60]).n_iter_ > 0


@ENDS_EARLY
def test_held_out_rows_choose_the_epoch(digits):
    """The best loss is the smallest of the curve and that of the model that is kept."""
    X, X_val = digits[:600], digits[600:900]
    model = AutoencoderTransformer(4, max_iter=15, random_state=0).fit(X, X_val=X_val)
    unit = X.var(0).sum() / np.count_nonzero(X.var(0))

    assert model.best_loss_ == min(model.validation_loss_curve_)
    assert -model.score_samples(X_val).mean() / unit == pytest.approx(model.best_loss_, rel=1e-4)


@pytest.mark.parametrize("kind", ["global", "standard", None])
def test_weight_decay_shrinks_the_network(digits, kind):
    """A strong decay pulls reconstructions towards the mean under every scaling."""
    settings = dict(early_stopping=False, max_iter=20, random_state=0, scale=kind)
    free = AutoencoderTransformer(4, **settings).fit(digits)
    decayed = AutoencoderTransformer(4, weight_decay=10.0, **settings).fit(digits)

    assert decayed.score(digits) < free.score(digits) - 0.05


@pytest.mark.parametrize("variant", [{}, dict(tied_weights=True), dict(pretraining="greedy")])
def test_dropout_holds_a_large_network_back(digits, variant):
    """Of few rows it learns less by heart: worse on them, and a smaller gap to new rows."""
    settings = dict(hidden_layer_sizes=(256,), early_stopping=False, max_iter=200, init="random")
    train, test = digits[:60], digits[60:]
    scores = {}
    for dropout in (0.0, 0.5):
        model = AutoencoderTransformer(8, dropout=dropout, **settings, **variant, random_state=0)
        scores[dropout] = np.array([model.fit(train).score(train), model.score(test)])

    assert scores[0.5][0] < scores[0.0][0] - 0.02
    assert scores[0.5] @ [1, -1] < scores[0.0] @ [1, -1] - 0.02


# -- PCA's attributes and codes ----------------------------------------------------------------

ATTRIBUTES = [
    "components_",
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
    "noise_variance_",
    "mean_",
    "n_samples_",
    "n_components_",
]


@pytest.mark.parametrize("kind", ["global", None])
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("rows", [1797, 40])
@pytest.mark.parametrize("storage", [np.asarray, csr_array])
def test_attributes_are_pca_s_before_training(digits, kind, whiten, rows, storage):
    """All attributes, codes and covariances equal PCA's at the start."""
    X = digits[:rows]
    pca = PCA(6, svd_solver="full", whiten=whiten).fit(X)
    start = AutoencoderTransformer(6, scale=kind, whiten=whiten, max_iter=0).fit(storage(X))

    for name in ATTRIBUTES:
        np.testing.assert_allclose(
            getattr(start, name), getattr(pca, name), rtol=1e-5, atol=1e-6, err_msg=name
        )
    np.testing.assert_allclose(start.transform(X), pca.transform(X), atol=2e-5)
    model_covariance = PCA(6, svd_solver="full").fit(X).get_covariance()  # right unless whitened
    np.testing.assert_allclose(start.get_covariance(), model_covariance, atol=1e-6)
    assert start.gain_over_pca_ == 0.0


def test_precision_is_pca_s(blobs):
    """The inverse covariance equals PCA's, also where no direction is left out."""
    for k in (2, 6):
        start, pca = AutoencoderTransformer(k, max_iter=0).fit(blobs), PCA(k).fit(blobs)
        precision = pca.get_precision()

        np.testing.assert_allclose(
            start.get_precision(), precision, rtol=1e-4, atol=1e-5 * np.abs(precision).max()
        )


@pytest.mark.parametrize("init", ["pca", "random"])
def test_attributes_are_pca_s_for_a_trained_linear_net(blobs, init):
    """In whatever basis a linear net has learned to code, what is published is PCA's."""
    model = AutoencoderTransformer(
        2,
        hidden_layer_sizes=(),
        init=init,
        early_stopping=False,
        learning_rate=0.1 if init == "random" else 0.03,
        weight_decay=0.0,
        batch_size=200,
        max_iter=2000 if init == "random" else 100,
        random_state=0,
    ).fit(blobs)
    pca = PCA(2).fit(blobs)

    for name in ATTRIBUTES:
        np.testing.assert_allclose(
            getattr(model, name), getattr(pca, name), rtol=1e-3, atol=1e-3, err_msg=name
        )
    assert subspace_angles(model.components_.T, pca.components_.T).max() < 1e-2


@ENDS_EARLY
@pytest.mark.parametrize("own", [False, True])
def test_codes_are_centred_uncorrelated_and_in_order(digits, own):
    """For any encoder and decoder, trained: moments, order, units and the way back."""
    networks = dict(encoder=torch.nn.Linear, decoder=torch.nn.Linear) if own else {}
    model = AutoencoderTransformer(6, max_iter=20, random_state=0, **networks).fit(digits)
    codes = model.transform(digits)

    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(np.cov(codes.T), np.diag(model.explained_variance_), atol=1e-5)
    assert np.all(np.diff(model.explained_variance_) < 0)
    largest = np.abs(model.components_).argmax(1)
    if own:  # linear: the Jacobian is the direction whose sign is fixed
        assert np.all(model.components_[np.arange(6), largest] > 0)
    assert model.explained_variance_ratio_.sum() == pytest.approx(model.score(digits), abs=1e-9)
    errors = np.square(digits - model.inverse_transform(codes)).sum(1)
    np.testing.assert_allclose(-model.score_samples(digits), errors, rtol=1e-6)


@ENDS_EARLY
def test_whitened_codes_have_unit_variance_and_the_same_reconstruction(digits):
    """Whitening changes the codes' scale and nothing else; codes without variance stay zero."""
    settings = dict(max_iter=5, random_state=0)
    plain = AutoencoderTransformer(6, **settings).fit(digits)
    white = AutoencoderTransformer(6, whiten=True, **settings).fit(digits)
    codes = white.transform(digits)

    np.testing.assert_allclose(np.cov(codes.T), np.eye(6), atol=1e-6)
    np.testing.assert_allclose(
        white.inverse_transform(codes), plain.inverse_transform(plain.transform(digits)), atol=1e-9
    )
    line = np.outer(np.arange(30.0), [1.0, 2.0, 3.0])
    few = AutoencoderTransformer(3, whiten=True, max_iter=0).fit(line)
    np.testing.assert_allclose(few.transform(line).std(0, ddof=1), [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(few.inverse_transform(few.transform(line)), line, atol=1e-5)


@ENDS_EARLY
def test_the_gain_over_pca_is_that_of_the_held_out_rows(digits):
    """It is the score of X_val minus PCA's, and absent where there is no such comparison."""
    X, X_val = digits[:600], digits[600:900]
    settings = dict(max_iter=8, random_state=0)
    model = AutoencoderTransformer(4, **settings).fit(X, X_val=X_val)
    start = AutoencoderTransformer(4, max_iter=0).fit(X)

    assert model.gain_over_pca_ == pytest.approx(model.score(X_val) - start.score(X_val), abs=1e-9)
    assert model.gain_over_pca_ > 0.01
    for without in (dict(init="random"), dict(early_stopping=False)):
        assert not hasattr(
            AutoencoderTransformer(4, **settings, **without).fit(X), "gain_over_pca_"
        )
    noise = np.random.default_rng(0).normal(size=(100, 5))
    assert AutoencoderTransformer(2, **settings).fit(noise).gain_over_pca_ == 0.0


@ENDS_EARLY
@pytest.mark.parametrize("fraction", [0.5, 0.9])
def test_a_fraction_picks_the_fewest_components_that_reach_it(digits, fraction):
    """Held-out rows score at least the fraction with the codes kept, and less with one fewer."""
    X, X_val = digits[:1200], digits[1200:]
    model = AutoencoderTransformer(fraction, max_iter=30, random_state=0).fit(X, X_val=X_val)
    k = model.n_components_
    codes = model.transform(X_val)
    fewer = codes.copy()
    fewer[:, -1] = 0.0
    missed = np.square(X_val - model.inverse_transform(fewer)).sum()

    assert codes.shape == (597, k)
    assert model.components_.shape == (k, 64)
    assert len(model.get_feature_names_out()) == k
    assert model.score(X_val) >= fraction
    assert 1 - missed / np.square(X_val - X.mean(0)).sum() < fraction
    assert k < PCA(fraction).fit(X).n_components_


@pytest.mark.parametrize("fraction", [0.3, 0.8, 0.99])
def test_without_training_a_fraction_means_what_it_means_to_pca(digits, fraction):
    """At the start the number of components is PCA's."""
    model = AutoencoderTransformer(fraction, max_iter=0).fit(digits)

    assert model.n_components_ == PCA(fraction, svd_solver="full").fit(digits).n_components_


@ENDS_EARLY
def test_a_fraction_out_of_reach_keeps_all_components_with_a_warning():
    """Held-out rows that PCA's components cannot explain are told of."""
    rng = np.random.default_rng(0)
    X, X_val = rng.normal(size=(60, 40)), rng.normal(size=(60, 40))
    model = AutoencoderTransformer(0.9, max_iter=1, n_iter_no_change=1, random_state=0)

    with pytest.warns(UserWarning, match=r"n_components=0\.9: the \d+ components.*held-out"):
        model.fit(X, X_val=X_val)
    assert model.n_components_ == PCA(0.9, svd_solver="full").fit(X).n_components_


def test_a_fraction_can_go_on(digits):
    """Warm starts and further parts keep the network and its codes."""
    model = AutoencoderTransformer(0.8, max_iter=1, warm_start=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(digits).fit(digits)
    k = model.n_components_

    assert model.partial_fit(digits).transform(digits).shape == (1797, k)
    assert AutoencoderTransformer(0.8, random_state=0).partial_fit(digits).n_components_ == 13


def in_parts(model, X, n_rows=100):
    """Return a model fitted to rows by parts."""
    for start in range(0, len(X), n_rows):
        model.partial_fit(X[start : start + n_rows])
    return model


@pytest.mark.parametrize("tied_weights", [False, True])
@pytest.mark.parametrize("whiten", [False, True])
def test_parts_without_training_are_incremental_pca(digits, whiten, tied_weights):
    """Codes, axes, mean and attributes follow all rows; a pickle on the way changes nothing."""
    settings = dict(whiten=whiten, tied_weights=tied_weights, max_iter=0)
    model = in_parts(AutoencoderTransformer(4, **settings), digits[:700])
    model = in_parts(pickle.loads(pickle.dumps(model)), digits[700:])
    pca = in_parts(IncrementalPCA(4, whiten=whiten), digits)
    # weights are float32
    np.testing.assert_allclose(model.transform(digits), pca.transform(digits), atol=2e-5)
    np.testing.assert_allclose(model.components_, pca.components_, atol=1e-6)
    np.testing.assert_allclose(model.mean_, pca.mean_, rtol=1e-12)
    for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_"):
        np.testing.assert_allclose(getattr(model, name), getattr(pca, name), rtol=1e-9)
    draws = model.transform(model.sample(20_000, random_state=0, mean=True))
    expected = np.cov(pca.transform(digits).T)
    assert abs(np.cov(draws.T) - expected).max() < 0.1 * expected.max()


@pytest.mark.parametrize("k", [2, 8])
def test_parts_find_more_than_incremental_pca(digits, k):
    """In one pass; in six nearly what fit finds; and the ratio is not optimistic."""
    rows = digits[np.random.default_rng(0).permutation(len(digits))]
    model = in_parts(AutoencoderTransformer(k, random_state=0), rows)
    pca = in_parts(IncrementalPCA(k), rows)
    assert model.score(rows) > explained_variance_scorer(pca, rows) + 0.05
    assert model.explained_variance_ratio_.sum() < model.score(rows)
    for _ in range(5):
        in_parts(model, rows)
    whole = AutoencoderTransformer(k, early_stopping=True, random_state=0).fit(rows)
    assert model.score(rows) > 0.95 * whole.score(rows)


def test_parts_go_on_from_a_fit(digits):
    """What fit has seen counts with its number of rows."""
    model = AutoencoderTransformer(4, max_iter=0).fit(digits[:900])
    model.partial_fit(digits[900:])
    pca = IncrementalPCA(4).partial_fit(digits[:900]).partial_fit(digits[900:])
    np.testing.assert_allclose(model.transform(digits), pca.transform(digits), atol=2e-5)


@pytest.mark.parametrize("whiten", [False, True])
def test_codes_of_a_stream_have_the_variances_that_are_published(digits, whiten):
    """Within a factor of two: earlier rows count as they were encoded then, and spread less."""
    rows = digits[np.random.default_rng(0).permutation(len(digits))]
    model = in_parts(AutoencoderTransformer(2, whiten=whiten, random_state=0), rows)
    expected = np.ones(2) if whiten else model.explained_variance_
    found = model.transform(rows).var(0)
    assert np.all(abs(np.log2(found / expected)) < 1)


def test_one_row_more_hardly_changes_the_ratios_of_a_stream(digits):
    """What training adds is an average over calls, weighed by their rows."""
    model = in_parts(AutoencoderTransformer(4, random_state=0), digits[:1700])
    before = model.explained_variance_ratio_.sum()
    for row in range(1700, 1710):
        model.partial_fit(digits[row : row + 1])
    assert model.explained_variance_ratio_.sum() == pytest.approx(before, abs=0.05)
