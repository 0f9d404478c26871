"""Tests of the priors over codes against a known joint distribution and counting."""

import pickle

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skae import VQVAETransformer
from skae.priors import AutoregressivePrior, IndependentPrior, UniformPrior

PRIORS = [AutoregressivePrior, IndependentPrior, UniformPrior]


class Chain:
    """A Markov chain of four codes with six values each."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.first = rng.dirichlet(np.ones(6))
        self.steps = [rng.dirichlet(np.full(6, 0.2), size=6) for _ in range(3)]

    def draw(self, n_rows, seed):
        """Return rows of codes."""
        rng = np.random.default_rng(seed)
        codes = [rng.choice(6, size=n_rows, p=self.first)]
        for step in self.steps:
            codes.append((step[codes[-1]].cumsum(1) < rng.random((n_rows, 1))).sum(1))
        return np.minimum(np.stack(codes, 1), 5)

    def log_prob(self, codes):
        """Return the true log-probability of rows."""
        total = np.log(self.first[codes[:, 0]])
        for i, step in enumerate(self.steps):
            total += np.log(step[codes[:, i], codes[:, i + 1]])
        return total

    def pairs(self, i):
        """Return the true probabilities of the codes i and i + 1, (6, 6)."""
        margin = self.first
        for step in self.steps[:i]:
            margin = margin @ step
        return margin[:, None] * self.steps[i]


@pytest.fixture(scope="module")
def chain():
    """Return the chain."""
    return Chain()


@pytest.fixture(scope="module")
def learned(chain):
    """Return an autoregressive prior fitted to 8000 rows."""
    return AutoregressivePrior(6, random_state=0).fit(chain.draw(8000, seed=1))


def test_it_learns_a_known_joint_distribution(chain, learned):
    """Held-out rows cost within 0.05 nats of their entropy; independently by far more."""
    held_out = chain.draw(20_000, seed=2)
    entropy = -chain.log_prob(held_out).mean()
    independent = IndependentPrior(6).fit(chain.draw(8000, seed=1))

    assert -learned.log_prob(held_out).mean() < entropy + 0.05
    assert -independent.log_prob(held_out).mean() > entropy + 0.5


@pytest.mark.parametrize("i", [0, 1, 2])
def test_draws_follow_it(chain, learned, i):
    """Counts of pairs pass a chi-square test against what `log_prob` says, and are nearly true."""
    drawn = learned.sample(4000, random_state=3)
    counts = np.zeros((6, 6))
    np.add.at(counts, (drawn[:, i], drawn[:, i + 1]), 1)
    every = np.stack(np.meshgrid(*[np.arange(6)] * 4, indexing="ij"), -1).reshape(-1, 4)
    probabilities = np.exp(learned.log_prob(every)).reshape([6] * 4)
    assert probabilities.sum() == pytest.approx(1.0)
    expected = 4000 * probabilities.sum(tuple(axis for axis in range(4) if axis not in (i, i + 1)))
    large = expected >= 5
    observed = np.append(counts[large], counts[~large].sum())
    wanted = np.append(expected[large], expected[~large].sum())

    assert chisquare(observed, wanted).pvalue > 0.001
    assert np.abs(counts / 4000 - chain.pairs(i)).max() < 0.03


def test_what_cannot_be_predicted_costs_no_more_than_its_frequencies():
    """The start, which is the independent prior, is kept where nothing better is found."""
    codes = np.random.default_rng(0).choice(5, size=(300, 3), p=[0.5, 0.2, 0.1, 0.1, 0.1])
    prior = AutoregressivePrior(5, random_state=0).fit(codes)

    expected = IndependentPrior(5).fit(codes).log_prob(codes)
    np.testing.assert_allclose(prior.log_prob(codes), expected, rtol=1e-6)
    assert prior.n_iter_ >= 5


def test_independent_frequencies_count_one_row_more():
    """One that is spread over all values; later parts add to it."""
    codes = np.array([[0, 2], [1, 2], [1, 0], [1, 2]])
    prior = IndependentPrior(4).fit(codes[:2]).partial_fit(codes[2:])
    counts = np.array([[1, 3, 0, 0], [1, 0, 3, 0]])

    np.testing.assert_allclose(prior.frequencies_, (counts + 0.25) / 5)
    probabilities = prior.frequencies_[0, 3] * prior.frequencies_[1, 1]
    assert prior.log_prob([[3, 1]])[0] == pytest.approx(np.log(probabilities))
    drawn = prior.sample(40_000, random_state=0)
    frequencies = [np.bincount(column, minlength=4) / 40_000 for column in drawn.T]
    np.testing.assert_allclose(frequencies, prior.frequencies_, atol=0.01)


@pytest.mark.parametrize("prior", PRIORS)
def test_priors_are_estimators(prior, chain):
    """They are cloned, pickled and seeded, and leave what they are given alone."""
    codes = chain.draw(200, seed=0)
    codes.flags.writeable = False
    fitted = clone(prior(6)).fit(codes)
    again = pickle.loads(pickle.dumps(fitted))

    assert fitted.codebook_size_ == 6
    np.testing.assert_array_equal(again.log_prob(codes), fitted.log_prob(codes))
    first, second, other = (fitted.sample(50, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert first.shape == (50, 4)
    assert first.min() >= 0
    assert first.max() < 6


@pytest.mark.parametrize("prior", PRIORS)
def test_a_few_rows_are_enough(prior):
    """One row, one value, one code."""
    for codes in ([[2, 0, 1]], [[0]], [[0], [0], [0]], [[1], [0]] * 5):
        fitted = prior().fit(codes)
        assert np.isfinite(fitted.log_prob(codes)).all()
        assert fitted.sample(3).shape == (3, len(codes[0]))


def test_going_on_moves_towards_the_new_rows(chain):
    """Parts of later calls are learned from; the first call's rows are not forgotten at once."""
    settings = dict(max_iter=2, learning_rate=0.01, random_state=0)
    prior = AutoregressivePrior(6, **settings).fit(5 - chain.draw(1000, seed=1))
    held_out = chain.draw(1000, seed=2)
    before = prior.log_prob(held_out).mean()
    for seed in range(3, 6):
        prior.partial_fit(chain.draw(1000, seed=seed))

    assert prior.log_prob(held_out).mean() > before + 1
    assert prior.n_iter_ == 5


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ([[0, 6]], "codes holds 6.*codebook_size=6.*whole numbers from 0 to 5"),
        ([[-1, 0]], "codes holds -1"),
        ([[0.5, 0]], "codes holds 0.5"),
        ([[np.nan, 0]], "codes contains NaN"),
        ([[0, 1, 2]], "codes has 3 columns, but .*Prior was fitted to 2"),
        ([0, 1], "Expected 2D array, got 1D array"),
        (np.empty((0, 2)), "Found array with 0 sample"),
        ([["a", "b"]], "arrays of bytes/strings"),
    ],
)
@pytest.mark.parametrize("prior", PRIORS)
def test_what_is_not_a_code_is_refused(prior, codes, words):
    """With what was found and what is expected."""
    fitted = prior(6).fit([[0, 1], [2, 3]])
    with pytest.raises(ValueError, match=words):
        fitted.log_prob(codes)
    if "columns" not in words:
        with pytest.raises(ValueError, match=words):
            prior(6).fit(codes)


