"""Tests of VQVAETransformer against k-means and its own codebook."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

from skae import VQVAETransformer

ENDS_EARLY = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def fitted(digits):
    """Return a model of two codes per row, independent of each other."""
    settings = dict(max_iter=10, early_stopping=False, prior="independent", random_state=0)
    return VQVAETransformer(8, codebook_size=32, **settings).fit(digits)


def test_with_identity_networks_it_is_kmeans(digits):
    """Inertia is within 3 % of scikit-learn's best of ten, and every row has its nearest vector."""
    model = VQVAETransformer(
        64,
        n_codes=1,
        codebook_size=64,
        encoder=torch.nn.Identity(),
        decoder=torch.nn.Identity(),
        early_stopping=False,
        max_iter=30,
        random_state=0,
    ).fit(digits)
    inertia = -model.score_samples(digits).sum()
    vectors = model.codebook_[0] + digits.mean(0)
    distances = ((digits[:, None] - vectors) ** 2).sum(2)

    single = [KMeans(64, init="random", n_init=1, random_state=s).fit(digits) for s in range(10)]
    assert inertia < max(run.inertia_ for run in single)
    assert inertia == pytest.approx(distances.min(1).sum(), rel=1e-6)


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
    """It has at most as many vectors as there are rows, and each row is its own code."""
    model = VQVAETransformer(64, n_codes=1, codebook_size=512, max_iter=0, random_state=0)
    model.fit(digits[:40])

    assert model.codebook_.shape == (1, 40, 64)
    assert model.score(digits[:40]) > 0.95


@ENDS_EARLY
def test_training_improves_on_product_quantization_of_pca(digits):
    """Held-out rows are reconstructed better than at the start."""
    train, test = digits[:1300], digits[1300:]
    start = VQVAETransformer(8, max_iter=0, random_state=0).fit(train)
    model = VQVAETransformer(8, random_state=0).fit(train)

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
        x = torch.tensor(model._net.scaling.to_net(digits), dtype=torch.float32)
        with torch.no_grad():
            distance[weight] = float((core.encoder(x) - core.encode(x)).square().sum(1).mean())

    assert distance[10.0] < 0.7 * distance[0.0]


def test_streaming_keeps_the_codebook_s_size(digits):
    """A small first chunk does not cap the codebook, and later chunks bring its codes to life."""
    model = VQVAETransformer(4, codebook_size=32, decay=0.5, random_state=0)
    for _ in range(5):
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


# -- codes out and in --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_encoding(digits):
    """Return the same model with each of the three encodings."""
    settings = dict(n_components=8, codebook_size=32, max_iter=2, random_state=0)
    return {
        encode: VQVAETransformer(encode=encode, **settings).fit(digits)
        for encode in ("vectors", "codes", "onehot")
    }


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
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
        ("codes", [[0, 32]], "X holds 32.*whole numbers from 0 to 31"),
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
