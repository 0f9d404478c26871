"""Tests of the quantizer against brute force, hand computation and k-means."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from skae.modules import FiniteScalarQuantizer, VectorQuantizer, perplexity
from skae.modules._kmeans import kmeans, totals


def generator(seed=0):
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def with_codebooks(*sizes, **settings):
    """Return a quantizer with random codebooks, whose averages agree with them."""
    quantizer = VectorQuantizer(*sizes, **settings)
    with torch.no_grad():
        quantizer.codebook.normal_(generator=generator())
    quantizer.mean_sums.copy_(quantizer.codebook)
    return quantizer


@pytest.fixture
def quantizer():
    """Return a quantizer of three positions with random codebooks."""
    return with_codebooks(3, 7, 2, decay=0.9)


def test_every_vector_gets_its_nearest_code(quantizer):
    """Codes equal those of a brute-force search over all distances."""
    z = torch.randn(50, 6, generator=generator(1))
    distances = (z.reshape(50, 3, 1, 2) - quantizer.codebook[None]).square().sum(3)

    assert torch.equal(quantizer.nearest(z), distances.argmin(2))


def test_each_stage_quantizes_what_is_left():
    """Codes of two stages equal those of two searches, and their vectors add up."""
    quantizer = with_codebooks(3, 7, 2, n_stages=2)
    left = torch.randn(50, 6, generator=generator(1)).reshape(50, 3, 1, 2)
    z, codes, total = left.flatten(1), [], 0
    for books in quantizer.codebook.split(3):
        codes.append((left - books[None]).square().sum(3).argmin(2))
        chosen = torch.stack([books[i, codes[-1][:, i]] for i in range(3)], 1)
        left, total = left - chosen[:, :, None], total + chosen

    assert torch.equal(quantizer.nearest(z), torch.cat(codes, 1))
    torch.testing.assert_close(quantizer.lookup(torch.cat(codes, 1)), total.flatten(1))


def test_a_shared_codebook_serves_all_parts():
    """Quantizing three parts with one codebook is quantizing three rows of one part."""
    one, three = (with_codebooks(n, 7, 2, shared=True, decay=0.5) for n in (1, 3))
    z = torch.randn(50, 6, generator=generator(1))
    rows = z.reshape(150, 2)
    assert three.codebook.shape == (1, 7, 2)
    assert torch.equal(three.nearest(z).flatten(), one.nearest(rows).flatten())

    for quantizer, given in ((one, rows), (three, z)):
        quantizer.observe(given, quantizer.nearest(given))
        quantizer.update()
    torch.testing.assert_close(one.codebook, three.codebook)
    for quantizer, given in ((one, rows), (three, z)):
        quantizer.start(given, 50, generator())
        quantizer.restart_dead(given, 0.5, generator())
    assert three.codebook.shape == (1, 7, 2)


def test_lookup_lays_vectors_side_by_side(quantizer):
    """Looking up codes returns the codebook vectors in the order of their positions."""
    codes = torch.tensor([[0, 6, 2], [3, 3, 3]])
    expected = [torch.cat([quantizer.codebook[j, c] for j, c in enumerate(row)]) for row in codes]

    assert torch.equal(quantizer.lookup(codes), torch.stack(expected))


def test_moving_average_equals_a_hand_computed_one():
    """Counts, sums and vectors follow the published recursion."""
    quantizer = VectorQuantizer(n_parts=1, codebook_size=2, code_dim=1, decay=0.75)
    quantizer.codebook.copy_(torch.tensor([[[0.0], [10.0]]]))
    quantizer.mean_sums.copy_(quantizer.codebook)
    z = torch.tensor([[1.0], [3.0], [8.0]])
    quantizer.observe(z, quantizer.nearest(z))
    quantizer.update()

    # N = .75 * 1 + .25 * (2, 1); m = .75 * (0, 10) + .25 * (4, 8)
    assert quantizer.mean_counts.tolist() == [[1.25, 1.0]]
    torch.testing.assert_close(quantizer.codebook, torch.tensor([[[1.0 / 1.25], [9.5]]]))


def test_averages_of_later_stages_are_of_what_is_left():
    """Without memory each stage's vectors are the means of the residuals assigned to them."""
    quantizer = with_codebooks(1, 3, 2, n_stages=2, decay=0.0)
    z = torch.randn(40, 2, generator=generator(1))
    codes = quantizer.nearest(z)
    left = z - quantizer.codebook[0][codes[:, 0]]
    quantizer.observe(z, codes)
    quantizer.update()

    for code in codes[:, 1].unique():
        expected = left[codes[:, 1] == code].mean(0)
        torch.testing.assert_close(quantizer.codebook[1, code], expected)


