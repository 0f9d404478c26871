"""Tests of VQVAETransformer against k-means and its own codebook."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from skae import VQVAETransformer

ENDS_EARLY = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def fitted(digits):
    """Return a model of two codes per row."""
    model = VQVAETransformer(8, codebook_size=32, max_iter=10, early_stopping=False, random_state=0)
    return model.fit(digits)


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
    draws = fitted.sample(4000, random_state=0)
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
