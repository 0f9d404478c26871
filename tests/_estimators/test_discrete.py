"""Tests of what models with discrete codes offer: codes out and in, bits, priors, draws."""

import math
import pickle

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

from skae import VQVAETransformer
from skae._latent import noise
from skae._latent.noise import draw_from_quantiles, quantiles_of
from skae._runtime.random import make_generator
from skae.priors import IndependentPrior
from skae.quantization import VectorQuantization

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def fitted(digits):
    """Return a model of two codes per row, independent of each other."""
    settings = dict(max_iter=10, early_stopping=False, prior="independent", random_state=0)
    return VQVAETransformer(8, codebook_size=32, **settings).fit(digits)


# -- codes out and in --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_encoding(digits):
    """Return the same model with each of the three encodings."""
    settings = dict(n_components=8, codebook_size=32, max_iter=2, prior="uniform", random_state=0)
    settings |= dict(early_stopping=True)
    return {
        encode: VQVAETransformer(encode=encode, **settings).fit(digits)
        for encode in ("vectors", "codes", "onehot")
    }


def test_the_three_encodings_are_one_code(by_encoding, digits):
    """Integers index the codebooks, and so do ones; all decode to the same bits."""
    vectors, codes, ones = (model.transform(digits) for model in by_encoding.values())
    codebook = by_encoding["codes"].codebook_

    assert codes.dtype == np.int64
    assert codes.shape == (len(digits), 2)
    assert np.array_equal(np.hstack([codebook[i, codes[:, i]] for i in range(2)]), vectors)
    assert sparse.issparse(ones)
    assert ones.format == "csr"
    assert ones.shape == (len(digits), 64)
    for i in range(2):
        block = ones[:, 32 * i : 32 * (i + 1)]
        assert np.array_equal(block.argmax(1).A1, codes[:, i])
        np.testing.assert_array_equal(block @ codebook[i], vectors[:, 4 * i : 4 * (i + 1)])
    expected = by_encoding["vectors"].inverse_transform(vectors)
    assert np.array_equal(by_encoding["codes"].inverse_transform(codes), expected)
    assert np.array_equal(by_encoding["codes"].inverse_transform(codes.astype(float)), expected)
    for given in (ones, ones.toarray()):
        assert np.array_equal(by_encoding["onehot"].inverse_transform(given), expected)


def test_one_hot_codes_are_only_read(by_encoding, digits):
    """They may be read-only, have stored zeros and entries in parts, and stay as they are."""
    model = by_encoding["onehot"]
    ones = model.transform(digits[:5])
    expected = model.inverse_transform(ones)
    for part in (ones.data, ones.indices, ones.indptr):
        part.flags.writeable = False
    assert np.array_equal(model.inverse_transform(ones), expected)

    twice = np.repeat(ones.indices, 2)
    halves = sparse.csr_matrix((np.full(20, 0.5), twice, 2 * ones.indptr), shape=ones.shape)
    assert np.array_equal(model.inverse_transform(halves), expected)
    assert halves.nnz == 20


def test_names_say_which_code(by_encoding):
    """Of vectors and integers the column, of one-hot the code and its value."""
    names = {
        encode: model.get_feature_names_out().tolist() for encode, model in by_encoding.items()
    }

    assert names["vectors"] == [f"vqvaetransformer{i}" for i in range(8)]
    assert names["codes"] == ["vqvaetransformer0", "vqvaetransformer1"]
    some = [f"vqvaetransformer{name}" for name in ("0_30", "0_31", "1_0", "1_1")]
    assert names["onehot"][30:34] == some
    assert len(names["onehot"]) == 64


def test_frames_hold_integers_but_not_one_hot(by_encoding, digits):
    """With a remedy, as OneHotEncoder has it."""
    model = clone(by_encoding["codes"]).set_params(max_iter=0).set_output(transform="pandas")
    frame = model.fit_transform(digits)
    assert (frame.dtypes == np.int64).all()
    assert list(frame.columns) == ["vqvaetransformer0", "vqvaetransformer1"]
    assert np.array_equal(model.inverse_transform(frame), model.inverse_transform(frame.to_numpy()))

    model.set_params(encode="onehot").fit(digits)
    with pytest.raises(ValueError, match="Pandas output does not support sparse data"):
        model.transform(digits)
    assert sparse.issparse(model.set_output(transform="default").transform(digits))


