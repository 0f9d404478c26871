"""Architectures in the slot: the start is PCA's, fits, searches and errors are as with others."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae.architectures import Architecture, Convolutional, Convolutional1d
from skae.metrics import explained_variance_scorer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ESTIMATORS = [AutoencoderTransformer, VAETransformer, VQVAETransformer]
IMAGES = Convolutional((8, 8), (6, 8))
QUICK = dict(early_stopping=False, max_iter=2, random_state=0)


@pytest.fixture(scope="module")
def waves():
    """Return 300 windows of 12 points of two channels: waves of any phase, and noise."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 5, 12) + rng.uniform(0, 6, size=(300, 1))
    both = np.stack([np.sin(angles) ** 3, np.cos(2 * angles)], axis=2)
    return both.reshape(300, 24) + 0.05 * rng.normal(size=(300, 24)) + 3


# -- the start ---------------------------------------------------------------------------------


def test_the_start_is_pca(digits):
    """Codes, components and scores before any epoch are PCA's."""
    model = AutoencoderTransformer(5, encoder=IMAGES, max_iter=0).fit(digits)
    pca = PCA(5).fit(digits)
    np.testing.assert_allclose(model.transform(digits), pca.transform(digits), atol=1e-5)
    np.testing.assert_allclose(model.components_, pca.components_, atol=1e-5)
    np.testing.assert_allclose(model.explained_variance_, pca.explained_variance_, rtol=1e-4)
    assert AutoencoderTransformer(0.8, encoder=IMAGES, max_iter=0).fit(digits).n_components_ == len(
        PCA(0.8).fit(digits).components_
    )


@pytest.mark.parametrize("noise", ["shared", "per_feature"])
def test_the_start_of_the_vae_is_a_linear_model(digits, noise):
    """Its bound is that of the perceptron's start, of PCA where noise is shared."""
    from skae.objectives import Gaussian

    how, X = dict(likelihood=Gaussian(noise), prior="normal", max_iter=0), digits[:500]
    found = VAETransformer(5, encoder=IMAGES, **how).fit(X).score(X)
    assert found == pytest.approx(VAETransformer(5, **how).fit(X).score(X), abs=1e-3)
    if noise == "shared":
        assert found == pytest.approx(PCA(5).fit(X).score(X), abs=2e-3)


def test_the_start_of_the_vqvae_is_product_quantization(digits):
    """It is the same as the perceptron's."""
    fits = [
        VQVAETransformer(8, encoder=e, max_iter=0, random_state=0).fit(digits)
        for e in (IMAGES, None)
    ]
    scores = [fit.score(digits) for fit in fits]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)  # k-means from other draws
    assert scores[0] > 0.5


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_training_is_kept_where_it_is_better(kind, digits):
    """On images there is something to find: held-out scores rise over the start's."""
    how = dict(encoder=Convolutional((8, 8), (8, 16)), max_iter=12, random_state=0)
    how |= dict(early_stopping=True, learning_rate=0.01)
    how |= dict(likelihood="gaussian", prior="normal") if kind is VAETransformer else {}
    trained = kind(8, **how).fit(digits[:1400]).score(digits[1400:])
    start = kind(8, **{**how, "max_iter": 0}).fit(digits[:1400]).score(digits[1400:])
    assert trained > start + 0.02


