"""Tests of VQVAETransformer: its codebooks against k-means, quantizers, losses, the start."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, make_blobs, make_swiss_roll
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from skae import VQVAETransformer
from skae._training.step import Step
from skae.modules import VectorQuantizer
from skae.objectives import Gaussian, Objective, SquaredError
from skae.quantization import FiniteScalarQuantization, Quantization, VectorQuantization

ENDS_EARLY = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def fitted(digits):
    """Return a model of two codes per row, independent of each other."""
    settings = dict(max_iter=10, early_stopping=False, prior="independent", random_state=0)
    return VQVAETransformer(8, codebook_size=32, **settings).fit(digits)


@pytest.mark.parametrize(("update", "tolerance"), [("ema", 0.02), ("gradient", 0.05)])
def test_with_identity_networks_it_is_kmeans(digits, update, tolerance):
    """Inertia is about scikit-learn's best of ten, and every row has its nearest vector."""
    model = VQVAETransformer(
        64,
        n_codes=1,
        codebook_size=64,
        codebook_update=update,
        encoder=torch.nn.Identity(),
        decoder=torch.nn.Identity(),
        early_stopping=False,
        max_iter=15,
        prior="uniform",
        random_state=0,
    ).fit(digits)
    inertia = -model.score_samples(digits).sum()
    vectors = model.codebook_[0] + digits.mean(0)
    distances = ((digits[:, None] - vectors) ** 2).sum(2)

    reference = KMeans(64, n_init=10, random_state=0).fit(digits).inertia_
    assert inertia < (1 + tolerance) * reference
    assert inertia == pytest.approx(distances.min(1).sum(), rel=1e-6)


@pytest.mark.parametrize("offset", [0, 1e4])
def test_kmeans_is_as_good_far_from_the_origin(digits, offset):
    """Where scale=None leaves rows with an offset, digits do not cancel."""
    settings = dict(scale=None, n_codes=1, codebook_size=16, max_iter=0, random_state=0)
    identity = dict(encoder=torch.nn.Identity(), decoder=torch.nn.Identity())
    X = 16 * digits[:500] + offset
    model = VQVAETransformer(64, **settings, **identity).fit(X)
    reference = KMeans(16, n_init=5, random_state=0).fit(X).inertia_

    assert -model.score_samples(X).sum() < 1.03 * reference


def tables():
    """Return tables by name: real, clustered, curved, low-rank and heavy-tailed rows."""
    rng = np.random.default_rng(0)
    low_rank = rng.normal(size=(2000, 5)) @ rng.normal(size=(5, 30))
    tailed = rng.lognormal(size=(3000, 8))
    return {
        "digits": load_digits().data,
        "cancer": scale(load_breast_cancer().data),
        "blobs": make_blobs(1500, 10, centers=40, random_state=0)[0],
        "roll": make_swiss_roll(1500, noise=0.1, random_state=0)[0],
        "low rank": low_rank + 0.1 * rng.normal(size=low_rank.shape),
        "heavy tails": scale(tailed),
    }


@pytest.mark.parametrize("name", tables())
def test_one_code_per_row_is_never_below_kmeans(name):
    """The score of training rows is at least that of scikit-learn's KMeans minus 0.002."""
    X = tables()[name]
    total = ((X - X.mean(0)) ** 2).sum()
    model = VQVAETransformer(n_codes=1, codebook_size=64, random_state=0).fit(X)
    reference = KMeans(64, random_state=0).fit(X)

    assert model.score(X) > 1 - reference.inertia_ / total - 0.002


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("quantizer", ["vector", "residual"])
def test_training_lowers_its_own_loss(digits, update, quantizer):
    """The mean of the objective does not rise from one tenth of the epochs to the next."""
    model = VQVAETransformer(
        16,
        codebook_size=32,
        codebook_update=update,
        quantizer=quantizer,
        early_stopping=False,
        max_iter=30,
        random_state=0,
    ).fit(digits[:700])
    by_tenth = np.reshape(model.loss_curve_, (10, -1)).mean(1)

    assert (np.diff(by_tenth) < 0.01 * by_tenth[0]).all()
    assert by_tenth[-1] < by_tenth[0]


