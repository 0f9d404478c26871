"""Tests of the penalties against NumPy, SciPy and torch's full Jacobians."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from torch import nn
from torch.autograd.functional import jacobian

from skae._training.step import Step
from skae.modules import MLP, Autoencoder, MirroredMLP
from skae.objectives import (
    L1,
    L2,
    Contractive,
    KLSparsity,
    Logistic,
    Objective,
    SoftThreshold,
    SquaredError,
)


def randomized(net):
    """Return a network in float64 with random weights everywhere."""
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape))
    return net.double()


def codes(z):
    """Return an output with the codes `z`."""
    return SimpleNamespace(x_hat=None, z=torch.as_tensor(z), x_in=None)


def encode(encoder, n_rows=6, n_features=5, seed=0):
    """Return rows and an output as a core makes them that was asked for input gradients."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, n_features, generator=generator, dtype=torch.float64)
    x_in = x.clone().requires_grad_()
    return x, SimpleNamespace(x_hat=x, z=encoder(x_in), x_in=x_in)


@pytest.fixture
def encoder():
    """Return a smooth network of two layers with random weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def test_l1_and_l2_are_norms_of_the_codes():
    """They are the sum of absolute values and the squared length of each row's code."""
    z = np.random.default_rng(0).normal(size=(6, 3))

    np.testing.assert_allclose(L1()(None, codes(z)), np.linalg.norm(z, ord=1, axis=1))
    np.testing.assert_allclose(L2()(None, codes(z)), np.linalg.norm(z, axis=1) ** 2)


def test_sparsity_is_the_divergence_of_the_mean_activations():
    """It equals SciPy's relative entropy of two-valued distributions, the same for each row."""
    z = np.random.default_rng(0).uniform(size=(6, 3))
    expected = sum(stats.entropy([0.2, 0.8], [mean, 1 - mean]) for mean in z.mean(0))

    divergence = KLSparsity(target=0.2)(torch.zeros(6, 5), codes(z))
    np.testing.assert_allclose(divergence, np.full(6, expected))


def test_sparsity_is_zero_at_the_target_and_positive_beside_it():
    """It is a divergence: nothing to gain below or above."""
    z = torch.tensor([[0.02], [0.08]], dtype=torch.float64)
    below, at, above = (
        KLSparsity(target=0.05)(z, codes(z + shift))[0] for shift in (-0.01, 0, 0.01)
    )

    assert at == pytest.approx(0, abs=1e-12)
    assert min(below, above) > 1e-4


@pytest.mark.parametrize("activation", [0.0, 1.0])
def test_sparsity_is_finite_for_saturated_codes(activation):
    """Sigmoids that round to 0 or 1 in every row do not end the training."""
    z = torch.full((4, 2), activation)

    assert KLSparsity()(z, codes(z)).isfinite().all()


def test_sparsity_s_target_is_checked():
    """A target on the border has no finite divergence."""
    z = torch.full((4, 2), 0.5)
    with pytest.raises(
        ValueError, match=r"'target' .* KLSparsity must be .* \(0, 1\)\. Got 1 inst"
    ):
        KLSparsity(target=1)(z, codes(z))


def test_contractive_is_the_norm_of_the_full_jacobian(encoder):
    """Its rows are the squared norms of Jacobians that torch computes row by row."""
    x, out = encode(encoder)
    expected = torch.stack([jacobian(encoder, row).square().sum() for row in x])

    torch.testing.assert_close(Contractive()(x, out).detach(), expected)


def test_contractive_has_rifai_s_closed_form():
    """For one logistic layer it is the sum of (h (1 - h))^2 times the squared weights."""
    torch.manual_seed(1)
    layer = nn.Linear(5, 4).double()
    x, out = encode(lambda x: layer(x).sigmoid())
    expected = (out.z * (1 - out.z)).square() @ layer.weight.square().sum(1)

    torch.testing.assert_close(Contractive()(x, out), expected)