def test_linear_series_stay_at_pca():
    """Of Gaussian rows nothing is to be found, and nothing is lost."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 16)) + 0.3 * rng.normal(size=(400, 16))
    series = Convolutional1d((16,), (4, 8))
    model = AutoencoderTransformer(3, encoder=series, max_iter=10, random_state=0)
    pca = PCA(3).fit(X[:300])
    expected = explained_variance_scorer(pca, X[300:])
    assert model.fit(X[:300]).score(X[300:]) > expected - 0.01


# -- as other estimators -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_fits_are_repeated_pickled_and_go_on(kind, waves):
    """Bits are those of another fit, a pickle gives the same codes, `partial_fit` goes on."""
    model = kind(4, encoder=Convolutional1d((12, 2), (4, 6), causal=True), **QUICK).fit(waves)
    codes = model.transform(waves)
    for other in (clone(model).fit(waves), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.transform(waves), codes)
    assert model.inverse_transform(codes).shape == waves.shape
    assert model.sample(3, random_state=0).shape == (3, 24)
    going = kind(4, encoder=Convolutional1d((12, 2), (4, 6)), **QUICK)
    for part in np.array_split(waves, 3):
        going.partial_fit(part)
    assert np.isfinite(going.score(waves))
    going.set_params(encoder__channels=(4, 4))
    with pytest.raises(ValueError, match="cannot go on from its last fit with encoder="):
        going.partial_fit(waves)


def test_rows_of_any_kind_are_the_same(waves, tmp_path):
    """Float32, CSR and memory-mapped rows give what float64 ones give, up to rounding."""
    from scipy.sparse import csr_array

    np.save(tmp_path / "rows.npy", waves)
    model = AutoencoderTransformer(3, encoder=Convolutional1d((12, 2), (4, 6)), **QUICK)
    expected = model.fit(waves).transform(waves)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for rows in (csr_array(waves), mapped, waves.astype(np.float32)):
        np.testing.assert_allclose(model.fit(rows).transform(waves), expected, atol=2e-3)


def test_channels_are_searched_alike_side_by_side(digits):
    """In a pipeline, by name, with two processes as with one."""
    model = AutoencoderTransformer(3, encoder=Convolutional((8, 8)), **QUICK)
    pipeline = make_pipeline(StandardScaler(), model)
    grid = {"autoencodertransformer__encoder__channels": [(4,), (4, 8)]}
    found = [
        GridSearchCV(pipeline, grid, cv=2, n_jobs=n).fit(digits[:200]).cv_results_
        for n in (None, 2)
    ]
    np.testing.assert_array_equal(*(each["mean_test_score"] for each in found))
    assert np.ptp(found[0]["mean_test_score"]) > 0


def test_variants_go_with_images(digits):
    """Dropout of dense layers, corruption, ordered and sparse codes, other losses and starts."""
    deep = dict(encoder=IMAGES, hidden_layer_sizes=(16,), **QUICK)
    for variant in (
        dict(dropout=0.2),
        dict(corruption="masking", ordered=True),
        dict(penalty="l1"),
        dict(penalty="contractive"),
        dict(penalty="acai"),
        dict(loss="bernoulli"),
        dict(init="random", loss="huber"),
        dict(precision="bfloat16", batch_size=512),
    ):
        model = AutoencoderTransformer(4, **deep, **variant).fit(digits[:600])
        assert np.isfinite(model.score(digits[:600])), variant
        assert model.components_.shape == (4, 64)


def test_components_are_the_decoder_s_derivatives(digits):
    """At the mean code, as for perceptrons, by finite differences."""
    model = AutoencoderTransformer(3, encoder=IMAGES, activation="tanh", ordered=True, **QUICK)
    model.fit(digits)
    at, step = model.transform(digits).mean(0), 1e-4
    for i, direction in enumerate(np.eye(3)):
        ends = model.inverse_transform(np.array([at + step * direction, at - step * direction]))
        np.testing.assert_allclose(
            (ends[0] - ends[1]) / (2 * step), model.components_[i], rtol=1e-3, atol=1e-4
        )


def test_no_global_state_is_touched(digits):
    """Torch's generator and thread count stay what they are."""
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    AutoencoderTransformer(3, encoder=IMAGES, **QUICK).fit(digits).transform(digits)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


class Series(AutoencoderTransformer):
    """An autoencoder of series as long as rows are wide."""

    def fit(self, X, y=None, **more):
        """Fit, with the shape of X."""
        self._encoder_of(X)
        return super().fit(X, y, **more)

    def partial_fit(self, X, y=None):
        """Go on, with the shape of the first X."""
        if not hasattr(self, "n_features_in_"):
            self._encoder_of(X)
        return super().partial_fit(X, y)

    def _encoder_of(self, X):
        shape = getattr(X, "shape", None) or np.asarray(X).shape
        width = max(shape[1], 1) if len(shape) == 2 else 1
        self._given = Convolutional1d((width, 1), (4,), kernel_size=1 if width < 3 else 3)

    @property
    def _networks_of(self):
        return getattr(self, "_given", None)