@pytest.mark.parametrize(
    ("encode", "codes", "words"),
    [
        ("codes", [[0, 32]], "X holds 32.*what transform returned.*whole numbers from 0 to 31"),
        ("codes", [[-1, 3]], "X holds -1"),
        ("codes", [[0.5, 3]], "X holds 0.5"),
        ("codes", [[1, 2, 3]], "X has 3 components"),
        ("onehot", np.zeros((1, 64)), "X is not one-hot.* row 0 has not"),
        ("onehot", np.eye(64)[[3, 5]] + np.eye(64)[[40, 6]], "row 1 has not"),
        ("onehot", 2 * np.eye(64)[[3]] + np.eye(64)[[40]], "row 0 has not"),
        ("onehot", np.zeros((1, 63)), "X has 63 columns, but is expected to have 64"),
    ],
)
def test_what_is_not_a_code_is_refused(by_encoding, encode, codes, words):
    """It names what was found."""
    with pytest.raises(ValueError, match=words):
        by_encoding[encode].inverse_transform(np.asarray(codes))


def test_codes_feed_classifiers(digits):
    """One-hot codes a linear one, integers one with categories, better than by chance by far."""
    y = load_digits().target
    settings = dict(n_components=16, codebook_size=64, max_iter=0, random_state=0)
    linear = make_pipeline(
        VQVAETransformer(encode="onehot", **settings), LogisticRegression(max_iter=300)
    )
    trees = make_pipeline(
        VQVAETransformer(encode="codes", **settings),
        HistGradientBoostingClassifier(categorical_features=range(4), max_iter=20),
    )
    for model in (linear, trees):
        assert model.fit(digits[:1200], y[:1200]).score(digits[1200:], y[1200:]) > 0.75


