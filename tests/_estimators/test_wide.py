"""Wide rows: trained in principal coordinates, the same model as among all features."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae._data.scaling import fit_scaling
from skae._estimators import beginning
from skae._estimators.wide import WideFit
from skae._inference.fitted import FittedNet
from skae._init.coordinates import Coordinates
from skae._training import defaults
from skae.modules import MLP, VAE, Autoencoder, MirroredMLP
from skae.objectives import Gaussian, GaussianNoise, Objective, SquaredError

KINDS = [AutoencoderTransformer, VAETransformer, VQVAETransformer]
CPU = torch.device("cpu")
CALM = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*of.*are (active|used):UserWarning"
)


@pytest.fixture(scope="module")
def wide():
    """Return 60 curved rows of 1200 features, one of which is constant."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 3, (60, 2))
    curves = np.column_stack([np.cos(angles), np.sin(angles), angles**2])
    X = curves @ rng.normal(size=(6, 1200)) + 0.05 * rng.normal(size=(60, 1200)) + 3.0
    X[:, 7] = 2.5
    return X


@pytest.fixture
def few_coordinates(monkeypatch):
    """Let rows have fewer coordinates than dimensions."""
    monkeypatch.setattr(defaults, "_MOST_COORDINATES", 9)


def at_full_width(monkeypatch):
    """Let no network be trained in coordinates."""
    monkeypatch.setattr(beginning, "count_coordinates", lambda *sizes: 0)


