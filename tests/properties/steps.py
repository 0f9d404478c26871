"""Random networks, objectives and settings of a step, and what steps make of them.

The one place of the properties that knows how networks, terms and steps are put together.
"""

from copy import deepcopy

import numpy as np
import torch
from hypothesis import strategies as st

from skae._training.step import Step
from skae.modules import (
    MLP,
    VAE,
    VQVAE,
    Autoencoder,
    FiniteScalarQuantizer,
    MirroredMLP,
    VectorQuantizer,
)
from skae.objectives import (
    L1,
    L2,
    AbsoluteError,
    Bernoulli,
    CodebookLoss,
    Commitment,
    Gaussian,
    GaussianNoise,
    Huber,
    Identity,
    ImportanceWeightedBound,
    KLDivergence,
    KLSparsity,
    Laplace,
    LinearWarmup,
    Logistic,
    MaskingNoise,
    Objective,
    Poisson,
    SoftThreshold,
    SquaredError,
    TopK,
)
from skae.objectives._losses import for_scaled_rows

ACTIVATIONS = ["relu", "tanh", "logistic", "identity", "silu", "gelu"]
WEIGHTS = st.floats(0, 3, width=32) | st.builds(
    LinearWarmup, fraction=st.floats(0.1, 1), end=st.floats(0, 3), start=st.floats(0, 3)
)
SEEDS = st.integers(0, 2**31)


def generator(seed):
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def normals(seed, *shape):
    """Return float64 draws from a standard normal distribution."""
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


@st.composite
def networks(draw, n_features, n_encoded, n_components, can_tie=False):
    """Return a strategy of a float64 encoder and decoder, all of whose weights are drawn."""
    hidden = tuple(draw(st.lists(st.integers(1, 6), max_size=3)))
    settings = dict(activation=draw(st.sampled_from(ACTIVATIONS)), skip=draw(st.booleans()))
    encoder = MLP(n_features, n_encoded, hidden, **settings).double()
    if can_tie and draw(st.booleans()):
        decoder = MirroredMLP(encoder).double()
    else:
        decoder = MLP(n_components, n_features, hidden[::-1], **settings).double()
    seed = draw(SEEDS)
    with torch.no_grad():
        for i, weight in enumerate([*encoder.parameters(), *decoder.parameters()]):
            weight.copy_(0.6 * normals(seed + i, *weight.shape))
    return encoder, decoder


def for_raw_rows(loss, n_features):
    """Return a loss of rows in the user's units, in which rows are within (0, 1)."""
    center, scale = np.linspace(0.4, 0.6, n_features), np.linspace(0.02, 0.05, n_features)
    return for_scaled_rows(loss, center, scale, torch.device("cpu"))


def losses():
    """Return a strategy of losses with weights."""
    return st.one_of(
        st.builds(SquaredError, WEIGHTS),
        st.builds(lambda weight: SquaredError(weight).in_coordinates(9), WEIGHTS),
        st.builds(AbsoluteError, WEIGHTS),
        st.builds(Huber, st.floats(0.1, 2) | st.just("auto"), weight=WEIGHTS),
        st.builds(Bernoulli, weight=WEIGHTS),
        st.builds(Poisson, weight=WEIGHTS),
    )


@st.composite
def autoencoders(draw, n_features, row_by_row):
    """Return a strategy of an autoencoder and its objective."""
    k = draw(st.integers(1, 4))
    nets = draw(networks(n_features, k, k, can_tie=True))
    activation = draw(
        st.none()
        | st.builds(Identity)
        | st.builds(Logistic)
        | st.builds(TopK, st.integers(1, k + 1))
        | st.builds(SoftThreshold, st.floats(0, 1), st.floats(0, 1))
    )
    ordered, measures_gains = draw(st.booleans()), draw(st.booleans())
    core = Autoencoder(*nets, activation, ordered, k, measures_gains)
    penalties = [st.builds(L1, WEIGHTS), st.builds(L2, WEIGHTS)]
    if isinstance(activation, Logistic) and not row_by_row:
        penalties.append(st.builds(KLSparsity, st.floats(0.05, 0.95), weight=WEIGHTS))
    chosen = draw(st.lists(st.one_of(penalties), max_size=3))
    return core, Objective(for_raw_rows(draw(losses()), n_features), *chosen)