def test_contractive_differentiates_to_the_weights(encoder):
    """The gradient that training follows is that of the penalty, here by finite differences."""
    weight = encoder[0].weight

    def penalty():
        return Contractive()(*encode(encoder)).sum()

    (gradient,) = torch.autograd.grad(penalty(), weight)
    with torch.no_grad():
        weight[0, 0] += 1e-6
    above = penalty().item()
    with torch.no_grad():
        weight[0, 0] -= 2e-6
    below = penalty().item()

    assert gradient[0, 0].item() == pytest.approx((above - below) / 2e-6, rel=1e-5)


def test_contractive_reads_what_the_encoder_was_given(encoder):
    """Where the input is corrupted, the Jacobian is the one at the corrupted rows."""
    x, out = encode(encoder)

    assert torch.equal(Contractive()(x + 1, out), Contractive()(x, out))


def test_terms_say_what_they_need():
    """The training step can ask an objective, and an estimator a term, without evaluating it."""
    assert Objective(SquaredError(), Contractive()).needs_input_gradient
    assert not Objective(SquaredError(), KLSparsity()).needs_input_gradient
    assert [term.needs_unit_codes for term in (KLSparsity, Contractive, L1)] == [True, False, False]


@pytest.mark.parametrize("penalty", [L1(), L2(), KLSparsity(), Contractive()])
def test_penalties_are_estimators(penalty):
    """A penalty's weight is a parameter that clone, set_params and repr know."""
    heavier = clone(penalty).set_params(weight=7.0)

    assert heavier.get_params() == penalty.get_params() | {"weight": 7.0}
    assert repr(heavier) == f"{type(penalty).__name__}(weight=7.0)"


def test_l1_weighs_codes_by_the_decoder_s_gains():
    """Each code counts as much as it changes reconstructions."""
    z, gains = np.random.default_rng(0).normal(size=(6, 3)), torch.tensor([1.0, 0.0, 2.0]).double()
    out = codes(z)
    out.gains = gains

    np.testing.assert_allclose(L1()(None, out), np.abs(z) @ gains.numpy())


@pytest.mark.parametrize("widths", [[], [7], [7, 5]])
def test_a_share_between_codes_and_decoder_changes_nothing(widths):
    """Codes of c times the size, and a decoder that takes them by 1 / c, cost the same."""
    torch.manual_seed(0)
    decoder = randomized(MLP(3, 6, widths, skip=True))
    x, z = torch.randn(5, 6).double(), torch.randn(5, 3).double()
    c = torch.tensor([0.01, 2.0, 30.0]).double()

    def cost(z):
        out = SimpleNamespace(x_hat=decoder(z), z=z, x_in=x, gains=decoder.gains())
        return Objective(SquaredError(), L1(0.7))(x, out).detach()

    before = cost(z)
    with torch.no_grad():
        for layer in [decoder.linear, *decoder.linears()[: 1 if widths else 0]]:
            layer.weight.div_(c)

    torch.testing.assert_close(cost(c * z), before)


def test_hidden_layers_are_no_way_around_the_gains():
    """Weights moved from one layer to the next leave a ReLU network, and its gains, as they are."""
    torch.manual_seed(0)
    decoder = randomized(MLP(3, 6, [7, 5]))
    z, before = torch.randn(5, 3).double(), decoder.gains().detach()
    first, second, _ = decoder.linears()
    expected = decoder(z).detach()
    with torch.no_grad():
        first.weight.mul_(0.1)
        first.bias.mul_(0.1)
        second.weight.mul_(10)

    torch.testing.assert_close(decoder(z), expected)
    torch.testing.assert_close(decoder.gains(), before)


@pytest.mark.parametrize("tied", [False, True])
def test_gains_of_a_linear_decoder_are_the_norms_of_its_columns(tied):
    """They are those of the matrix from codes to rows."""
    torch.manual_seed(0)
    encoder = randomized(MLP(6, 3, []))
    decoder = MirroredMLP(encoder).double() if tied else randomized(MLP(3, 6, []))
    columns = decoder(torch.eye(3).double()) - decoder(torch.zeros(1, 3).double())

    torch.testing.assert_close(decoder.gains(), columns.norm(dim=1))


