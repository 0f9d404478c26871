"""Tests of the corruptions: how much they change, what they put in, and from which draws."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae.objectives import GaussianNoise, MaskingNoise, SaltAndPepperNoise, SwapNoise

CORRUPTIONS = [GaussianNoise(), MaskingNoise(), SaltAndPepperNoise(), SwapNoise()]
REPLACING = [MaskingNoise, SaltAndPepperNoise, SwapNoise]


def corrupt(corruption, x, seed=0):
    """Apply a corruption with a generator of its own."""
    return corruption(x, torch.Generator().manual_seed(seed))


@pytest.fixture
def x():
    """Return rows of which all entries differ, so that a changed one is seen."""
    return torch.tensor(np.random.default_rng(0).permutation(100_000).reshape(20_000, 5) + 1.0)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_clean_batch_is_left_alone(corruption, x, dtype):
    """The copy is changed, of the same type, and the target is not."""
    x = x.to(dtype)
    clean = x.clone()
    corrupted = corrupt(corruption, x)

    assert torch.equal(x, clean)
    assert not torch.equal(corrupted, clean)
    assert (corrupted.shape, corrupted.dtype) == (x.shape, dtype)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=str)
def test_equal_generators_give_equal_results(corruption, x):
    """The generator is the only source of chance."""
    torch.manual_seed(0)
    first = corrupt(corruption, x)
    torch.manual_seed(1)

    assert torch.equal(first, corrupt(corruption, x))
    assert not torch.equal(first, corrupt(corruption, x, seed=1))


@pytest.mark.parametrize("kind", REPLACING)
def test_the_amount_of_draws_is_fixed(kind, x):
    """However much is replaced, the generator is left in the same state."""
    few, many = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    kind(fraction=0.0)(x, few)
    kind(fraction=0.9)(2 * x, many)

    assert torch.equal(few.get_state(), many.get_state())


@pytest.mark.parametrize("kind", REPLACING)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_the_fraction_is_that_of_the_changed_entries(kind, x, fraction):
    """Entries are replaced with the probability that was asked for, in every feature."""
    changed = (corrupt(kind(fraction=fraction), x) != x).double().mean(0)

    # An extreme replaced by itself is the one entry that a full replacement may leave.
    torch.testing.assert_close(changed, torch.full_like(changed, fraction), atol=0.015, rtol=0)


@pytest.mark.parametrize("kind", REPLACING)
def test_entries_are_replaced_independently(kind, x):
    """Whether an entry is replaced says nothing about its neighbours in the row."""
    changed = (corrupt(kind(fraction=0.3), x) != x).double()
    correlations = torch.corrcoef(changed.T) - torch.eye(5)

    assert correlations.abs().max() < 0.03


def test_gaussian_noise_has_its_standard_deviation(x):
    """What is added is centred, has the standard deviation and is independent of the row."""
    noise = corrupt(GaussianNoise(std=0.5), x) - x

    torch.testing.assert_close(noise.mean(0), torch.zeros(5).double(), atol=0.015, rtol=0)
    torch.testing.assert_close(noise.std(0), torch.full((5,), 0.5).double(), atol=0.015, rtol=0)
    assert len(noise.unique()) > 0.5 * noise.numel()


def test_masking_puts_zeros_in(x):
    """Every changed entry is 0."""
    corrupted = corrupt(MaskingNoise(), x)

    assert (corrupted[corrupted != x] == 0).all()


def test_salt_and_pepper_puts_the_extremes_in(x):
    """Every changed entry is its feature's smallest or largest value, either one as often."""
    corrupted = corrupt(SaltAndPepperNoise(fraction=0.4), x)
    low, high = (corrupted == x.amin(0)), (corrupted == x.amax(0))

    assert (low | high)[corrupted != x].all()
    for side in (low, high):
        assert side.double().mean().item() == pytest.approx(0.2, abs=0.01)


def test_swap_noise_keeps_each_feature_s_values(x):
    """What comes in is the same feature's entry, and no entry is favoured."""
    corrupted = corrupt(SwapNoise(fraction=0.5), x)

    for column, source in zip(corrupted.T, x.T, strict=True):
        assert torch.isin(column, source).all()
    torch.testing.assert_close(corrupted.mean(0), x.mean(0), rtol=0.02, atol=0)


def test_swap_noise_draws_other_rows_uniformly():
    """Each of the other rows is a donor equally often, a row itself never."""
    rows = torch.arange(4.0)[:, None].expand(4, 10_000)
    swapped = corrupt(SwapNoise(fraction=1.0), rows)
    shares = torch.stack([(swapped == donor).double().mean(1) for donor in range(4)])

    expected = (1 - torch.eye(4).double()) / 3
    torch.testing.assert_close(shares, expected, atol=0.02, rtol=0)
    assert (shares.diagonal() == 0).all()


def test_swap_noise_leaves_a_lone_row_alone():
    """A batch of one row has no other to draw from."""
    row = torch.ones(1, 5)

    assert torch.equal(corrupt(SwapNoise(fraction=1.0), row), row)


@pytest.mark.gpu
@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=str)
def test_the_device_does_not_matter(corruption, x):
    """The same draws are made for rows on an accelerator."""
    torch.testing.assert_close(corrupt(corruption, x.cuda()).cpu(), corrupt(corruption, x))


@pytest.mark.parametrize("kind", REPLACING)
@pytest.mark.parametrize("fraction", [2, -0.1, float("nan"), "0.3", None, True])
def test_fractions_are_checked(kind, fraction, x):
    """What is no probability is refused in scikit-learn's words."""
    message = (
        f"The 'fraction' parameter of {kind.__name__} must be a float in the range [0, 1]. "
        f"Got {fraction!r} instead."
    )
    with pytest.raises(ValueError, match="fraction") as error:
        corrupt(kind(fraction=fraction), x)
    assert str(error.value) == message


@pytest.mark.parametrize("std", [-1.0, float("inf")])
def test_the_standard_deviation_is_checked(std, x):
    """It may be 0, and must be finite."""
    with pytest.raises(ValueError, match=r"'std' parameter of GaussianNoise .* \[0, inf\)\. Got"):
        corrupt(GaussianNoise(std=std), x)
    assert torch.equal(corrupt(GaussianNoise(std=0), x), x)


@pytest.mark.parametrize("kind", REPLACING)
def test_corruptions_are_estimators(kind):
    """The fraction is a parameter that clone, set_params and repr know."""
    corruption = clone(kind(fraction=0.7)).set_params(fraction=0.6)

    assert corruption.get_params() == {"fraction": 0.6}
    assert repr(corruption) == f"{kind.__name__}(fraction=0.6)"