@ENDS_EARLY
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    n_rows=st.integers(40, 120),
    n_features=st.integers(1, 6),
    rate=st.sampled_from([1e-3, 0.1]),
    held_out=st.booleans(),
)
def test_training_rows_are_never_worse_off_than_at_the_start(
    seed, n_rows, n_features, rate, held_out
):
    """Whatever the table, the learning rate and the rows held out, the kept state serves them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_features)) * rng.lognormal(size=n_features)
    common = dict(codebook_size=8, learning_rate=rate, batch_size=16, random_state=seed)
    start = VQVAETransformer(max_iter=0, **common).fit(X)
    model = VQVAETransformer(early_stopping=held_out, max_iter=4, **common)
    model.fit(X, X_val=2 * X[:20] if held_out else None)

    assert model.score(X) >= start.score(X) - 1e-6


def test_codes_are_concatenated_codebook_vectors(fitted, digits):
    """Each block of a row's code is a vector of that position's codebook."""
    blocks = fitted.transform(digits).reshape(-1, 2, 4)
    for position in range(2):
        distances = np.abs(blocks[:, position, None] - fitted.codebook_[position]).max(2)
        assert distances.min(1).max() == 0.0


def test_usage_and_perplexity_describe_the_training_rows(fitted, digits):
    """They equal what counting the rows' vectors gives, and codebooks are alive."""
    blocks = fitted.transform(digits).reshape(-1, 2, 4)
    for position in range(2):
        _, counts = np.unique(blocks[:, position], axis=0, return_counts=True)
        frequencies = counts / len(digits)
        usage = fitted.codebook_usage_[position]
        np.testing.assert_allclose(np.sort(usage[usage > 0]), np.sort(frequencies))
        entropy = -(frequencies * np.log(frequencies)).sum()
        assert fitted.perplexity_[position] == pytest.approx(np.exp(entropy))
    assert (fitted.codebook_usage_ > 0).mean() > 0.95


@pytest.mark.parametrize(
    ("n_components", "n_codes"), [(64, 16), (16, 4), (10, 2), (7, 1), (2, 1), (1, 1)]
)
def test_auto_codes_divide_the_components(digits, n_components, n_codes):
    """ "auto" is the divisor that makes vectors of about four components."""
    model = VQVAETransformer(n_components, max_iter=0, codebook_size=4, random_state=0)

    assert model.fit(digits[:50]).n_codes_ == n_codes


def test_codes_must_divide_the_components(digits):
    """The error names both numbers and the remedy."""
    with pytest.raises(ValueError, match=r"n_codes=3 does not divide n_components=8.*'auto'"):
        VQVAETransformer(8, n_codes=3).fit(digits[:50])


def test_a_codebook_larger_than_the_data_is_cut(digits):
    """It has as many vectors as there are distinct rows, and each row is its own code."""
    X = np.vstack([digits[:40], digits[:30]])
    settings = dict(n_codes=1, max_iter=0, random_state=0)
    with pytest.warns(UserWarning, match="codebook_size=512 is larger.*have 40 vectors"):
        model = VQVAETransformer(64, codebook_size=512, **settings).fit(X)

    assert model.codebook_.shape == (1, 40, 64)
    assert model.score(X) > 0.95
    quiet = VQVAETransformer(64, **settings).fit(X)
    assert quiet.codebook_.shape == (1, 40, 64)


def test_gradients_reach_codebooks_that_have_gone_astray(digits):
    """Trained by gradients, codebooks follow rows that move, as averages do."""
    scores = {}
    for update in ("ema", "gradient"):
        model = VQVAETransformer(
            8,
            codebook_size=32,
            codebook_update=update,
            learning_rate=1e-2,
            dead_code_threshold=0,
            batch_size=32,
            encoder=torch.nn.Linear(64, 8),
            max_iter=0,
            prior="uniform",
            random_state=0,
        ).fit(digits[:600])
        before = model.codebook_.copy()
        model.set_params(max_iter=1)
        for _ in range(5):
            model.partial_fit(digits[:600])
        scores[update] = model.score(digits[:600])
        assert not np.allclose(model.codebook_, before, atol=0.1)

    assert scores["gradient"] > scores["ema"] - 0.05


def test_weight_decay_spares_codebooks(digits):
    """Codes of rows far from zero stay where the rows are, whatever the decay."""
    X = digits[:300] + 3
    model = VQVAETransformer(
        4,
        codebook_size=8,
        codebook_update="gradient",
        commitment_weight=0,
        weight_decay=100.0,
        scale=None,
        encoder=torch.nn.Linear(64, 4),
        early_stopping=False,
        max_iter=0,
        prior="uniform",
        random_state=0,
    ).fit(X)
    core = model._net.make_core()
    step = Step(
        core,
        Objective(SquaredError()),
        torch.Generator(),
        learning_rate=1e-3,
        weight_decay=100.0,
        compiled=False,
    )
    before = core.quantizer.codebook.detach().clone(), core.encoder.module.weight.detach().clone()
    for _ in range(30):
        step.begin_epoch(0.0)
        step(torch.tensor(X[:32], dtype=torch.float32))
        step.end_epoch()

    assert torch.equal(core.quantizer.codebook, before[0])
    assert core.encoder.module.weight.abs().sum() < 0.95 * before[1].abs().sum()


