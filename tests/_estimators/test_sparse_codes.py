"""Tests of sparse codes: zeros that cost little, along a path of weights."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer
from skae.objectives import L1, KLSparsity, Logistic, SoftThreshold, Term

# Fits are cut short.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def X():
    """Return some images of digits."""
    return load_digits(return_X_y=True)[0][:600]


@pytest.fixture(scope="module")
def path(X):
    """Return models for rising weights of the penalty."""
    how = dict(max_iter=40, early_stopping=False, random_state=0)
    return [AutoencoderTransformer(8, penalty=L1(w), **how).fit(X) for w in (0.1, 3.0, 10.0, 300.0)]


def test_codes_switch_off_one_after_the_other(path, X):
    """As in the lasso, a larger weight has fewer codes in use, and a lower score."""
    active = [np.count_nonzero(model.transform(X)) / (8 * len(X)) for model in path]
    scores = [model.score(X) for model in path]

    assert all(np.diff(active) < 0)
    assert all(np.diff(scores) < 0)
    assert active[0] > 0.6
    assert active[-1] == 0


def test_no_code_is_lost_on_the_way(path, X):
    """With half of the entries zero, each code is still used by some rows."""
    active = (path[2].transform(X) != 0).mean(0)

    assert active.mean() < 0.6
    assert active.min() > 0.05


def test_the_default_is_sparser_than_a_gaussian(X):
    """Of a Gaussian 4 % are within a twentieth of the standard deviation."""
    model = AutoencoderTransformer(8, penalty="l1", max_iter=40, random_state=0).fit(X)
    codes = model.transform(X)

    assert (np.abs(codes) < 0.05 * codes.std(0)).mean() > 0.12


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (None, "Identity"),
        ("l2", "Identity"),
        ("l1", "SoftThreshold"),
        ("kl_sparsity", "Logistic"),
        (["l1", "kl_sparsity"], "Logistic"),
        (["l2", L1(0.1)], "SoftThreshold"),
    ],
)
def test_auto_is_what_the_penalty_asks_for(penalty, expected):
    """Penalties of codes in (0, 1) come first, then those that ask for zeros."""
    recipe = AutoencoderTransformer(2, penalty=penalty)._make_recipe()

    assert type(recipe.code_activation).__name__ == expected


def test_an_activation_that_is_given_stays():
    """Who sets it gets it."""
    recipe = AutoencoderTransformer(2, penalty="l1", code_activation="identity")._make_recipe()

    assert type(recipe.code_activation).__name__ == "Identity"
    assert (L1.code_activation, KLSparsity.code_activation) == ("soft_threshold", "logistic")
    assert Term.code_activation == "identity"
    assert Logistic.gives_unit_codes
    assert not SoftThreshold.gives_unit_codes


@pytest.mark.parametrize("how", [dict(tied_weights=True), dict(hidden_layer_sizes=()), {}])
def test_networks_of_all_kinds_are_trained(how, X):
    """With tied weights, and of linear maps too, codes have zeros and rows are explained."""
    model = AutoencoderTransformer(8, penalty="l1", max_iter=20, random_state=0, **how).fit(X)

    assert (model.transform(X) == 0).mean() > 0.1
    assert model.score(X) > 0.4


def test_a_decoder_of_one_s_own_has_no_gains(X):
    """There codes are weighted alike."""
    import torch

    model = AutoencoderTransformer(
        4, penalty="l1", encoder=torch.nn.Linear, decoder=torch.nn.Linear, max_iter=2
    )
    assert np.isfinite(model.fit(X[:100]).score(X[:100]))


@pytest.mark.parametrize("wrong", [dict(threshold=-1.0), dict(leak=2.0), dict(leak=-0.1)])
def test_parameters_are_checked_before_rows(wrong):
    """A threshold below zero, or a share beyond 1, is refused by name."""
    model = AutoencoderTransformer(2, code_activation=SoftThreshold(**wrong))

    with pytest.raises(ValueError, match=next(iter(wrong))):
        model.fit(np.zeros((10, 3)))
