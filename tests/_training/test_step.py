"""Tests of the optimisation step against torch.optim and the row-slice rule."""

import copy

import numpy as np
import pytest
import torch

from skae._data.batches import ResidentRows
from skae._training.step import Step, even_slices
from skae._training.validation import ValidationSet
from skae.modules import MLP, VAE, VQVAE, Autoencoder, VectorQuantizer
from skae.objectives import (
    CodebookLoss,
    Commitment,
    Gaussian,
    ImportanceWeightedBound,
    KLDivergence,
    Laplace,
    LinearWarmup,
    Objective,
    SquaredError,
)


def generator(seed=0):
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def make_core(kind):
    """Return a float64 core of a kind and its objective."""
    if kind == "vae":
        core = VAE(MLP(5, 4, [8]), MLP(2, 5, [8]), Gaussian(), n_components=2)
        objective = Objective(Gaussian(), KLDivergence())
    elif kind == "iwae":
        settings = dict(n_components=2, n_dispersions=5, n_draws=3)
        core = VAE(MLP(5, 4, [8]), MLP(2, 5, [8]), Laplace("per_feature"), **settings)
        objective = Objective(ImportanceWeightedBound(Laplace("per_feature")))
    elif kind in ("vqvae", "residual"):
        settings = dict(n_stages=2, shared=True, decay=None) if kind == "residual" else {}
        core = VQVAE(MLP(5, 4, [8]), MLP(4, 5, [8]), VectorQuantizer(2, 6, 2, **settings))
        torch.nn.init.normal_(core.quantizer.codebook, generator=generator())
        objective = Objective(SquaredError(), CodebookLoss(), Commitment())
    else:
        core = Autoencoder(MLP(5, 2, [8]), MLP(2, 5, [8]))
        objective = Objective(SquaredError())
    return core.double(), objective


def batches(n_steps, n_rows=23):
    """Return float64 batches."""
    return torch.randn(n_steps, n_rows, 5, generator=generator(1), dtype=torch.float64)


def epoch(step, xs, progress=0.0):
    """Take steps on batches and return the epoch's loss."""
    step.begin_epoch(progress)
    for x in xs:
        step(x)
    return step.end_epoch()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_updates_are_those_of_schedule_free_adam(weight_decay, max_grad_norm):
    """Steps of three epochs give what algorithm 1 of the paper gives, biases without decay.

    It is written out here for lists of matrices. The rate changes between epochs, and its largest
    value weighs the average; the first 100 steps are a warm-up.
    """
    core, objective = make_core("autoencoder")
    reference = copy.deepcopy(core)
    settings = dict(learning_rate=LinearWarmup(1.0, 0.01, 0.03), max_grad_norm=max_grad_norm)
    settings |= dict(weight_decay=weight_decay, compiled=False)
    step = Step(core, objective, generator(), **settings)

    y = list(reference.parameters())
    z, x_mean = ([p.detach().clone() for p in y] for _ in range(2))
    second = [torch.zeros_like(p) for p in y]
    t, total, largest, beta, beta2 = 0, 0.0, 0.0, 0.9, 0.999
    for epoch, x in enumerate(batches(3 * 50).split(50)):
        step.begin_epoch(epoch / 2)
        for batch in x:
            step(batch)
            t += 1
            rate = (0.03, 0.02, 0.01)[epoch] * min(t / 100, 1)
            with torch.no_grad():
                for p, iterate, mean in zip(y, z, x_mean, strict=True):
                    p.copy_((1 - beta) * iterate + beta * mean)
            gradients = torch.autograd.grad(objective(batch, reference(batch)).mean(), y)
            norm = torch.cat([g.reshape(-1) for g in gradients]).norm()
            shorter = 1.0 if max_grad_norm is None else min(1.0, max_grad_norm / float(norm))
            largest = max(largest, rate)
            total += t * largest**2
            for i, g in enumerate(gradients):
                g = g * shorter
                second[i] = beta2 * second[i] + (1 - beta2) * g**2
                direction = g / ((second[i] / (1 - beta2**t)).sqrt() + 1e-8)
                decay = weight_decay if y[i].ndim == 2 else 0.0
                z[i] = z[i] - rate * (direction + decay * y[i].detach())
                x_mean[i] = x_mean[i] + t * largest**2 / total * (z[i] - x_mean[i])
        step.end_epoch()
        for ours, theirs in zip(core.parameters(), x_mean, strict=True):
            torch.testing.assert_close(ours.detach(), theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["autoencoder", "vae", "iwae", "vqvae", "residual"])