@pytest.mark.parametrize("prior", PRIORS)
def test_use_is_checked(prior):
    """An unfitted prior and numbers of rows that are none."""
    with pytest.raises(NotFittedError):
        prior().log_prob([[0]])
    with pytest.raises(NotFittedError):
        prior().sample()
    for n_samples in (0, -1, 1.5, "a"):
        with pytest.raises(ValueError, match="n_samples must be an int in the range"):
            prior().fit([[0], [1]]).sample(n_samples)
    for size in (0, -1, 4.5, "a"):
        with pytest.raises(ValueError, match=r"'codebook_size' parameter of .*Prior must be"):
            prior(size).fit([[0], [1]])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("n_hidden", [0, -3, 2.5, "x"]),
        ("max_iter", [-1, 2.5, "foo", None]),
        ("n_iter_no_change", [0, "a"]),
        ("learning_rate", [-1, 0]),
        ("device", [0]),
    ],
)
def test_parameters_are_checked_before_anything_is_trained(name, values):
    """In scikit-learn's words, in a transformer too."""
    for value in values:
        prior = AutoregressivePrior(**{name: value})
        with pytest.raises(ValueError, match=f"'{name}' parameter of AutoregressivePrior"):
            prior.fit([[0], [1]])
        with pytest.raises(ValueError, match=f"'{name}' parameter of AutoregressivePrior"):
            VQVAETransformer(2, prior=prior).fit(np.eye(4))