def test_coordinates_keep_distances(wide):
    """The last one is what the others leave, and CSR rows have those of dense ones."""
    scaling = fit_scaling(wide, "global")
    axes = PCA(5, svd_solver="full").fit(wide).components_
    coordinates = Coordinates(axes, scaling)
    found = coordinates.of(wide)
    centred = wide - scaling.mean
    left = np.linalg.norm(centred - centred @ axes.T @ axes, axis=1)
    np.testing.assert_allclose(found, np.column_stack([centred @ axes.T, left]), atol=1e-9)
    np.testing.assert_allclose(coordinates.of(sparse.csr_array(wide)), found, atol=1e-6)
    assert coordinates.of(wide.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("hidden", [(), (6, 4)])
@pytest.mark.parametrize("kind", ["autoencoder", "tied", "shared", 0.3])
def test_a_network_in_coordinates_is_that_among_features(wide, kind, hidden, skip):
    """Codes, and the objective of rows in and out of the span, are the same after the way back."""
    scaling = fit_scaling(wide, "global")
    coordinates = Coordinates(PCA(8, svd_solver="full").fit(wide).components_, scaling)
    n_codes, variational = 3, kind in ("shared", 0.3)
    encoder = MLP(9, n_codes * (1 + variational), hidden, "tanh", skip=skip)
    decoder = MirroredMLP(encoder) if kind == "tied" else MLP(n_codes, 9, hidden, "tanh", skip=skip)
    loss = Gaussian(kind) if variational else SquaredError()
    core = VAE(encoder, decoder, loss, n_codes) if variational else Autoencoder(encoder, decoder)
    recipe = AutoencoderTransformer()._make_recipe()
    found = WideFit(coordinates, replace(recipe, loss=loss))
    with torch.no_grad():
        for weight in core.parameters():
            weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
        for layer in encoder._outer_layers(0):  # as training leaves the last coordinate
            layer.weight[:, -1] = 0
        if kind == "tied":
            core.decoder.biases[0][-1] = 0
        for layer in [] if kind == "tied" else decoder._outer_layers(-1):
            layer.weight[-1], layer.bias[-1] = 0, 0
    rows = np.vstack([wide, wide[::-1] * 0.5 + np.sin(np.arange(1200))])
    own = coordinates.of(rows)
    narrow = FittedNet.from_core(partial(int), core, core, coordinates.scaling_of(own), loss)
    full = found.widened(narrow)

    inside, outside = narrow.core(torch.float64, CPU), full.core(torch.float64, CPU)
    x, x_full = torch.from_numpy(own / scaling.unit), torch.from_numpy(scaling.to_scaled(rows))
    own_loss, close = loss.in_coordinates(1200), partial(torch.testing.assert_close, rtol=1e-5)
    with torch.no_grad():
        out, out_full = inside(x), outside(x_full)
        close(out.z, out_full.z, atol=1e-5)
        close(Objective(own_loss)(x, out), Objective(loss)(x_full, out_full), atol=0)
        if kind == "shared":
            residuals = own_loss.residual(x, out.x_hat).mean(1)
            close(residuals, loss.residual(x_full, out_full.x_hat).mean(1), atol=0)


def test_without_training_it_is_pca(wide):
    """Codes, axes, ratios and noise; the VAE's likelihood is what it is at full width."""
    pca = PCA(4, svd_solver="full").fit(wide)
    model = AutoencoderTransformer(4, max_iter=0).fit(wide)
    np.testing.assert_allclose(model.transform(wide), pca.transform(wide), atol=2e-4)
    np.testing.assert_allclose(model.components_, pca.components_, atol=1e-6)
    for name in ("explained_variance_", "explained_variance_ratio_", "noise_variance_"):
        np.testing.assert_allclose(getattr(model, name), getattr(pca, name), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_is_what_it_is_at_full_width(kind, wide, monkeypatch):
    """Scores of rows and what is published, but for rounding."""
    kind = partial(kind, 4, max_iter=0, random_state=0)
    found = kind().fit(wide[:50])
    at_full_width(monkeypatch)
    expected = kind().fit(wide[:50])
    np.testing.assert_allclose(found.score_samples(wide), expected.score_samples(wide), rtol=1e-5)
    np.testing.assert_allclose(found.noise_variance_, expected.noise_variance_, rtol=1e-4)
    if isinstance(found, VAETransformer):
        assert found.lower_bound_ == pytest.approx(expected.lower_bound_, rel=1e-6)
        np.testing.assert_allclose(found.transform(wide), expected.transform(wide), atol=1e-4)


@CALM
@pytest.mark.parametrize("scale", ["global", None])
def test_what_training_measures_is_what_the_fitted_network_does(wide, scale, few_coordinates):
    """The loss of X_val by which an epoch was chosen, with rows far from the span, is the score."""
    model = AutoencoderTransformer(2, max_iter=30, scale=scale, random_state=0)
    model.fit(wide[:50], X_val=wide[50:])
    assert model.n_iter_ > 0
    unit = model._net.scaling.unit**2
    assert model.best_loss_ * unit == pytest.approx(
        -model.score_samples(wide[50:]).mean(), rel=1e-4
    )


@CALM
@pytest.mark.parametrize("kind", KINDS)
def test_training_finds_curves(kind, wide):
    """In coordinates it leaves the start for something better, and all features come back."""
    settings = dict(random_state=0, early_stopping=False)
    start = kind(2, max_iter=0, **settings).fit(wide)
    model = kind(2, max_iter=60, **settings).fit(wide)
    assert model.score(wide) > start.score(wide)
    assert model.sample(3, random_state=0).shape == (3, 1200)
    assert model.inverse_transform(model.transform(wide))[:, 7] == pytest.approx(2.5, abs=1e-5)


@CALM
def test_sparse_rows_train_as_dense_ones(wide):
    """By rounding only."""
    X = np.where(wide > 4, wide, 0)
    models = [
        AutoencoderTransformer(2, max_iter=3, random_state=0).fit(form)
        for form in (X, sparse.csr_array(X))
    ]
    scores = [model.score_samples(X) for model in models]
    np.testing.assert_allclose(*scores, rtol=1e-3)


@CALM
def test_a_fit_goes_on_among_all_features(wide):
    """By warm start, which may keep what it had, and by partial_fit, which does not."""
    model = AutoencoderTransformer(2, max_iter=3, warm_start=True, random_state=0).fit(wide[:40])
    before = model.transform(wide)
    assert model.fit(wide[40:]).score(wide) > 0.9
    codes = model.partial_fit(wide[40:]).transform(wide)
    assert 0 < abs(codes - before).max() < np.inf


@pytest.mark.parametrize(
    "settings",
    [
        {"corruption": GaussianNoise()},
        {"loss": "absolute_error"},
        {"scale": "standard"},
        {"encoder": MLP(1200, 2, [4]), "decoder": MLP(2, 1200, [4])},
        {"loss": type("Mine", (SquaredError,), {"__call__": SquaredError.__call__})()},
    ],
    ids=["corruption", "loss", "scale", "networks", "own loss"],
)
@CALM
def test_what_looks_at_features_is_trained_among_them(wide, settings, monkeypatch):
    """Nothing is left out where more than distances matters."""
    monkeypatch.setattr(Coordinates, "of", None)
    settings = dict(early_stopping=True, max_iter=1, random_state=0, **settings)
    AutoencoderTransformer(2, **settings).fit(wide)


def test_nothing_has_the_size_of_features_squared():
    """Rows of 100,000 features fit: a matrix of their squares would take 80 GB."""
    X = np.random.default_rng(0).normal(size=(30, 100_000)).astype(np.float32)
    for kind in KINDS[:2]:
        model = kind(2, hidden_layer_sizes=(8,), max_iter=0).fit(X)
        assert model.transform(X).shape == (30, 2)


def test_coordinates_of_sparse_rows_far_from_zero():
    """A column of 1e5 in float32 leaves no rounding error in the last coordinate."""
    rng = np.random.default_rng(0)
    X = rng.poisson(0.05, (80, 1500)).astype(np.float32)
    X[:, 0] = 1e5 + 3 * rng.normal(size=80)
    scaling = fit_scaling(X, "global")
    axes = np.linalg.svd(X.astype(float) - scaling.mean, full_matrices=False)[2][:40]
    coordinates = Coordinates(axes, scaling)
    found, expected = (coordinates.of(form) for form in (sparse.csr_array(X), X))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@CALM
@pytest.mark.parametrize(
    "settings", [{"init": "random", "pretraining": "greedy"}, {"penalty": "acai"}], ids=str
)
def test_nothing_is_kept_of_the_last_coordinate(wide, settings, few_coordinates):
    """Pretraining and critics may use it; the network that is given out does not."""
    model = AutoencoderTransformer(2, early_stopping=False, max_iter=20, random_state=0, **settings)
    score = model.fit(wide).score(wide)
    assert model.explained_variance_ratio_.sum() == pytest.approx(max(score, 0), abs=1e-6)


def test_a_random_start_is_not_cut_to_the_codes(wide, monkeypatch):
    """Without training a random network is what it is among all features."""
    kind = partial(AutoencoderTransformer, 2, init="random", max_iter=0, random_state=0)
    found = kind().fit(wide)
    at_full_width(monkeypatch)
    np.testing.assert_array_equal(found.transform(wide), kind().fit(wide).transform(wide))


def test_spread_coordinates_share_out_the_variance(wide):
    """They span the same rows, and none has most of the variance."""
    scaling = fit_scaling(wide, "global")
    axes = PCA(30, svd_solver="full").fit(wide).components_
    spread = Coordinates.spread(axes, scaling)
    np.testing.assert_allclose(spread.axes.T @ spread.axes, axes.T @ axes, atol=1e-12)
    shares = spread.of(wide)[:, :-1].var(0)
    assert shares.max() < 0.25 * shares.sum()
    leading = Coordinates(axes, scaling).of(wide)[:, :-1].var(0)
    assert leading.max() > 0.4 * leading.sum()


def test_the_likelihood_of_wide_rows_is_that_of_all_features(wide):
    """It can be given to another estimator, for rows of any width."""
    settings = dict(early_stopping=False, random_state=0)
    model = VAETransformer(3, max_iter=2, **settings).fit(wide)
    again = VAETransformer(2, max_iter=1, likelihood=model.likelihood_, **settings)
    assert type(model.likelihood_) is Gaussian
    assert again.fit(wide[:, :6]).likelihood_.get_params() == model.likelihood_.get_params()
