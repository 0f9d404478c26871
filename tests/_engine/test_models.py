"""Tests of gradients written out: they are those of autograd, step after step."""

import itertools
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae._engine import kernels, program
from skae._engine.models import NotComposable, Passes
from skae._engine.program import Program
from skae._training.step import Step
from skae.modules import (
    MLP,
    VAE,
    VQVAE,
    Autoencoder,
    FiniteScalarQuantizer,
    MirroredMLP,
    VectorQuantizer,
    _custom,
)
from skae.modules._custom import CustomNetwork
from skae.objectives import (
    ACAI,
    L1,
    L2,
    AbsoluteError,
    Bernoulli,
    CodebookLoss,
    Commitment,
    Contractive,
    Gaussian,
    GaussianNoise,
    Huber,
    Identity,
    KLDivergence,
    KLSparsity,
    Laplace,
    Likelihood,
    LinearWarmup,
    Logistic,
    Loss,
    MaskingNoise,
    NegativeBinomial,
    Objective,
    Poisson,
    SquaredError,
    Term,
    TopK,
)
from skae.objectives._losses import for_scaled_rows

N_FEATURES, N_COMPONENTS = 5, 4
by_autograd, compiled = partial(Step, compiled=False), partial(Step, compiled=True)
ACTIVATIONS = ["relu", "tanh", "logistic", "identity", "silu", "gelu"]
CPU = torch.device("cpu")


def generator(seed=0):
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def raw(loss):
    """Return a loss of rows in the user's units as a term."""
    center, scale = np.linspace(0.4, 0.6, N_FEATURES), np.linspace(0.05, 0.1, N_FEATURES)
    return for_scaled_rows(loss, center, scale, CPU)


def make_nets(n_encoded=N_COMPONENTS, hidden=(8, 6), activation="relu", skip=True, tied=False):
    """Return a float64 encoder and decoder with weights that are all different from zero."""
    settings = dict(activation=activation, skip=skip, generator=generator(1))
    encoder = MLP(N_FEATURES, n_encoded, hidden, **settings).double()
    reverse = MLP(N_COMPONENTS, N_FEATURES, hidden[::-1], **settings).double()
    decoder = MirroredMLP(encoder).double() if tied else reverse
    source = generator(2)
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *decoder.parameters()]:
            parameter += 0.3 * torch.randn(parameter.shape, generator=source, dtype=torch.float64)
    return encoder, decoder


def make_autoencoder(code_activation=None, ordered=False, **nets):
    """Return an autoencoder."""
    return Autoencoder(*make_nets(**nets), code_activation, ordered, N_COMPONENTS)


def make_vae(likelihood, per_feature=False, **nets):
    """Return a variational autoencoder whose noise is not one."""
    n_dispersions = N_FEATURES if per_feature else None
    nets = make_nets(2 * N_COMPONENTS, **nets)
    core = VAE(*nets, likelihood, N_COMPONENTS, n_dispersions).double()
    start = np.linspace(0.5, 1.5, N_FEATURES) if per_feature else 0.7
    if core.log_dispersion is None:
        core.start_dispersion(start, 1e-3)
    return core