@ENDS_EARLY
def test_stages_and_codes_buy_accuracy(digits):
    """Twice as many stages, or codes, leave less error; shared codebooks about as much."""
    scores = {}
    for n_stages, shared in ((1, False), (2, False), (2, True)):
        quantizer = VectorQuantization(n_stages, shared)
        settings = dict(codebook_size=32, prior="uniform", max_iter=10, random_state=0)
        settings |= dict(early_stopping=True)
        model = VQVAETransformer(8, quantizer=quantizer, **settings).fit(digits[:1300])
        assert model.n_codes_ == 2 * n_stages
        assert model.codebook_.shape == (n_stages if shared else 2 * n_stages, 32, 4)
        scores[n_stages, shared] = model.score(digits[1300:])

    assert scores[2, False] > scores[1, False] + 0.05
    assert scores[2, True] > scores[1, False] + 0.05


@ENDS_EARLY
def test_a_grid_needs_no_codebook(digits):
    """Its start is better than one code for each vector could be, and training improves on it."""
    settings = dict(quantizer="finite_scalar", codebook_size=256, prior="uniform", random_state=0)
    start = VQVAETransformer(8, max_iter=0, **settings).fit(digits[:1300])
    model = VQVAETransformer(8, max_iter=15, **settings).fit(digits[:1300])

    assert model.codebook_.shape == (2, 256, 4)
    assert start.score(digits[1300:]) > 0.5
    assert model.score(digits[1300:]) > start.score(digits[1300:]) + 0.05
    with pytest.raises(ValueError, match=r"levels=\(3, 3\) must be 'auto' or 4 ints"):
        VQVAETransformer(8, quantizer=FiniteScalarQuantization((3, 3))).fit(digits[:50])


def test_levels_share_out_the_codebook():
    """They differ by one at most, and one more of the fewest would be too many."""
    for size, dim, levels in ((256, 4, [4, 4, 4, 4]), (300, 3, [7, 7, 6]), (5, 2, [2, 2])):
        quantizer = FiniteScalarQuantization().build(1, size, dim, None)
        assert quantizer.levels.tolist() == levels


def test_the_loss_is_a_slot(digits):
    """Binary rows under the Bernoulli loss: probabilities out, fewer nats than squared error."""
    X = (digits > 0.5).astype(float)
    settings = dict(codebook_size=32, max_iter=15, early_stopping=False, random_state=0)
    nats = {}
    for loss in ("squared_error", "bernoulli"):
        model = VQVAETransformer(8, loss=loss, prior="independent", **settings).fit(X[:1300])
        p = np.clip(model.inverse_transform(model.transform(X[1300:])), 1e-3, 1 - 1e-3)
        nats[loss] = -np.where(X[1300:] == 1, np.log(p), np.log(1 - p)).sum(1).mean()
    assert nats["bernoulli"] < nats["squared_error"] - 0.5
    assert set(np.unique(model.sample(50, random_state=0))) == {0.0, 1.0}
    with pytest.raises(ValueError, match=r"'loss' parameter.*an instance of Loss"):
        VQVAETransformer(loss=Gaussian()).fit(X[:50])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        VQVAETransformer(loss="bernoulli").fit(2 * X[:50])


@ENDS_EARLY
def test_slots_are_searched(digits):
    """Parameters of a quantizer are a grid's, inside of a pipeline."""
    settings = dict(codebook_size=16, max_iter=2, early_stopping=True, prior="uniform")
    model = VQVAETransformer(8, quantizer=VectorQuantization(), **settings)
    pipeline = make_pipeline(StandardScaler(), model)
    grid = {"vqvaetransformer__quantizer__n_stages": [1, 3]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(digits[:200])

    assert search.best_params_ == {"vqvaetransformer__quantizer__n_stages": 3}


class Fixed(VectorQuantizer):
    """Codebooks that training leaves alone."""

    def start(self, z, batch_size, generator):
        """Keep what there is."""

    def update(self):
        """Keep what there is."""


class Halves(Quantization):
    """A quantizer of one's own: a fixed codebook of halves."""

    learned = False

    def build(self, n_parts, codebook_size, code_dim, decay):
        quantizer = Fixed(n_parts, 2, code_dim)
        quantizer.codebook[:, 1] = 0.5
        return quantizer


class Nothing(Quantization):
    """It builds no quantizer."""

    def build(self, n_parts, codebook_size, code_dim, decay):
        return None


@ENDS_EARLY
def test_a_quantization_of_one_s_own(digits):
    """It takes part in training, in pickles and in clones; what is none is refused."""
    model = VQVAETransformer(4, quantizer=Halves(), max_iter=2, scale=None, random_state=0)
    model = clone(model).fit(digits[:100])
    assert set(np.unique(model.transform(digits))) <= {0.0, 0.5}
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.transform(digits), model.transform(digits))

    with pytest.raises(TypeError, match=r"must return a skae\.modules\.Quantizer"):
        VQVAETransformer(4, quantizer=Nothing()).fit(digits[:50])
    for quantizer, words in (
        (VectorQuantization(shared="yes"), "shared of .* must be a bool"),
        (FiniteScalarQuantization(3), "levels=3 must be 'auto' or 4 ints"),
        (FiniteScalarQuantization([2.5, 2, 2, 2]), "must be 'auto' or 4 ints"),
    ):
        with pytest.raises(ValueError, match=words):
            VQVAETransformer(4, quantizer=quantizer).fit(digits[:50])
    with pytest.raises(ValueError, match="codebook_size=256 is too small for two levels of each"):
        VQVAETransformer(13, quantizer="finite_scalar").fit(digits[:50])
    for value in ("nearest", 3, VectorQuantization):
        with pytest.raises(ValueError, match="'quantizer' parameter"):
            VQVAETransformer(4, quantizer=value).fit(digits[:50])
    with pytest.raises(ValueError, match=r"n_stages.*must be an int.*Got 0"):
        VQVAETransformer(4, quantizer=VectorQuantization(0)).fit(digits[:50])


