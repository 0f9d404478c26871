"""Tests of the critic's game against the two objectives written out."""

from functools import partial

import pytest
import torch

from skae.modules import MLP, Autoencoder
from skae.objectives import ACAI, Objective, SquaredError


def generator(seed=0):
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def core():
    """Return a small float64 network."""
    return Autoencoder(MLP(5, 2, [7], generator=generator(1)), MLP(2, 5, [7])).double()


def begin(core, term, seed=0):
    """Return the term with its critic."""
    make = partial(MLP, hidden_layer_sizes=[6], generator=generator(2))
    term = term.begin(core.decode, make, 5, generator(seed))
    term.critic.double()
    return term


def test_each_player_gets_the_gradient_of_its_own_objective(core):
    """The autoencoder's is that of equation 1 and the critic's that of equation 2, to rounding."""
    x = torch.randn((8, 5), generator=generator(3), dtype=torch.float64)
    term = begin(core, ACAI(gamma=0.3))
    term(x, core(x)).mean().backward()
    got = [p.grad.clone() for p in (*core.parameters(), *term.parameters())]

    alpha = 0.5 * torch.rand((8, 1), generator=generator(), dtype=torch.float32).double()
    out = core(x)
    mixed = core.decode(alpha * out.z + (1 - alpha) * out.z.flip(0))
    first = 5 * term.critic(mixed).square().mean()
    partly_real = 0.3 * x + 0.7 * out.x_hat
    second = (term.critic(mixed) - alpha).square().mean() + term.critic(partly_real).square().mean()
    expected = [
        *torch.autograd.grad(first, list(core.parameters()), retain_graph=True),
        *torch.autograd.grad(second, term.parameters()),
    ]

    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_epochs_are_compared_without_the_game(core):
    """The objective of held-out rows is the rest of it."""
    objective = Objective(SquaredError(), begin(core, ACAI()))
    x = torch.randn((4, 5), generator=generator(3), dtype=torch.float64)

    torch.testing.assert_close(objective.for_validation()(x, core(x)), SquaredError()(x, core(x)))
    assert len(objective.parameters()) == len(list(MLP(5, 1, [6]).parameters()))
    with pytest.raises(TypeError, match="no critic"):
        ACAI()(x, core(x))
    with pytest.raises(ValueError, match="gamma"):
        begin(core, ACAI(gamma=2))
