"""Tests of the quantizer against brute force, hand computation and k-means."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from skae.modules import EMAQuantizer, perplexity


def generator(seed=0):
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def quantizer():
    """Return a quantizer of three positions with random codebooks."""
    quantizer = EMAQuantizer(n_codes=3, codebook_size=7, code_dim=2, decay=0.9)
    quantizer.codebook.normal_(generator=generator())
    quantizer.mean_sums.copy_(quantizer.codebook)
    return quantizer


def test_every_vector_gets_its_nearest_code(quantizer):
    """Codes equal those of a brute-force search over all distances."""
    z = torch.randn(50, 6, generator=generator(1))
    distances = (z.reshape(50, 3, 1, 2) - quantizer.codebook[None]).square().sum(3)

    assert torch.equal(quantizer.nearest(z), distances.argmin(2))


def test_lookup_lays_vectors_side_by_side(quantizer):
    """Looking up codes returns the codebook vectors in the order of their positions."""
    codes = torch.tensor([[0, 6, 2], [3, 3, 3]])
    expected = [torch.cat([quantizer.codebook[j, c] for j, c in enumerate(row)]) for row in codes]

    assert torch.equal(quantizer.lookup(codes), torch.stack(expected))


def test_moving_average_equals_a_hand_computed_one():
    """Counts, sums and vectors follow the published recursion."""
    quantizer = EMAQuantizer(n_codes=1, codebook_size=2, code_dim=1, decay=0.75)
    quantizer.codebook.copy_(torch.tensor([[[0.0], [10.0]]]))
    quantizer.mean_sums.copy_(quantizer.codebook)
    z = torch.tensor([[1.0], [3.0], [8.0]])
    quantizer.observe(z, quantizer.nearest(z))
    quantizer.update()

    # N = .75 * 1 + .25 * (2, 1); m = .75 * (0, 10) + .25 * (4, 8)
    assert quantizer.mean_counts.tolist() == [[1.25, 1.0]]
    torch.testing.assert_close(quantizer.codebook, torch.tensor([[[1.0 / 1.25], [9.5]]]))


def test_statistics_add_up_over_slices(quantizer):
    """Observing a batch in slices and at once moves the codebooks alike."""
    z = torch.randn(40, 6, generator=generator(1))
    whole, sliced = (EMAQuantizer(3, 7, 2, decay=0.5) for _ in range(2))
    for copy, size in ((whole, 40), (sliced, 11)):
        copy.load_state_dict(quantizer.state_dict())
        for part in z.split(size):
            copy.observe(part, copy.nearest(part))
        copy.update()

    torch.testing.assert_close(whole.codebook, sliced.codebook)


def test_kmeans_start_is_as_good_as_kmeans(digits):
    """The inertia of the start is within 5 % of scikit-learn's best of three."""
    X = torch.tensor(digits[:1000], dtype=torch.float32)
    quantizer = EMAQuantizer(n_codes=1, codebook_size=32, code_dim=64)
    quantizer.start_kmeans(X, 100, generator())
    inertia = float((quantizer.lookup(quantizer.nearest(X)) - X).square().sum())
    reference = KMeans(32, n_init=3, random_state=0).fit(np.asarray(X)).inertia_

    assert inertia < 1.05 * reference


def test_dead_codes_move_onto_encodings_and_live_ones_stay(quantizer):
    """Only codes below the threshold are replaced, by rows of z, and all then count as alive."""
    z = torch.randn(20, 6, generator=generator(1))
    quantizer.mean_counts.fill_(1.0)
    quantizer.mean_counts[1, 4] = 0.01
    before = quantizer.codebook.clone()
    quantizer.restart_dead(z, 0.1, generator(2))
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