def test_slices_of_a_batch_equal_the_whole(kind, dropout):
    """Weights and moving averages do not depend on how many rows pass at once, to 1e-10."""
    states = []
    for slice_rows in (4096, 7):
        core, objective = make_core(kind)
        settings = dict(learning_rate=0.01, dropout=dropout, slice_rows=slice_rows)
        step = Step(core, objective, generator(), **settings, compiled=False)
        states.append((epoch(step, batches(10)), core.state_dict()))

    (whole_loss, whole), (sliced_loss, sliced) = states
    assert whole_loss == pytest.approx(sliced_loss, rel=1e-12)
    for name in whole:
        torch.testing.assert_close(whole[name], sliced[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["autoencoder", "vae", "iwae", "vqvae", "residual"])
def test_each_mask_acts(kind):
    """Either mask changes the output; without dropout there is none."""
    core, _ = make_core(kind)
    x = batches(1)[0]
    noise = core.draw_noise(len(x), generator(), 0.5)
    plain = {name: drawn for name, drawn in noise.items() if name not in ("encoder", "decoder")}
    expected = core(x, plain).x_hat
    for name in ("encoder", "decoder"):
        assert noise[name].shape == (len(x), 8)
        assert not torch.allclose(core(x, {**plain, name: noise[name].double()}).x_hat, expected)
    assert core.draw_noise(len(x), generator()).keys() == plain.keys()


def test_held_out_rows_are_evaluated_without_dropout():
    """Their loss is that of the whole network."""
    (x,) = batches(1)
    core, objective = make_core("autoencoder")
    losses = ValidationSet(core, objective, ResidentRows(x), generator()).losses()

    torch.testing.assert_close(losses, (core(x).x_hat - x).square().sum(1))


def test_masks_keep_the_mean_of_what_comes_next():
    """Over many draws a hidden unit is off with its probability, and has mean factor one."""
    core = Autoencoder(MLP(4, 2, (5, 3)), MLP(2, 4, (3, 5)))
    masks = core.draw_noise(40_000, generator(), 0.3)["encoder"]

    assert masks.shape == (40_000, 8)
    torch.testing.assert_close(
        (masks == 0).float().mean(0), torch.full((8,), 0.3), rtol=0, atol=0.01
    )
    torch.testing.assert_close(masks.mean(0), torch.ones(8), rtol=0, atol=0.015)
    assert len(masks.unique()) == 2


def test_dropout_and_the_bound_of_gradients_follow_schedules():
    """A step takes both at the present progress: all one, or none of the other, at the ends.

    The second moment of a first step is a thousandth of the gradient's square.
    """
    (x,) = batches(1)
    moved = {}
    for progress in (0.0, 0.5, 1.0):
        core, objective = make_core("autoencoder")
        before = copy.deepcopy(core.state_dict())
        settings = dict(dropout=LinearWarmup(1.0, 0.5), max_grad_norm=LinearWarmup(1.0))
        step = Step(core, objective, generator(), learning_rate=0.01, **settings, compiled=False)
        drawn = []
        core.draw_noise = lambda *arguments, drawn=drawn: drawn.append(arguments[2]) or {}
        epoch(step, [x], progress)
        assert drawn == [progress / 2]
        changes = [(core.state_dict()[name] - before[name]).abs().max() for name in before]
        moved[progress] = float(max(changes))
        norm = float((step.snapshot()[1].sum() / 0.001).sqrt())
        assert norm == pytest.approx(progress, abs=1e-12)

    assert moved[0.0] == 0
    assert moved[1.0] > 0


@pytest.mark.parametrize(("n_rows", "most"), [(1, 4), (4, 4), (4097, 4096), (10, 3)])
def test_slices_are_few_and_even(n_rows, most):
    """They cover all rows in order, none is longer than allowed, and lengths are alike."""
    slices = even_slices(n_rows, most)
    lengths = [len(range(n_rows)[rows]) for rows in slices]

    assert np.concatenate([np.arange(n_rows)[rows] for rows in slices]).tolist() == [*range(n_rows)]
    assert len(slices) == -(-n_rows // most)
    assert max(lengths) - min(lengths) < len(slices)


def test_epoch_loss_is_the_mean_over_rows_and_starts_anew():
    """Batches of unequal size count by their rows."""
    core, objective = make_core("autoencoder")
    step = Step(core, objective, generator(), learning_rate=1e-12, compiled=False)
    first, second = batches(2)
    expected = torch.cat([objective(x, core(x)) for x in (first, second[:5])]).mean().item()

    assert epoch(step, [first, second[:5]]) == pytest.approx(expected, rel=1e-6)
    expected = objective(second, core(second)).mean().item()
    assert epoch(step, [second]) == pytest.approx(expected, rel=1e-6)


def test_epoch_loss_is_nan_when_a_weight_is():
    """A weight that is not finite shows in the epoch's loss."""
    core, objective = make_core("autoencoder")
    step = Step(core, objective, generator(), learning_rate=0.01, compiled=False)
    step.weights[3] = float("inf")

    assert np.isnan(epoch(step, []))


@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_evaluated_is_the_average(compiled):
    """Outside of epochs the core has the mean of where the steps led, weighted by their number.

    With a huge gradient and one weight, steps of the warm-up's lengths go straight on.
    """
    core = Autoencoder(MLP(1, 1, [], skip=False), MLP(1, 1, [], skip=False)).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.zero_()
        core.decoder.linear.bias.fill_(3.0)
    step = Step(core, Objective(SquaredError()), generator(), learning_rate=1.0, compiled=compiled)
    epoch(step, [torch.full((1, 1), -1e6, dtype=torch.float64)] * 3)
    # the iterate is at 3 - .01, - .03, - .06, and these have weights 1 * .01**2, 2 * .02**2, ...
    weights = np.array([1 * 1, 2 * 4, 3 * 9])
    expected = weights @ [2.99, 2.97, 2.94] / weights.sum()
    assert core.decoder.linear.bias.item() == pytest.approx(expected, rel=1e-6)


def test_beginning_and_ending_an_epoch_without_steps_changes_nothing():
    """The weights are the average bit for bit, and the iterate is as far from it as before."""
    core, objective = make_core("autoencoder")
    step = Step(core, objective, generator(), learning_rate=0.01, compiled=False)
    epoch(step, batches(5))
    before = step.snapshot()
    for _ in range(3):
        step._adam.begin()
        assert not torch.equal(step.weights, before[3])
        step._adam.end()
    iterate, second, counts, weights, *_ = step.snapshot()
    assert torch.equal(weights, before[3])
    assert torch.equal(second, before[1])
    assert torch.equal(counts, before[2])
    torch.testing.assert_close(iterate, before[0], rtol=1e-10, atol=1e-14)


def test_the_iterate_moves_with_the_average():
    """Weights that are changed between epochs are where steps go on from."""
    (x,) = batches(1)
    core, objective = make_core("autoencoder")
    step = Step(core, objective, generator(), learning_rate=0.01, compiled=False)
    epoch(step, [x])
    apart = step.snapshot()[0]
    step.weights.add_(5.0)
    moved = step.weights.clone()
    step._adam.begin()
    torch.testing.assert_close(step.weights, moved + 0.1 * apart, rtol=0, atol=1e-12)
    step._adam.end()
    assert torch.equal(step.weights, moved)


def test_restoring_a_snapshot_repeats_the_same_steps():
    """Weights, moments and buffers all go back."""
    core, objective = make_core("vqvae")
    step = Step(core, objective, generator(), learning_rate=0.01, compiled=False)
    first, second, third = batches(3)
    epoch(step, [first])
    saved = step.snapshot()
    epoch(step, [second])
    once = copy.deepcopy(core.state_dict())
    epoch(step, [third])
    step.restore(saved)
    epoch(step, [second])

    for name, value in core.state_dict().items():
        assert torch.equal(value, once[name])


def test_exported_optimizer_continues_exactly():
    """Another step object with the exported state takes the same next steps."""
    core, objective = make_core("vae")
    step = Step(core, objective, generator(), learning_rate=0.01, compiled=False)
    first, second, third = batches(3)
    epoch(step, [first, third])
    twin_core = copy.deepcopy(core)
    twin = Step(twin_core, objective, generator(9), learning_rate=0.01, compiled=False)
    twin.import_optimizer(step.export_optimizer())
    for each in (step, twin):
        epoch(each, [second, third])

    for name, value in core.state_dict().items():
        assert torch.equal(value, twin_core.state_dict()[name])


@pytest.mark.parametrize("decays", [True, False])
@pytest.mark.parametrize("hidden", [[8], []])
def test_weight_decay_leaves_out_linear_paths_beside_hidden_layers(hidden, decays):
    """Without a gradient it shrinks hidden layers, or all of a net that has none, and no bias.

    The loss has no weight, so that decay is all that moves: by its share of the warm-up's rate.
    """
    core = Autoencoder(MLP(5, 2, hidden, skip=True), MLP(2, 5, hidden, skip=True)).double()
    for parameter in core.parameters():
        torch.nn.init.normal_(parameter, generator=generator())
    before = copy.deepcopy(core.state_dict())
    settings = dict(learning_rate=0.5, weight_decay=0.2 if decays else 0.0)
    step = Step(core, Objective(SquaredError(0.0)), generator(), **settings)
    epoch(step, batches(1))
    exempt = {id(p) for net in (core.encoder, core.decoder) for p in net.no_decay()}
    assert len(exempt) == (2 if hidden else 0)
    for name, parameter in core.named_parameters():
        shrinks = decays and parameter.ndim == 2 and id(parameter) not in exempt
        kept = 1 - 0.5 / 100 * 0.2 if shrinks else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * kept, rtol=1e-12, atol=0)