@ENDS_EARLY
def test_training_improves_on_product_quantization_of_pca(digits):
    """Held-out rows are reconstructed better than at the start."""
    train, test = digits[:1300], digits[1300:]
    start = VQVAETransformer(8, max_iter=0, random_state=0).fit(train)
    model = VQVAETransformer(8, early_stopping=True, random_state=0).fit(train)

    assert model.score(test) > start.score(test) + 0.03


def test_axes_are_shared_out_between_codes(digits):
    """The two strongest axes do not meet in one code vector."""
    model = VQVAETransformer(4, n_codes=2, max_iter=0, random_state=0).fit(digits)
    spread = model.codebook_.std(1)

    assert spread[0].max() == pytest.approx(spread[1].max(), rel=0.3)


def test_codes_follow_rows_that_move(digits):
    """Codes restart on new rows: without restarts most stay where no row is any more."""
    alive = {}
    for threshold in (0.0, 0.05):
        model = VQVAETransformer(
            8,
            codebook_size=32,
            decay=0.5,
            dead_code_threshold=threshold,
            max_iter=0,
            random_state=0,
        ).fit(digits[:600])
        model.set_params(max_iter=1)
        for _ in range(5):
            model.partial_fit(4 - digits[:600])
        codes = model.transform(4 - digits[:600]).reshape(-1, 2, 4)
        alive[threshold] = np.mean([len(np.unique(c, axis=0)) / 32 for c in codes.swapaxes(0, 1)])

    assert alive[0.05] > 0.9
    assert alive[0.05] > alive[0.0] + 0.2


def test_commitment_keeps_encodings_near_their_codes(digits):
    """A large weight leaves less distance between what is encoded and the code it gets."""
    distance = {}
    for weight in (0.0, 10.0):
        model = VQVAETransformer(
            8,
            codebook_size=8,
            commitment_weight=weight,
            early_stopping=False,
            max_iter=15,
            random_state=0,
        ).fit(digits)
        core = model._net.make_core()
        x = torch.tensor(model._net.scaling.to_scaled(digits), dtype=torch.float32)
        with torch.no_grad():
            distance[weight] = float((core.encoder(x) - core.encode(x)).square().sum(1).mean())

    assert distance[10.0] < 0.7 * distance[0.0]


def test_streaming_keeps_the_codebook_s_size(digits):
    """A small first chunk does not cap the codebook, and later chunks bring its codes to life."""
    settings = dict(hidden_layer_sizes=(16,), codebook_size=32, decay=0.5, random_state=0)
    model = VQVAETransformer(4, **settings)
    for _ in range(2):
        for start in range(0, 600, 20):
            model.partial_fit(digits[start : start + 20])
    model.partial_fit(digits[:600])

    assert model.codebook_.shape == (1, 32, 4)
    assert (model.codebook_usage_ > 0).mean() > 0.8


def test_codes_are_in_the_units_of_the_rows(digits):
    """Ten times larger rows have ten times larger codes and codebooks."""
    models = [
        VQVAETransformer(4, codebook_size=16, max_iter=0, random_state=0).fit(factor * digits)
        for factor in (1, 10)
    ]
    codes = [
        model.transform(factor * digits) for model, factor in zip(models, (1, 10), strict=True)
    ]

    np.testing.assert_allclose(codes[1], 10 * codes[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(models[1].codebook_, 10 * models[0].codebook_, rtol=1e-5, atol=1e-4)
    spread = PCA(4).fit_transform(digits).std()
    assert codes[0].std() == pytest.approx(spread, rel=0.2)