@parametrize_with_checks([Series(max_iter=2, early_stopping=False)])
def test_estimator_checks(estimator, check):
    """Series of any length pass scikit-learn's checks."""
    check(estimator)


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Convolutional((8, 9)), r"X has 64 features, but image_shape=\(8, 9\) is of 72 values"),
        (Convolutional((8, 8, 3)), r"image_shape=\(8, 8, 3\) is of 192"),
        (Convolutional((64,)), r"'image_shape' .* must be a tuple of positive ints, \(height"),
        (Convolutional((8, 8.0)), "'image_shape'"),
        (Convolutional("64"), "'image_shape'"),
        (Convolutional((2, 32)), r"kernel_size=3 is wider than image_shape=\(2, 32\).*has 2"),
        (Convolutional((8, 8), kernel_size=4), "kernel_size must be odd.*Got 4"),
        (Convolutional((8, 8), kernel_size=0), "'kernel_size'"),
        (Convolutional((8, 8), ()), "channels must have at least one number"),
        (Convolutional((8, 8), 32), "'channels'"),
        (
            Convolutional((8, 8), (12, 16), normalization="group"),
            r"8 groups, which do not divide 12 of channels=\(12, 16\)",
        ),
        (Convolutional((8, 8), normalization="batch"), "'normalization'"),
        (Convolutional((8, 8), data_format="NCHW"), "'data_format'.*channels_first"),
        (Convolutional((8, 8), n_residual_blocks=-1), "'n_residual_blocks'"),
        (Convolutional1d((32, 3)), r"series_shape=\(32, 3\) is of 96"),
        (Convolutional1d((4, 4, 4)), "'series_shape'"),
        (Convolutional1d((2, 32)), "kernel_size=3 is wider"),
        (Convolutional1d((64,), causal="no"), "'causal'"),
        (Convolutional, r"encoder=Convolutional is a class.* Pass Convolutional\(...\)"),
        (
            Convolutional((8, 8), (8, 8, 8), normalization="group"),
            "groups of one value of the 8 channels at the one position of convolution 3",
        ),
        (3, "'encoder' .*Architecture"),
    ],
)
def test_shapes_that_do_not_fit_are_named(encoder, message, digits):
    """Before any work."""
    with pytest.raises((ValueError, TypeError), match=message):
        AutoencoderTransformer(2, encoder=encoder, max_iter=10**6).fit(digits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(decoder=torch.nn.Linear), "decoder must be None with encoder=Convolutional"),
        (dict(tied_weights=True), "tied_weights=True needs"),
        (dict(pretraining="greedy", init="random"), "pretraining='greedy' needs"),
    ],
)
def test_what_does_not_go_with_an_architecture_is_named(settings, message, digits):
    """Before any work."""
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(2, encoder=IMAGES, max_iter=10**6, **settings).fit(digits)


def test_objects_are_no_images(digits):
    """Strings among the rows are refused in scikit-learn's words."""
    with pytest.raises(ValueError, match="could not convert string"):
        AutoencoderTransformer(2, encoder=IMAGES).fit(np.full((20, 64), "a", dtype=object))


def test_an_architecture_of_ones_own():
    """It has a check and a build, and starts at PCA if its networks can."""
    from skae.modules import MLP

    class Wide(Architecture):
        def __init__(self, factor=2):
            self.factor = factor

        def check(self, n_features=None):
            if n_features and n_features > 10:
                raise ValueError(f"Wide takes 10 features at most. Got {n_features}.")

        def build(self, *, n_features, n_encoded, n_components, activation, skip, **how):
            width, more = [self.factor * n_features], (activation,)
            how = {"skip": skip, "generator": how["generator"]}
            return (
                MLP(n_features, n_encoded, width, *more, **how),
                MLP(n_components, n_features, width, *more, **how),
            )

    X = np.random.default_rng(0).normal(size=(60, 6)) + 4
    model = AutoencoderTransformer(2, encoder=Wide(), max_iter=0).fit(X)
    np.testing.assert_allclose(model.transform(X), PCA(2).fit_transform(X), atol=1e-5)
    with pytest.raises(ValueError, match="10 features at most"):
        model.fit(np.ones((5, 11)))