def test_the_best_codes_of_orthonormal_columns_are_soft_thresholded():
    """It is the lasso of an orthogonal design: least squares, drawn to zero by half the weight."""
    rng, weight = np.random.default_rng(0), 1.3
    columns = np.linalg.qr(rng.normal(size=(6, 3)))[0]
    decoder = randomized(MLP(3, 6, []))
    decoder.start_at(torch.tensor(columns), torch.zeros(6))
    x = torch.tensor(rng.normal(size=(40, 6)))
    best = SoftThreshold(weight / 2)(x @ torch.tensor(columns))

    def cost(z):
        out = SimpleNamespace(x_hat=decoder(z), z=z, x_in=x, gains=decoder.gains())
        return Objective(SquaredError(), L1(weight))(x, out).detach()

    assert (best == 0).any()
    for _ in range(200):
        moved = best + torch.tensor(rng.choice([1e-3, 0.1, 1]) * rng.normal(size=best.shape))
        assert bool((cost(moved) > cost(best)).all())


def test_kl_sparsity_holds_gains():
    """Codes that are 1 in a tenth of rows and carry all variance cost nothing; growth does."""
    target, n_rows, columns = 0.1, 1000, np.linalg.qr(np.random.default_rng(0).normal(size=(6, 3)))
    on = np.zeros((n_rows, 3))
    for code in range(3):
        on[code * 100 : (code + 1) * 100, code] = 1
    gain = 3.0
    rows = gain * on @ columns[0].T + 50

    def cost(grown):
        gains = torch.tensor(gain * np.asarray(grown))
        out = SimpleNamespace(z=torch.tensor(on), gains=gains)
        return KLSparsity(target)(torch.tensor(rows), out)

    np.testing.assert_allclose(cost([1.0, 1.0, 0.1]), 0, atol=1e-12)
    np.testing.assert_allclose(cost([1.5, 3.0, 1.0]), 0.5**2 + 2**2)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("widths", [[], [7], [7, 4]])
@pytest.mark.parametrize(
    ("code_activation", "penalty"),
    [(SoftThreshold(0.3, 0.2), L1(0.7)), (Logistic(), KLSparsity(0.2, weight=0.7))],
)
def test_bound_gradients_of_gains_are_autograd_s(widths, tied, code_activation, penalty):
    """To 1e-10, for all weights, in slices too, whatever the paths through the decoder."""
    torch.manual_seed(0)
    encoder = randomized(MLP(6, 3, widths, skip=True))
    decoder = randomized(MLP(3, 6, widths[::-1], skip=True))
    decoder = MirroredMLP(encoder).double() if tied else decoder
    core = Autoencoder(encoder, decoder, code_activation, measures_gains=True)
    x = torch.randn(9, 6).double()
    objective = Objective(SquaredError(0.5), penalty)
    # What belongs to rows as a whole is another value in slices.
    rows = (20, 4) if isinstance(penalty, L1) else (20, 20)
    found = []
    for compiled, slice_rows in ((True, rows[0]), (True, rows[1]), (False, 20)):
        made = deepcopy(core)
        gradients = Step(
            made, objective, None, learning_rate=0.1, compiled=compiled, slice_rows=slice_rows
        )
        slices = gradients._slices(len(x))
        unit = gradients._gradients.differentiate(x, x, {}, slices, None)
        found.append([p.grad * unit for p in made.parameters()])
        value = gradients._gradients.take_value()
        found[-1].append(value.reshape(1))

    for expected in found[2]:
        assert expected.abs().max() > 0
    for one in found[:2]:
        for each, expected in zip(one, found[2], strict=True):
            torch.testing.assert_close(each, expected, rtol=1e-10, atol=1e-10)