@pytest.mark.parametrize("n_stages", [1, 2])
def test_statistics_add_up_over_slices(n_stages):
    """Observing a batch in slices and at once moves the codebooks alike."""
    z = torch.randn(40, 6, generator=generator(1))
    whole, sliced = (with_codebooks(3, 7, 2, n_stages=n_stages, decay=0.5) for _ in range(2))
    for copy, size in ((whole, 40), (sliced, 11)):
        for part in z.split(size):
            copy.observe(part, copy.nearest(part))
        copy.update()

    torch.testing.assert_close(whole.codebook, sliced.codebook)


def test_gradients_move_only_what_is_assigned():
    """The codebook loss has the gradient 2 (e - z) for each vector, and encodings have none."""
    quantizer = with_codebooks(1, 4, 2, decay=None)
    z = torch.tensor([[0.3, -0.2]], requires_grad=True)
    codes = quantizer.nearest(z)
    (quantizer.lookup(codes) - z.detach()).square().sum().backward()
    expected = torch.zeros(1, 4, 2)
    expected[0, codes[0, 0]] = 2 * (quantizer.codebook[0, codes[0, 0]] - z[0]).detach()

    torch.testing.assert_close(quantizer.codebook.grad, expected)
    assert z.grad is None
    before = quantizer.codebook.detach().clone()
    quantizer.observe(z.detach(), codes)
    quantizer.update()
    assert torch.equal(quantizer.codebook, before)


def test_kmeans_start_is_as_good_as_kmeans(digits):
    """The inertia of the start is within 0.5 % of scikit-learn's best of three."""
    X = torch.tensor(digits[:1000], dtype=torch.float32)
    quantizer = VectorQuantizer(n_parts=1, codebook_size=32, code_dim=64)
    quantizer.start(X, 100, generator())
    inertia = float((quantizer.lookup(quantizer.nearest(X)) - X).square().sum())
    reference = KMeans(32, n_init=3, random_state=0).fit(np.asarray(X)).inertia_

    assert inertia < 1.005 * reference
    assert quantizer.mean_counts.sum() == pytest.approx(100)


@pytest.mark.parametrize(("n_rows", "size"), [(1, 1), (1, 3), (5, 1), (40, 64), (60, 8)])
def test_kmeans_converges(n_rows, size):
    """Every centre with vectors is their mean, every vector has its nearest, and counts agree."""
    vectors = torch.randn(2, n_rows, 3, generator=generator())
    found = kmeans(vectors, size, generator(1))
    distances = (vectors[:, :, None] - found.centres[:, None]).square().sum(3)
    counts, sums = totals(vectors, found.owners, size)
    used = counts > 0

    torch.testing.assert_close(found.distances, distances.min(2).values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.counts, counts)
    means = sums[used] / counts[used][:, None]
    torch.testing.assert_close(found.centres[used], means, atol=0.05, rtol=0)


def test_kmeans_goes_on_from_centres():
    """From the best centres of two pairs of vectors nothing can be gained, and none moves."""
    vectors = torch.tensor([[[0.0], [1.0], [10.0], [11.0]]])
    centres = torch.tensor([[[0.5], [10.5]]])

    assert torch.equal(kmeans(vectors, 2, generator(), centres).centres, centres)