@pytest.mark.parametrize(
    "quantizer", ["residual", "finite_scalar", VectorQuantization(2, shared=True)]
)
def test_the_encodings_are_one_code_for_every_quantizer(digits, quantizer):
    """Blocks of one-hot times their codebooks add up to the vectors, and all decode alike."""
    settings = dict(codebook_size=32, max_iter=2, prior="uniform", random_state=0)
    settings |= dict(early_stopping=True)
    model = VQVAETransformer(8, quantizer=quantizer, **settings).fit(digits)
    vectors = model.transform(digits)
    rows = model.inverse_transform(vectors)
    ones = clone(model).set_params(encode="onehot").fit(digits)
    books, size = ones.codebook_, ones.codebook_.shape[1]
    assert np.array_equal(books, model.codebook_)

    columns = ones.transform(digits)
    n_each = model.n_codes_ // len(books)
    total = np.zeros((len(digits), 2, 4))
    for i in range(model.n_codes_):
        block = columns[:, i * size : (i + 1) * size]
        total[:, i % 2] += block @ books[i // n_each]
    np.testing.assert_allclose(total.reshape(-1, 8), vectors, rtol=1e-12, atol=1e-12)
    assert np.array_equal(ones.inverse_transform(columns), rows)


# -- use and bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_codes_out_of_use_are_told(digits, threshold):
    """Where the rows have less in them than codes, with a remedy that fits."""
    X = np.repeat(digits[:400, 20:21], 8, axis=1)  # rank one: seven codes have nothing to tell
    X[:, 0] += np.arange(len(X)) * 1e-9
    settings = dict(n_codes=8, codebook_size=300, max_iter=0, random_state=0)
    model = VQVAETransformer(8, dead_code_threshold=threshold, **settings)
    remedy = "dead_code_threshold=0.05" if threshold == 0 else "Lower codebook_size"
    with pytest.warns(UserWarning, match=rf"of 2400 codes are used.*{remedy}"):
        model.fit(X)


def test_uniform_bits_are_counted_by_hand(digits, fitted):
    """Two codes of 32 values are 10 bits; at their frequencies they are fewer."""
    model = clone(fitted).set_params(prior="uniform").fit(digits)

    assert model.bits_per_row(digits) == pytest.approx(10.0)
    bits = fitted.bits_per_row(digits)
    entropy = -np.log2(fitted.perplexity_**-1).sum()
    assert bits == pytest.approx(entropy, abs=0.02)


# -- the prior and draws -----------------------------------------------------------------------


def test_draws_decode_codes_at_their_frequencies(fitted):
    """Every draw decodes a pair of codes, and each code comes as often as in training."""
    pairs = np.stack(np.meshgrid(np.arange(32), np.arange(32), indexing="ij"), -1).reshape(-1, 2)
    vectors = fitted.codebook_[np.arange(2), pairs].reshape(-1, 8)
    decoded = fitted.inverse_transform(vectors.astype(np.float64))
    draws = fitted.sample(4000, random_state=0, mean=True)
    distance, nearest = NearestNeighbors(n_neighbors=1).fit(decoded).kneighbors(draws)
    codes = pairs[nearest[:, 0]]
    frequencies = np.stack([np.bincount(column, minlength=32) for column in codes.T]) / 4000

    assert distance.max() < 1e-6
    np.testing.assert_allclose(frequencies, fitted.codebook_usage_, atol=0.02)


class Halves(torch.nn.Module):
    """Encode each half of a row by itself."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(64, 4)

    def forward(self, x):
        """Return both encodings side by side."""
        return torch.cat([self.linear(x[:, :64]), self.linear(x[:, 64:])], 1)


def test_the_prior_is_learned_from_the_codes(digits):
    """Codes that tell of each other cost fewer bits than their frequencies, held-out rows too."""
    X = np.hstack([digits, digits])
    bits = {}
    for prior in ("autoregressive", "independent"):
        model = VQVAETransformer(
            8,
            codebook_size=8,
            init="random",
            encoder=Halves(),
            max_iter=0,
            prior=prior,
            random_state=0,
        ).fit(X[:1300])
        bits[prior] = model.bits_per_row(X[1300:])

    assert bits["autoregressive"] < 0.8 * bits["independent"]


def test_noise_is_that_of_the_residuals(digits, fitted):
    """Its variance is the mean squared error of each feature; the mean has none."""
    noisy, clean = (fitted.sample(20_000, random_state=0, mean=mean) for mean in (False, True))
    residuals = digits - fitted.inverse_transform(fitted.transform(digits))

    np.testing.assert_allclose(fitted.noise_variance_, np.square(residuals).mean(0), rtol=1e-6)
    measured = (noisy - clean).var(0)
    inked = fitted.noise_variance_ > 1e-2  # elsewhere a few draws make the variance
    np.testing.assert_allclose(measured[inked], fitted.noise_variance_[inked], rtol=0.1)
    grid = np.linspace(0.02, 0.98, 49)
    for feature in (2, 20, 36):
        expected = np.quantile(residuals[:, feature], grid)
        drawn = np.quantile((noisy - clean)[:, feature], grid)
        np.testing.assert_allclose(drawn, expected, atol=0.15 * expected.std() + 1e-9)


@pytest.mark.parametrize("values", [np.arange(5.0), [0.0] * 999 + [100.0], [3.0, 3.0]])
def test_noise_keeps_means_and_variances(values):
    """Those of few residuals too, and of such that are far out."""
    column = np.asarray(values)[:, None]
    drawn = draw_from_quantiles(200_000, quantiles_of(column), make_generator(0))

    assert drawn.mean() == pytest.approx(column.mean(), abs=0.02 * column.std())
    assert drawn.std() == pytest.approx(column.std(), rel=0.05)


def test_quantiles_of_many_residuals_are_numpy_s():
    """Stretched a little, as draws between them vary less than the residuals."""
    values = np.random.default_rng(0).normal(size=(5000, 3)) ** 3
    expected = np.quantile(values, noise._LEVELS, axis=0)
    found = quantiles_of(values)
    gradient, offset = np.polyfit(expected[:, 1], found[:, 1], 1)
    np.testing.assert_allclose(found[:, 1], gradient * expected[:, 1] + offset, atol=1e-9)
    assert gradient == pytest.approx(1, abs=0.02)


class Recorder(BaseEstimator):
    """A prior of one's own, which draws the first code there was."""

    def __init__(self, codebook_size=None, random_state=None, wrong=None):
        self.codebook_size = codebook_size
        self.random_state = random_state
        self.wrong = wrong

    def fit(self, codes):
        self.codes_ = codes

    def sample(self, n_samples):
        if self.wrong == "sample":
            return np.zeros((n_samples, 7))
        if self.wrong == "draws":
            return np.full((n_samples, 2), 0.5)
        return np.repeat(self.codes_[:1], n_samples, axis=0)

    def log_prob(self, codes):
        return np.zeros(3) if self.wrong == "log_prob" else np.full(len(codes), -math.log(8))


def test_a_prior_of_one_s_own(digits, fitted):
    """It is cloned, told the codebook's size and a seed, fitted to the codes and drawn from."""
    prior = Recorder()
    model = clone(fitted).set_params(prior=prior, max_iter=0, encode="codes").fit(digits)

    assert not hasattr(prior, "codes_")
    assert model.prior_.codebook_size == 32
    assert isinstance(model.prior_.random_state, int)
    assert np.array_equal(model.prior_.codes_, model.transform(digits))
    assert model.bits_per_row(digits) == pytest.approx(3.0)
    expected = model.inverse_transform(model.transform(digits[:1]))
    np.testing.assert_allclose(
        model.sample(4, mean=True), np.repeat(expected, 4, axis=0), rtol=1e-12
    )


def test_a_prior_that_answers_wrongly_is_refused(digits, fitted):
    """With what it returned."""
    model = clone(fitted).set_params(prior=Recorder(wrong="log_prob"), max_iter=0).fit(digits)
    with pytest.raises(ValueError, match=r"one number for each of 1797 rows.*shape \(3,\)"):
        model.bits_per_row(digits)
    model.set_params(prior=Recorder(wrong="sample")).fit(digits)
    with pytest.raises(ValueError, match=r"5 rows of 2 codes.*shape \(5, 7\)"):
        model.sample(5)
    model.set_params(prior=Recorder(wrong="draws")).fit(digits)
    with pytest.raises(ValueError, match=r"Recorder\(.* drew holds 0.5.*numbers from 0 to 31"):
        model.sample(5)
    with pytest.raises(ValueError, match="codebook_size=2 they are whole numbers from 0 to 1"):
        clone(model).set_params(prior=IndependentPrior(2)).fit(digits[:50])
    for value in ("pixelcnn", IndependentPrior, 3):
        with pytest.raises(ValueError, match="'prior' parameter"):
            clone(model).set_params(prior=value).fit(digits[:50])


@pytest.mark.parametrize("prior", ["autoregressive", "independent", Recorder()])
def test_streams_have_a_prior_too(digits, prior):
    """It goes on where it can, and is pickled with the rest; the one before is left alone."""
    model = VQVAETransformer(8, codebook_size=16, prior=prior, random_state=0)
    model.partial_fit(digits[:500])
    before = model.prior_
    kept = pickle.dumps(before)
    model.partial_fit(digits[500:1000])

    assert model.prior_ is not before
    assert pickle.dumps(before) == kept
    assert np.isfinite(model.bits_per_row(digits[1000:]))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.sample(5, random_state=0), model.sample(5, random_state=0))
    assert model.noise_variance_.shape == (64,)
    model.set_params(prior="uniform").partial_fit(digits[:500])
    assert model.bits_per_row(digits) == pytest.approx(8.0)