@st.composite
def variational_autoencoders(draw, n_features, row_by_row):
    """Return a strategy of a variational autoencoder and its objective."""
    k = draw(st.integers(1, 4))
    noise = st.sampled_from(["shared", "per_feature"]) | st.floats(0.1, 2)
    one_noise = st.just("shared") | st.floats(0.1, 2)
    likelihood = draw(
        st.builds(Gaussian, noise)
        | st.builds(lambda noise: Gaussian(noise).in_coordinates(9), one_noise)
        | st.builds(Laplace, noise)
        | st.builds(Bernoulli)
        | st.builds(Poisson)
    )
    n_dispersions = n_features if likelihood.per_feature else None
    n_draws = draw(st.sampled_from([1, 1, 3]))
    nets = draw(networks(n_features, 2 * k, k))
    core = VAE(*nets, likelihood, k, n_dispersions, n_draws=n_draws).double()
    if core.log_dispersion is None:
        start = np.linspace(0.5, 1.5, n_features) if likelihood.per_feature else 0.7
        core.start_dispersion(start, 1e-3)
    term = for_raw_rows(likelihood, n_features)
    if n_draws > 1:
        return core, Objective(ImportanceWeightedBound(term))
    free_bits = 0.0 if row_by_row else draw(st.sampled_from([0.0, 0.0, 0.1]))
    return core, Objective(term, KLDivergence(draw(WEIGHTS), free_bits))


@st.composite
def quantized_autoencoders(draw, n_features):
    """Return a strategy of a vector-quantised autoencoder and its objective."""
    n_parts, dim = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    nets = draw(networks(n_features, n_parts * dim, n_parts * dim))
    loss = for_raw_rows(draw(losses()), n_features)
    commitment = draw(st.lists(st.builds(Commitment, WEIGHTS), max_size=1))
    if draw(st.sampled_from([False, False, True])):
        return VQVAE(*nets, FiniteScalarQuantizer(n_parts, (3,) * dim)).double(), Objective(loss)
    settings = dict(n_stages=draw(st.integers(1, 2)), shared=draw(st.booleans()))
    decay = draw(st.sampled_from([0.9, 0.5, None]))
    quantizer = VectorQuantizer(n_parts, draw(st.integers(1, 6)), dim, decay=decay, **settings)
    seed = draw(SEEDS)
    quantizer.start(normals(seed, 30, n_parts * dim).float(), 10, generator(seed))
    pulled = [CodebookLoss()] if decay is None else []
    return VQVAE(*nets, quantizer).double(), Objective(loss, *pulled, *commitment)


def models(n_features, row_by_row=False):
    """Return a strategy of networks of any family with an objective.

    `row_by_row` leaves out terms of the rows that are passed through together.
    """
    return st.one_of(
        autoencoders(n_features, row_by_row),
        variational_autoencoders(n_features, row_by_row),
        quantized_autoencoders(n_features),
    )


def step_settings():
    """Return a strategy of what surrounds the gradients."""
    return st.fixed_dictionaries(
        {},
        optional={
            "weight_decay": st.floats(0, 0.3),
            "dropout": st.floats(0, 0.7),
            "max_grad_norm": st.floats(0.01, 10),
            "corrupt": st.builds(GaussianNoise, st.floats(0, 1))
            | st.builds(MaskingNoise, st.floats(0, 1)),
        },
    )


def compiled(core, objective, **settings):
    """Return a step as training makes it: its gradients are compiled where they can be."""
    return Step(deepcopy(core), deepcopy(objective), generator(6), **settings)


def by_autograd(core, objective, **settings):
    """Return a step that differentiates automatically."""
    return Step(deepcopy(core), deepcopy(objective), generator(6), compiled=False, **settings)


def after(step, x, progress=1.0, in_buffer=False):
    """Return the gradient of a first step, and the state and the loss after it, by name.

    The gradient is noted on its way into the update, where it is made a mean over rows.
    """
    gradients, update = [], step._adam

    def noted(divisor):
        gradients.append(step.gradient / divisor)
        update(divisor)

    noted.begin, noted.end, noted.state = update.begin, update.end, update.state
    noted.set = update.set
    step._adam = noted
    step.begin_epoch(progress)
    with step.mode():
        buffer = step.batch_buffer(len(x)) if in_buffer else None
        step(x if buffer is None else buffer.copy_(x))
    loss = torch.tensor(step.end_epoch(), dtype=torch.float64)
    (gradient,) = gradients
    _, _, _, weights, *buffers = step.snapshot()
    return {"gradient": gradient, "weights": weights, "loss": loss, "buffers": buffers}


def assert_agree(found, expected):
    """Assert that two results of `after` agree to 1e-10 of the largest of each kind."""
    for name in ("gradient", "loss"):
        assert_close(found[name], expected[name])
    for one, other in zip(found["buffers"], expected["buffers"], strict=True):
        assert_close(one, other)


def assert_close(found, expected):
    """Assert that two tensors are finite and agree to 1e-10 of the largest entry.

    Denormal numbers, which have few digits, count as zero.
    """
    assert expected.isfinite().all()
    largest = expected.abs().max() if expected.numel() else 0.0
    tiny = torch.finfo(torch.float64).tiny
    assert ((found - expected).abs() <= 1e-10 * largest + tiny).all()