STAGES = [{}, {"n_stages": 2}, {"n_stages": 2, "shared": True}]


@pytest.mark.parametrize("settings", STAGES, ids=str)
def test_refining_goes_on_from_the_codebooks(settings):
    """It lowers the error that random codebooks have, and keeps the number of rows of averages."""
    z = torch.randn(200, 4, generator=generator(3))
    quantizer = with_codebooks(2, 8, 2, **settings)
    error = [float((quantizer.quantize(z)[1] - z).square().sum())]
    n_counted = quantizer.mean_counts.sum(1)
    quantizer.refine(z, generator())
    error.append(float((quantizer.quantize(z)[1] - z).square().sum()))

    assert error[1] < error[0]
    torch.testing.assert_close(quantizer.mean_counts.sum(1), n_counted)
    quantizer.update()  # without rows: codebooks are what their averages say
    torch.testing.assert_close(error[1], float((quantizer.quantize(z)[1] - z).square().sum()))


def test_a_code_of_few_far_vectors_is_no_dead_one():
    """A code that hardly any row uses is restarted, unless no other is near its vectors."""
    quantizer = VectorQuantizer(1, 4, 1)
    quantizer.codebook.copy_(torch.tensor([[[0.0], [1.0], [0.5], [100.0]]]))
    quantizer.mean_counts.copy_(torch.tensor([[10.0, 10.0, 0.01, 0.01]]))
    z = torch.rand(100, 1, generator=generator()).round() + 0.1
    quantizer.restart_dead(z, 0.05, generator())
    moved = quantizer.codebook.flatten()

    assert moved[[0, 1, 3]].tolist() == [0.0, 1.0, 100.0]
    assert moved[2] in z


@pytest.mark.parametrize("n_stages", [1, 3])
def test_partial_sums_are_those_of_the_first_stages(n_stages):
    """Each is what a quantizer without the later stages looks up."""
    quantizer = with_codebooks(2, 8, 2, n_stages=n_stages)
    codes = quantizer.nearest(torch.randn(20, 4, generator=generator(3)))
    sums = quantizer.partial_sums(codes)
    for stage in range(n_stages):
        first = VectorQuantizer(2, 8, 2, n_stages=stage + 1)
        first.codebook.copy_(quantizer.codebook[: 2 * stage + 2])
        torch.testing.assert_close(sums[:, stage], first.lookup(codes[:, : 2 * stage + 2]))


def test_a_second_stage_starts_at_what_the_first_leaves(digits):
    """Two stages of 16 start with a third of the error of one, and less than one of 32 has."""
    X = torch.tensor(digits[:1000, 20:24], dtype=torch.float32)
    errors = {}
    for size, n_stages in ((16, 1), (16, 2), (32, 1)):
        quantizer = VectorQuantizer(1, size, 4, n_stages=n_stages)
        quantizer.start(X, 100, generator())
        errors[size, n_stages] = float((quantizer.lookup(quantizer.nearest(X)) - X).square().sum())

    assert errors[16, 2] < 0.35 * errors[16, 1]
    assert errors[16, 2] < errors[32, 1]


def test_dead_codes_move_onto_encodings_and_live_ones_stay(quantizer):
    """Only codes below the threshold are replaced, by rows of z, and all then count as alive."""
    z = torch.randn(20, 6, generator=generator(1))
    quantizer.mean_counts.fill_(1.0)
    quantizer.mean_counts[1, 4] = 0.01
    before = quantizer.codebook.clone()
    assert quantizer.has_dead(0.1)
    assert not quantizer.has_dead(0.001)
    quantizer.restart_dead(z, 0.1, generator(2))
    assert not quantizer.has_dead(0.1)
    changed = (quantizer.codebook != before).any(2)

    assert changed.nonzero().tolist() == [[1, 4]]
    assert (quantizer.codebook[1, 4] == z[:, 2:4]).all(1).any()
    assert (quantizer.mean_counts > 0.1 * quantizer.mean_counts.mean()).all()


