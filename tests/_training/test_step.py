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


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_updates_are_those_of_torch_adamw(weight_decay):
    """Thirty steps give the weights that torch.optim gives, biases without decay."""
    core, objective = make_core("autoencoder")
    reference = copy.deepcopy(core)
    matrices = [p for p in reference.parameters() if p.ndim == 2]
    biases = [p for p in reference.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    step = Step(
        core, objective, generator(), learning_rate=0.01, weight_decay=weight_decay, compiled=False
    )
    for x in batches(30):
        step(x)
        optimizer.zero_grad()
        objective(x, reference(x)).mean().backward()
        optimizer.step()

    for ours, theirs in zip(core.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["autoencoder", "vae", "iwae", "vqvae", "residual"])
def test_slices_of_a_batch_equal_the_whole(kind, dropout):
    """Weights and moving averages do not depend on how many rows pass at once, to 1e-10."""
    states = []
    for slice_rows in (4096, 7):
        core, objective = make_core(kind)
        settings = dict(learning_rate=0.01, dropout=dropout, slice_rows=slice_rows)
        step = Step(core, objective, generator(), **settings, compiled=False)
        for x in batches(10):
            step(x)
        states.append((step.end_epoch(), core.state_dict()))

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
    """A step takes both at the present progress: all one, or none of the other, at the ends."""
    (x,) = batches(1)
    moved = {}
    for progress in (0.0, 0.5, 1.0):
        core, objective = make_core("autoencoder")
        before = copy.deepcopy(core.state_dict())
        settings = dict(dropout=LinearWarmup(1.0, 0.5), max_grad_norm=LinearWarmup(1.0))
        step = Step(core, objective, generator(), learning_rate=0.01, **settings, compiled=False)
        drawn = []
        core.draw_noise = lambda *arguments, drawn=drawn: drawn.append(arguments[2]) or {}
        step.begin_epoch(progress)
        step(x)
        assert drawn == [progress / 2]
        changes = [(core.state_dict()[name] - before[name]).abs().max() for name in before]
        moved[progress] = float(max(changes))
        assert float(step.snapshot()[0].norm()) == pytest.approx(0.1 * progress, abs=1e-12)

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
    step(first)
    step(second[:5])

    assert step.end_epoch() == pytest.approx(expected, rel=1e-6)
    step(second)
    assert step.end_epoch() == pytest.approx(objective(second, core(second)).mean().item(), 1e-6)


def test_epoch_loss_is_nan_when_a_weight_is():
    """A weight that is not finite shows in the epoch's loss."""
    core, objective = make_core("autoencoder")
    step = Step(core, objective, generator(), learning_rate=0.01, compiled=False)
    step(batches(1)[0])
    step.weights[3] = float("inf")

    assert np.isnan(step.end_epoch())


def test_restoring_a_snapshot_repeats_the_same_steps():
    """Weights, moments and buffers all go back."""
    core, objective = make_core("vqvae")
    step = Step(core, objective, generator(), learning_rate=0.01, compiled=False)
    first, second, third = batches(3)
    step(first)
    saved = step.snapshot()
    step(second)
    once = copy.deepcopy(core.state_dict())
    step(third)
    step.restore(saved)
    step(second)

    for name, value in core.state_dict().items():
        assert torch.equal(value, once[name])


def test_exported_optimizer_continues_exactly():
    """Another step object with the exported state takes the same next step."""
    core, objective = make_core("vae")
    step = Step(core, objective, generator(), learning_rate=0.01, compiled=False)
    first, second = batches(2)
    step(first)
    twin_core = copy.deepcopy(core)
    twin = Step(twin_core, objective, generator(9), learning_rate=0.01, compiled=False)
    twin.import_optimizer(step.export_optimizer())
    step(second)
    twin(second)

    for name, value in core.state_dict().items():
        assert torch.equal(value, twin_core.state_dict()[name])