class Mistaken(Architecture):
    """An architecture whose networks are not what they should be."""

    def __init__(self, make=None):
        self.make = make

    def check(self, n_features=None):
        """Find nothing wrong."""

    def build(self, *, n_features, n_encoded, n_components, **how):
        """Return what `make` makes of three widths."""
        return self.make(n_features, n_encoded, n_components)


def networks(n_in, n_code, n_out):
    """Return two perceptrons."""
    from skae.modules import MLP

    return MLP(n_in, n_code, [], skip=True), MLP(n_code, n_out, [], skip=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda n, m, k: networks(n, m + 1, n),
        lambda n, m, k: networks(n, k, n - 1),
        lambda n, m, k: networks(n, k, n)[0],
        lambda n, m, k: None,
        lambda n, m, k: (torch.nn.Linear(n, m), torch.nn.Linear(k, n)),
    ],
)
def test_networks_that_do_not_fit_are_named(make):
    """By their widths, whatever the estimator."""
    X = np.random.default_rng(0).normal(size=(30, 6))
    message = r"must return an encoder and a decoder, .*\(6, 2\) and \(2, 6\), but returned"
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(2, encoder=Mistaken(make), max_iter=1).fit(X)


def test_building_is_isolated_and_repeated():
    """What draws from torch's generator follows `random_state` and leaves the generator alone."""
    from skae.modules import Network

    class Plain(Network):
        def __init__(self, n_in, n_out):
            super().__init__(n_in, n_out)
            self.layer = torch.nn.Linear(n_in, n_out)

        def forward(self, x):
            return self.layer(x)

    def make(n, m, k):
        return [Plain(n, m), Plain(k, n).double()]

    X = np.random.default_rng(0).normal(size=(30, 6))
    before = torch.random.get_rng_state()
    model = AutoencoderTransformer(2, encoder=Mistaken(make), init="random", **QUICK)
    codes = [model.fit(X).transform(X) for _ in range(2)]
    assert np.array_equal(*codes)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_equal_architectures_go_on(waves):
    """Lists, tuples and NumPy's integers of the same numbers are the same channels."""
    model = AutoencoderTransformer(2, encoder=Convolutional1d((12, 2), (4, 6)), **QUICK)
    model.fit(waves).set_params(warm_start=True)
    for channels in ([4, 6], np.array([4, 6])):
        model.set_params(encoder__channels=channels).fit(waves)
    with pytest.raises(ValueError, match="cannot go on"):
        model.set_params(encoder__channels=(4, 8)).fit(waves)


def test_borders_that_never_vary_do_not_shift_a_random_start(digits):
    """Of zeros and ones, outputs start near the mean of the pixels that vary."""
    binary = (digits > 0.5).astype(float)
    how = dict(init="random", loss="bernoulli", max_iter=0, random_state=0)
    model = AutoencoderTransformer(4, encoder=IMAGES, **how).fit(binary)
    varies = np.ptp(binary, axis=0) > 0
    found = model.inverse_transform(model.transform(binary))[:, varies].mean()
    assert found == pytest.approx(binary[:, varies].mean(), abs=0.15)


# -- a code for each position ------------------------------------------------------------------

GRID = Convolutional((8, 8), (6, 8), grid=True)


def test_patches_are_the_pixels_of_each_position():
    """In both layouts, at the edge of odd sizes too, each feature in one patch."""
    shown = np.arange(7 * 5 * 2).reshape(7, 5, 2)
    last = Convolutional((7, 5, 2), (4, 4), grid=True).patches()
    first = Convolutional((2, 7, 5), (4, 4), data_format="channels_first", grid=True).patches()
    assert len(last) == len(first) == 2 * 2
    assert set(last[0]) == set(shown[:4, :4].ravel())
    assert set(last[1]) == set(shown[:4, 4:].ravel())
    assert set(last[2]) == set(shown[4:, :4].ravel())
    assert sorted(np.concatenate(last)) == list(range(70))
    rows = np.random.default_rng(0).normal(size=(7, 5, 2))
    for one, other in zip(last, first, strict=True):
        assert set(rows.ravel()[one]) == set(rows.transpose(2, 0, 1).ravel()[other])
    assert [list(p) for p in Convolutional1d((5,), (2,), grid=True).patches()] == [
        [0, 1],
        [2, 3],
        [4],
    ]
    assert Convolutional((8, 8)).patches() is None