def make_vqvae(n_parts=2, decay=0.9, **settings):
    """Return a vector-quantised autoencoder with codebooks around the encodings."""
    quantizer = VectorQuantizer(n_parts, 8, N_COMPONENTS // n_parts, decay=decay, **settings)
    quantizer.start(torch.randn((40, N_COMPONENTS), generator=generator(3)), 10, generator(4))
    return VQVAE(*make_nets(), quantizer.double())


def rows(n_rows=50):
    """Return rows around zero, where units switch and residuals change sign."""
    return torch.randn((n_rows, N_FEATURES), generator=generator(5), dtype=torch.float64)


def run(kind, core, objective, n_epochs=3, x=None, batch_size=20, **settings):
    """Return weights, buffers, losses per epoch and moments after some epochs of steps.

    In the first epoch batches are taken where they are, later from where the step wants them.
    """
    step = kind(deepcopy(core), deepcopy(objective), generator(6), learning_rate=0.01, **settings)
    losses, x = [], rows() if x is None else x
    for epoch in range(n_epochs):
        step.begin_epoch(epoch / n_epochs)
        with step.mode():
            for batch in x.split(batch_size):
                place = step.batch_buffer(len(batch)) if epoch else None
                step(batch if place is None else place.copy_(batch))
        losses.append(step.end_epoch())
    return [*step.snapshot(), torch.tensor(losses, dtype=torch.float64)]


def assert_agree(core, objective, **settings):
    """Assert that both steps do the same, which is not nothing."""
    expected = run(by_autograd, core, objective, **settings)
    found = run(compiled, core, objective, **settings)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert (expected[0] != 0).double().mean() > 0.6  # all but what feeds dead units has moved


CODES = {
    "as they are": None,
    "identity": Identity(),
    "logistic": Logistic(),
    "top-k": TopK(2),
}
LOSSES = {
    "squared": SquaredError(),
    "squared, weighted": SquaredError(0.3),
    "absolute": AbsoluteError(),
    "huber": Huber(0.7, weight=1.7),
    "bernoulli": raw(Bernoulli(weight=0.5)),
    "poisson": raw(Poisson()),
    "warming up": SquaredError(LinearWarmup(fraction=0.5, start=0.1)),
}
PENALTIES = {
    "none": [],
    "l1": [L1(0.1)],
    "l2": [L2(0.1)],
    "both, warming up": [L1(0.1), L2(LinearWarmup())],
}


def nets():
    """Return the shapes of networks."""
    hidden = [(), (8,), (8, 6)]
    return [
        dict(hidden=h, skip=s, tied=t)
        for h, s, t in itertools.product(hidden, *[(False, True)] * 2)
    ]


@pytest.mark.parametrize("settings", nets(), ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks(settings, activation):
    """Every activation and shape of perceptron, with tied weights and a linear path."""
    core = make_autoencoder(activation=activation, **settings)
    assert_agree(core, Objective(SquaredError()), dropout=0.0)
    assert_agree(core, Objective(SquaredError()), dropout=0.4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("ordered", [False, True])
def test_autoencoders(loss, penalty, codes, ordered):
    """Every loss with every penalty, code activation and order."""
    core = make_autoencoder(CODES[codes], ordered)
    assert_agree(core, Objective(LOSSES[loss], *PENALTIES[penalty]))


def test_sparsity():
    """The divergence of mean activations, beside other penalties."""
    core = make_autoencoder(Logistic())
    assert_agree(core, Objective(SquaredError(0.5), KLSparsity(0.1, weight=2.0), L1(0.1)))


def test_sparsity_where_units_are_saturated():
    """Means beyond where logarithms are cut off have no gradient, in both."""
    core = make_autoencoder(Logistic())
    with torch.no_grad():
        core.encoder.linear.bias[0] = -40.0
    assert_agree(core, Objective(SquaredError(), KLSparsity(0.1)))


LIKELIHOODS = {
    "gaussian": Gaussian(),
    "gaussian per feature": Gaussian("per_feature"),
    "gaussian fixed": Gaussian(0.3),
    "laplace": Laplace(),
    "laplace per feature": Laplace("per_feature"),
    "laplace fixed": Laplace(0.3),
    "bernoulli": Bernoulli(),
    "poisson": Poisson(),
    "negative binomial": NegativeBinomial("shared"),
    "negative binomial per feature": NegativeBinomial("per_feature"),
    "negative binomial fixed": NegativeBinomial(0.7),
}


@pytest.mark.parametrize("free_bits", [0.05, 0.3, 5.0])
def test_free_bits(free_bits):
    """Codes below and above what costs nothing."""
    objective = Objective(Gaussian(), KLDivergence(0.8, free_bits=free_bits))
    assert_agree(make_vae(Gaussian()), objective)


@pytest.mark.parametrize("bias", [35.0, -35.0])
@pytest.mark.parametrize("likelihood", [Poisson(), NegativeBinomial(), NegativeBinomial(2e-6)])
def test_rates_beyond_their_range(likelihood, bias):
    """Log-rates that go on as tangents, and those of nothing."""
    core = make_vae(likelihood, likelihood.per_feature)
    with torch.no_grad():
        core.decoder.linear.bias[0] = bias
    assert_agree(core, Objective(raw(likelihood), KLDivergence()))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("beta", [1.0, 0.0, 4.0, LinearWarmup(end=2.0)], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_variational(likelihood, beta, dropout):
    """Every likelihood with every weight of the divergence."""
    likelihood = LIKELIHOODS[likelihood]
    core = make_vae(likelihood, likelihood.per_feature)
    term = raw(likelihood) if likelihood.raw_target else likelihood
    assert_agree(core, Objective(term, KLDivergence(beta)), dropout=dropout)


def test_information_beyond_its_range():
    """Encoders that state more than can be held have no gradient there, in both."""
    core = make_vae(Gaussian(1.0))
    with torch.no_grad():
        core.encoder.linear.bias[N_COMPONENTS] = 150.0
        core.encoder.linear.bias[-1] = -150.0
    expected, found = (
        run(kind, core, Objective(Gaussian(1.0), KLDivergence()))
        for kind in (by_autograd, compiled)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_stages": 2},
        {"shared": True},
        {"n_parts": 1},
        {"decay": None},
        {"decay": None, "n_stages": 2},
        {"decay": None, "shared": True},
    ],
)
@pytest.mark.parametrize("commitment", [[], [Commitment()], [Commitment(LinearWarmup())]], ids=str)
def test_quantized(loss, settings, commitment):
    """Every loss with codebooks in stages, shared, of one part, trained by gradients."""
    terms = [CodebookLoss(0.7), *commitment] if "decay" in settings else commitment
    assert_agree(make_vqvae(**settings), Objective(LOSSES[loss], *terms))


@pytest.mark.parametrize(
    "settings",
    [
        dict(weight_decay=0.1),
        dict(max_grad_norm=0.5),
        dict(corrupt=GaussianNoise(0.2)),
        dict(corrupt=MaskingNoise(0.3)),
        dict(slice_rows=7),
        dict(corrupt=lambda x, generator: x * 0.9),
        dict(weight_decay=LinearWarmup(end=0.3), max_grad_norm=1.0, slice_rows=6, dropout=0.2),
        dict(dropout=LinearWarmup(end=0.5)),
    ],
    ids=lambda value: str(value).split(" at 0x")[0],
)
@pytest.mark.parametrize("kind", ["autoencoder", "vae", "vqvae"])
def test_settings(kind, settings):
    """What surrounds the gradients: decay, clipping, corruption, slices of a batch."""
    core, terms = {
        "autoencoder": (make_autoencoder(ordered=True), [SquaredError(), L1(0.1)]),
        "vae": (make_vae(Gaussian()), [Gaussian(), KLDivergence()]),
        "vqvae": (make_vqvae(), [SquaredError(), Commitment()]),
    }[kind]
    assert_agree(core, Objective(*terms), **settings)


def test_a_place_for_rows_changes_nothing():
    """Rows that are written to the step's own tensor are those that are passed."""
    core, objective, x = make_autoencoder(), Objective(SquaredError()), rows()
    one, other = (
        compiled(deepcopy(core), objective, generator(), learning_rate=0.1) for _ in range(2)
    )
    for step in (one, other):
        step.begin_epoch(0.0)
    for batch in x.split(20):
        one(batch)
        other(other.batch_buffer(len(batch)).copy_(batch))
    assert one.end_epoch() == other.end_epoch()
    assert torch.equal(x, rows())
    assert torch.equal(one.weights, other.weights)


class Unusual(nn.Module):
    """A network with an unused parameter, a frozen one, and no gradient in its rows."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer, self.frozen = nn.Linear(n_in, n_out), nn.Linear(n_in, n_out)
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return torch.tanh(self.layer(x.detach()) + self.frozen(x.detach()))


class Frozen(nn.Linear):
    """A network that is not trained."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.requires_grad_(False)


class Chosen(nn.Linear):
    """A network whose first parameter is a whole number for each feature."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        order = nn.Parameter(torch.arange(n_in).flip(0), requires_grad=False)
        self._parameters = {"order": order, **self._parameters}

    def forward(self, x):
        return super().forward(x[:, self.order])


OWN = {
    "sequential": lambda n_in, n_out: nn.Sequential(
        nn.Linear(n_in, 8), nn.ReLU(), nn.Linear(8, n_out)
    ),
    "in place": lambda n_in, n_out: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(n_in, n_out)),
    # Adam would make steps of a bias before them, whose gradient is zero but for rounding
    "batch statistics": lambda n_in, n_out: nn.Sequential(
        nn.Linear(n_in, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, n_out)
    ),
    "draws": lambda n_in, n_out: nn.Sequential(nn.Dropout(0.3), nn.Linear(n_in, n_out)),
    "unusual": Unusual,
    "frozen": Frozen,
    "whole numbers first": Chosen,
}


def own(name, n_in, n_out):
    """Return a network of the user's own, float64."""
    torch.manual_seed(11)
    return CustomNetwork(OWN[name](n_in, n_out).double(), n_in, n_out).train()


@pytest.mark.parametrize("kind", ["autoencoder", "vae", "vqvae"])
@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        pair
        for pair in itertools.product([None, *OWN], repeat=2)
        if pair != ("frozen", "frozen")  # there is nothing to learn
    ],
)
def test_networks_of_the_user_s_own(kind, encoder, decoder):
    """Only they are differentiated automatically, and nothing is different."""
    core, objective = {
        "autoencoder": (make_autoencoder(), Objective(SquaredError(), L1(0.1))),
        "vae": (make_vae(Gaussian()), Objective(Gaussian(), KLDivergence(0.7))),
        "vqvae": (make_vqvae(), Objective(SquaredError(), Commitment())),
    }[kind]
    n_encoded = 2 * N_COMPONENTS if kind == "vae" else N_COMPONENTS
    core.encoder = own(encoder, N_FEATURES, n_encoded) if encoder else core.encoder
    core.decoder = own(decoder, N_COMPONENTS, N_FEATURES) if decoder else core.decoder
    for settings in ({}, {"slice_rows": 7}, {"corrupt": MaskingNoise(0.5)}):
        expected = run(by_autograd, core, objective, n_epochs=2, **settings)
        found = run(compiled, core, objective, n_epochs=2, **settings)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


class Backwards(nn.Module):
    """A layer run backwards, whose weights are another network's."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.offset = layer, nn.Parameter(torch.zeros(layer.in_features))

    def forward(self, z):
        return z @ self.layer.weight + self.offset


@pytest.mark.parametrize("kind", ["autoencoder", "vqvae"])
def test_networks_of_the_user_s_own_that_share_weights(kind):
    """The gradients of both add up."""
    torch.manual_seed(12)
    layer = nn.Linear(N_FEATURES, N_COMPONENTS)
    core = make_autoencoder() if kind == "autoencoder" else make_vqvae()
    core.encoder = CustomNetwork(layer, N_FEATURES, N_COMPONENTS)
    core.decoder = CustomNetwork(Backwards(layer), N_COMPONENTS, N_FEATURES)
    assert_agree(core.double(), Objective(SquaredError()))


def test_small_networks_of_the_user_s_own_are_not_rounded():
    """It would take longer."""
    net = own("sequential", N_FEATURES, N_COMPONENTS).float()
    x = torch.randn(20, N_FEATURES)
    assert torch.equal(_custom.Rounded(net)(x), net(x))


def test_networks_without_weights_are_left_to_autograd():
    """There is nothing to write out."""
    core = Autoencoder(*(CustomNetwork(nn.Identity(), N_FEATURES, N_FEATURES) for _ in range(2)))
    with pytest.raises(NotComposable):
        compiled(core, Objective(SquaredError()), generator(), learning_rate=0.1)


def cosine(one, other):
    """Return the cosine between two updates."""
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


@pytest.mark.parametrize("kind", [by_autograd, compiled])
@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("settings", [dict(), dict(skip=False), dict(tied=True)])
def test_factors_in_bfloat16(kind, custom, settings, monkeypatch):
    """Gradients are those of exact products to two digits, but not to four."""
    monkeypatch.setattr(_custom, "BFLOAT16_WORK", 0)
    core = make_autoencoder(**settings).float()
    if custom:
        core.encoder = own("sequential", N_FEATURES, N_COMPONENTS).float()
        core.decoder = own("sequential", N_COMPONENTS, N_FEATURES).float()
    found = {}
    for precision in ("float32", "bfloat16"):
        step = kind(
            deepcopy(core),
            Objective(SquaredError(), L2(0.1)),
            generator(),
            learning_rate=0.0,
            precision=precision,
        )
        step.begin_epoch(0.0)
        with step.mode():
            step(rows().float())
        found[precision] = step.gradient.clone()
        assert step.gradient.dtype == torch.float32
    assert 0.999 < cosine(*found.values()) < 1 - 1e-8


@pytest.mark.parametrize("model", ["autoencoder", "vae", "vqvae"])
def test_bfloat16_learns_as_well(model, monkeypatch):
    """What is reached differs by less than another seed makes."""
    monkeypatch.setattr(_custom, "BFLOAT16_WORK", 0)
    X = load_digits().data[:900] / 16
    settings = dict(max_iter=20, init="random", early_stopping=False)
    make = {
        "autoencoder": AutoencoderTransformer,
        "vae": VAETransformer,
        "vqvae": VQVAETransformer,
    }[model]
    scores = {
        precision: make(8, precision=precision, random_state=0, **settings).fit(X).score(X)
        for precision in ("float32", "bfloat16")
    }
    other = make(8, random_state=1, **settings).fit(X).score(X)
    gap, spread = abs(np.subtract(*scores.values())), abs(other - scores["float32"])
    assert 0 < gap < max(spread, 0.02 * abs(other))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_products_by_onednn_are_those_of_mkl(skip, tied, monkeypatch):
    """Where they are chosen, as for large ones on some processors, the step is the same."""
    asked = []
    monkeypatch.setattr(program, "is_faster_by_onednn", lambda *product: not asked.append(product))
    core = make_autoencoder(skip=skip, tied=tied).float()
    settings = dict(x=rows().float(), n_epochs=2)
    found = run(compiled, core, Objective(SquaredError(), L2(0.1)), **settings)
    expected = run(by_autograd, core, Objective(SquaredError(), L2(0.1)), **settings)

    assert asked
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "wins"),
    [
        (("AuthenticAMD", 26), True),  # Zen 5
        (("AuthenticAMD", 25), False),  # Zen 3 and 4
        (("GenuineIntel", 6), False),
        (None, False),
    ],
)
def test_onednn_is_for_large_products_in_float32_on_some_processors(family, wins, monkeypatch):
    """Small products, float64 and processors on which MKL is fast are left to MKL."""
    monkeypatch.setattr(kernels, "processor_family", lambda: family)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    kernels._onednn_wins.cache_clear()
    try:
        assert kernels.is_faster_by_onednn(10**8, torch.zeros(1)) == wins
        assert not kernels.is_faster_by_onednn(10**5, torch.zeros(1))
        assert not kernels.is_faster_by_onednn(10**8, torch.zeros(1, dtype=torch.float64))
    finally:
        kernels._onednn_wins.cache_clear()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="not Linux")
def test_the_processor_s_family_is_read():
    """It is what the kernel says, and unknown where there is nothing to read."""
    described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if "cpu family" not in described:
        assert kernels.processor_family() is None
        return
    vendor, family = kernels.processor_family()
    assert vendor in described
    assert f"cpu family\t: {family}\n" in described


class FakeGraph:
    """What is captured from a list of calls: all that were made in the meantime."""

    def __init__(self):
        self.calls = []

    def replay(self):
        """Make the calls again."""
        for call in self.calls:
            call()


@pytest.mark.parametrize("kind", ["autoencoder", "vae", "vqvae"])
def test_a_replayed_graph_of_the_calls_is_the_step(kind, monkeypatch):
    """Captured once and replayed, the calls do what they do one by one; CUDA is played here."""
    core, terms = {
        "autoencoder": (make_autoencoder(), [SquaredError(), L1(0.1)]),
        "vae": (make_vae(Gaussian()), [Gaussian(), KLDivergence()]),
        "vqvae": (make_vqvae(), [SquaredError(), Commitment()]),
    }[kind]
    expected = run(compiled, core, Objective(*terms))
    replay, capturing = Program.replay, []

    def recorded(program):
        if capturing:
            capturing[-1].calls += program.calls
        else:
            replay(program)

    @contextmanager
    def capture(graph, **how):
        capturing.append(graph)
        yield
        capturing.pop()

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda side: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(Program, "replay", recorded)
    graphs, build = [], Passes.__init__

    def captured(self, core, *arguments, **options):
        build(self, core, *arguments, **options)
        self.replay = self.captured()
        graphs.append(self.replay)

    monkeypatch.setattr(Passes, "__init__", captured)
    found = run(compiled, core, Objective(*terms))

    # one row that is tried; full batches and the last, as they are and in the step's own buffer
    assert len(graphs) == 5
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["autoencoder", "vae", "vqvae"])
def test_graphs_on_a_device(kind, monkeypatch):
    """A replayed CUDA graph does what its calls do one by one, and what autograd does."""
    core, terms = {
        "autoencoder": (make_autoencoder(ordered=True), [SquaredError(), L1(LinearWarmup())]),
        "vae": (make_vae(Gaussian()), [Gaussian(), KLDivergence()]),
        "vqvae": (make_vqvae(), [SquaredError(), Commitment()]),
    }[kind]
    core, objective, how = core.cuda(), Objective(*terms), dict(x=rows().cuda(), dropout=0.2)
    capture, captured = Passes.captured, []
    monkeypatch.setattr(
        Passes, "captured", lambda passes: captured.append(passes) or capture(passes)
    )
    assert_agree(core, objective, **how)
    assert captured
    found = run(compiled, core, objective, **how)
    monkeypatch.setattr(Passes, "_is_capturable", False)
    for one, other in zip(found, run(compiled, core, objective, **how), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


class Counted(SquaredError):
    """A term of the user's, which counts its calls."""

    def bind(self, buffers):
        """Count, and do what is done otherwise."""
        add, self.calls = super().bind(buffers), 0

        def run():
            self.calls += 1
            add()

        return run


@pytest.mark.parametrize(
    ("loss", "code_activation", "expected"),
    [
        (SquaredError(), TopK(2), True),
        (raw(Bernoulli()), None, True),
        (Counted(), None, False),
        (SquaredError(), type("Own", (TopK,), {"__module__": "own"})(2), False),
    ],
)
def test_code_of_the_users_is_not_captured(loss, code_activation, expected):
    """A graph would leave out what it does beside tensors: it is called once for each batch."""
    core = make_autoencoder(code_activation)
    step = compiled(core, Objective(loss), generator(), learning_rate=0.1)
    assert step._gradients.passes(3)._is_capturable == expected


def test_a_rank_without_rows_updates_as_the_others_do(monkeypatch):
    """What gradients are multiplied by does not depend on whether there are rows."""
    step = compiled(make_autoencoder(), Objective(SquaredError()), generator(), learning_rate=1)
    monkeypatch.setattr(step, "_n_ranks", 50)
    units = []
    for rank in (0, 49):
        monkeypatch.setattr(step, "_rank", rank)
        step.gradient.fill_(7.0)
        units.append(step._differentiate(rows(20)))
        assert bool(step.gradient.any()) == (rank == 0)
    assert units == [2.0, 2.0]


@pytest.mark.parametrize(
    ("settings", "parameter"),
    [
        ({"loss": Huber(-1.0)}, "delta"),
        ({"code_activation": TopK(0)}, "n_active"),
        ({"penalty": KLSparsity(1.5), "code_activation": "logistic"}, "target"),
    ],
)
def test_parameters_of_terms_are_checked_where_none_is_called(blobs, settings, parameter):
    """Nothing is held out, so that the written-out step alone sees the terms."""
    model = AutoencoderTransformer(2, init="random", early_stopping=False, max_iter=1, **settings)
    with pytest.raises(ValueError, match=f"'{parameter}' parameter"):
        model.fit(blobs)


class Doubled(SquaredError):
    """A term of another formula, whose inherited gradient is not its own."""

    def __call__(self, x, out):
        return 2 * super().__call__(x, out)


@pytest.mark.parametrize(
    ("core", "terms"),
    [
        (make_autoencoder(), [Doubled()]),
        (make_autoencoder(), [SquaredError(), Contractive()]),
        (make_autoencoder(), [SquaredError(), ACAI()]),
        (make_autoencoder(torch.relu), [SquaredError()]),
        (Autoencoder(torch.nn.Linear(5, 4), make_nets()[1]), [SquaredError()]),
        (Autoencoder(make_nets()[0], torch.nn.Linear(4, 5)), [SquaredError()]),
        (VQVAE(*make_nets(), FiniteScalarQuantizer(2, (3, 3))), [SquaredError()]),
    ],
)
def test_anything_else_is_left_to_autograd(core, terms):
    """What has no closed form here gets the step that differentiates."""
    objective = Objective(*terms)
    objective = objective.begin(core.decode, lambda *n: torch.nn.Linear(*n), 5, generator())
    assert not Step(core, objective, generator(), learning_rate=0.1).is_compiled


def test_built_in_networks_get_compiled_steps():
    """The default of all three families is written out."""
    for core, terms in [
        (make_autoencoder(), [SquaredError()]),
        (make_vae(Gaussian()), [Gaussian(), KLDivergence()]),
        (make_vqvae(), [SquaredError(), Commitment()]),
    ]:
        assert Step(core, Objective(*terms), generator(), learning_rate=0.1).is_compiled


class LogCosh(Loss):
    """A loss of a user's own that brings its gradient: log cosh of residuals."""

    def __init__(self, steepness=1.0, weight=1.0):
        super().__init__(weight)
        self.steepness = steepness

    def __call__(self, x, out):
        return (self.steepness * (out.x_hat - x)).cosh().log().sum(1)

    def bind(self, buffers):
        x, x_hat, gradient = buffers.x, buffers.out.x_hat, buffers.grad.x_hat
        total = buffers.total(*x.shape)

        def run():
            residual = self.steepness * (x_hat - x)
            total.add_(residual.cosh().log())
            torch.mul(residual.tanh(), self.steepness * buffers.factor, out=gradient)

        return run


class LogLogistic(Likelihood):
    """A likelihood of a user's own that brings its gradient: logistic noise of a fixed scale."""

    def log_prob(self, x, output, dispersion):
        r = (x - output) / 0.3
        return -(r + 2 * torch.nn.functional.softplus(-r) + np.log(0.3)).sum(1)

    def sample(self, mean, dispersion, rng):
        return mean + rng.logistic(scale=0.3, size=mean.shape)

    def bind(self, buffers):
        x, x_hat, gradient = buffers.x, buffers.out.x_hat, buffers.grad.x_hat
        total = buffers.total(len(x))

        def run():
            total.sub_(self.log_prob(x, x_hat, None))
            torch.mul(torch.tanh((x_hat - x) / 0.6), buffers.factor / 0.3, out=gradient)

        return run


class Cubes(Term):
    """A penalty of a user's own that brings its gradient."""

    def __call__(self, x, out):
        return out.z.abs().pow(3).sum(1)

    def bind(self, buffers):
        z, total = buffers.out.z, buffers.total(len(buffers.x))

        def run():
            total.add_(z.abs().pow(3).sum(1))
            buffers.grad.z.add_(3 * z * z.abs(), alpha=buffers.factor)

        return run


def test_terms_of_the_user_s_own_that_bind_are_compiled():
    """They need nothing but their own class."""
    for weight in (1.0, 0.4):
        core, terms = make_autoencoder(), [LogCosh(0.8, weight), Cubes(0.1)]
        assert_agree(core, Objective(*terms))
    assert_agree(make_vae(LogLogistic()), Objective(LogLogistic(), KLDivergence(0.5)))


def test_a_loss_of_the_user_s_own_trains_in_an_estimator(blobs, monkeypatch):
    """What is found outside the package trains at the engine's speed."""
    made, begin = [], Step.__init__

    def spied(self, *arguments, **settings):
        begin(self, *arguments, **settings)
        made.append(self.is_compiled)

    monkeypatch.setattr(Step, "__init__", spied)
    model = AutoencoderTransformer(2, loss=LogCosh(), penalty=Cubes(1e-3), max_iter=3)
    assert model.set_params(early_stopping=False, random_state=0).fit(blobs).score(blobs) > 0.5
    assert made == [True]