def test_restart_survives_fewer_rows_than_codes(quantizer):
    """With two rows and seven dead codes the rows are used more than once."""
    quantizer.mean_counts.zero_()
    quantizer.restart_dead(torch.tensor([[0.0] * 6, [1.0] * 6]), 0.1, generator())

    assert set(quantizer.codebook.unique().tolist()) == {0.0, 1.0}


def test_perplexity_counts_codes_in_even_use():
    """Even use of k codes has perplexity k, use of one has 1."""
    counts = torch.tensor([[1.0, 1, 1, 1], [5, 5, 0, 0], [9, 0, 0, 0]])

    torch.testing.assert_close(perplexity(counts), torch.tensor([4.0, 2.0, 1.0]))


# -- finite scalar quantization ----------------------------------------------------------------


@pytest.fixture
def grid():
    """Return a quantizer of two parts with 2 x 3 levels, started for normal encodings."""
    quantizer = FiniteScalarQuantizer(2, [2, 3])
    z = torch.randn(5000, 4, generator=generator()) * torch.tensor([1.0, 2.0, 3.0, 0.5]) + 7
    quantizer.start(z, 100, generator())
    return quantizer, z


def test_a_grid_s_codes_and_vectors_are_inverse(grid):
    """Each vector of the grid gets its own code, the last component running fastest."""
    quantizer, _ = grid
    codes = torch.arange(6)[:, None].repeat(1, 2)

    assert torch.equal(quantizer.nearest(quantizer.lookup(codes)), codes)
    levels = quantizer.codebook[0].sub(quantizer.center[0]).div(quantizer.gain[0])
    expected = [[a, b] for a in (-0.5, 0.5) for b in (-2 / 3, 0.0, 2 / 3)]
    torch.testing.assert_close(levels, torch.tensor(expected), atol=1e-5, rtol=0)


def test_a_grid_is_spread_evenly_over_the_encodings(grid):
    """All codes of normal encodings are in use about alike, and the grid fits their scale."""
    quantizer, z = grid
    codes = quantizer.nearest(z)
    counts = torch.stack([column.bincount(minlength=6) for column in codes.T])

    assert (perplexity(counts.double()) > 5.8).all()
    explained = 1 - (quantizer.lookup(codes) - z).square().sum(0) / (z - z.mean(0)).square().sum(0)
    # A Gaussian's best 2 levels keep 1 - .3634 of its variance, and 3 levels 1 - .1902 (Max, 1960).
    assert (explained > torch.tensor([0.636, 0.809, 0.636, 0.809]) - 0.03).all()


def test_a_grid_passes_the_bound_s_gradient(grid):
    """Its value is the grid's, its gradient that of the bounded encodings."""
    quantizer, _ = grid
    z_e = torch.tensor([[7.0, 7.0, 7.0, 7.0], [90.0, 7.0, 7.0, 7.0]], requires_grad=True)
    z = quantizer.lookup(quantizer.nearest(z_e))
    out = quantizer.straight_through(z_e, z)
    out.sum().backward()

    torch.testing.assert_close(out, z)
    gradient = quantizer.gain / (2 * quantizer.spread)  # of 2 sigma(u) - 1 at u = 0
    torch.testing.assert_close(z_e.grad[0], gradient.flatten(), rtol=1e-2, atol=0)
    assert z_e.grad[1, 0] < 1e-6


def test_a_component_without_spread_has_a_single_value():
    """It stays where it is."""
    quantizer = FiniteScalarQuantizer(1, [2, 2])
    z = torch.tensor([[0.0, 3.0], [1.0, 3.0]])
    quantizer.start(z, 2, generator())

    assert torch.equal(quantizer.codebook[0, :, 1], torch.full((4,), 3.0))
    torch.testing.assert_close(quantizer.lookup(quantizer.nearest(z)), z)