def test_a_grid_starts_at_k_means_of_principal_components_of_patches(digits):
    """Where there are as many components as pixels it is k-means of patches."""
    from sklearn.cluster import KMeans

    how = dict(encoder=Convolutional((8, 8), (6, 8), grid=True), codebook_size=8, max_iter=0)
    model = VQVAETransformer(64, scale=None, random_state=0, **how).fit(digits)
    assert model.n_codes_ == 4
    rows = digits.reshape(-1, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 16)
    left = sum(KMeans(8, n_init=3, random_state=0).fit(rows[:, i]).inertia_ for i in range(4))
    expected = 1 - left / np.square(digits - digits.mean(0)).sum()
    assert model.score(digits) == pytest.approx(expected, abs=0.01)
    found = model.inverse_transform(model.transform(digits))
    assert found.shape == digits.shape


@pytest.mark.parametrize("shared", [False, True])
def test_codes_of_a_grid_see_their_surroundings_alone(digits, shared):
    """The start's code of a position depends on its patch; training is kept where it is better."""
    from skae.quantization import VectorQuantization

    how = dict(encoder=GRID, codebook_size=16, encode="codes", random_state=0)
    how |= dict(quantizer=VectorQuantization(shared=shared), early_stopping=True)
    start = VQVAETransformer(16, max_iter=0, **how).fit(digits)
    changed = digits[:200].reshape(-1, 8, 8).copy()
    changed[:, :4, :4] = 1 - changed[:, :4, :4]
    codes = [start.transform(rows) for rows in (digits[:200], changed.reshape(-1, 64))]
    assert (codes[0][:, 1:] == codes[1][:, 1:]).all()
    assert (codes[0][:, 0] != codes[1][:, 0]).any()
    trained = VQVAETransformer(16, max_iter=10, **how).fit(digits[:1400])
    assert trained.score(digits[1400:]) > start.score(digits[1400:]) + 0.005


def test_a_grid_needs_few_rows(digits):
    """By default as many components as divide among positions; parts as many as one needs."""
    how = dict(encoder=GRID, codebook_size=8, **QUICK)
    assert VQVAETransformer(**how).fit(digits[:30]).n_components_ == 28
    model = VQVAETransformer(64, **how).partial_fit(digits[:20])
    assert model.partial_fit(digits[20:40]).score(digits) > 0
    with pytest.raises(ValueError, match="n_components=16 must be less"):
        VQVAETransformer(64, **how).partial_fit(digits[:15])
    robust = VQVAETransformer(8, loss="huber", **how).fit(digits)
    assert robust.score(digits) > 0.3


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (AutoencoderTransformer, {}, "has a code for each position, which is for VQVAE"),
        (VAETransformer, {}, "has a code for each position, which is for VQVAE"),
        (VQVAETransformer, dict(n_components=0.9), "n_components must be a number with a code"),
        (VQVAETransformer, dict(n_codes=2), "has 4 positions .* Got n_codes=2"),
        (VQVAETransformer, dict(n_components=6), "n_components a multiple of it. Got .*=6"),
        (VQVAETransformer, dict(hidden_layer_sizes=(8,)), "hidden_layer_sizes are dense layers"),
        (VQVAETransformer, dict(encoder=Convolutional((8, 8), grid=2)), "'grid'"),
    ],
)
def test_what_does_not_go_with_a_grid_is_named(kind, settings, message, digits):
    """Before any work."""
    model = kind(**{"n_components": 8, "encoder": GRID, "max_iter": 10**6, **settings})
    with pytest.raises(ValueError, match=message):
        model.fit(digits)
