"""Tests of what fits the slots of AutoencoderTransformer, and of what it does to the fit."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.utils.estimator_checks import check_estimator

from skae import AutoencoderTransformer, VAETransformer
from skae.modules import MLP, Autoencoder
from skae.objectives import (
    L1,
    L2,
    CodeActivation,
    Contractive,
    CosineDecay,
    Gaussian,
    GaussianNoise,
    Huber,
    KLDivergence,
    KLSparsity,
    LinearWarmup,
    MaskingNoise,
    SwapNoise,
    Term,
    TopK,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

QUICK = dict(hidden_layer_sizes=(32,), early_stopping=False, random_state=0)


@pytest.fixture
def counts():
    """Return counts whose rates lie on a curve."""
    rng = np.random.default_rng(0)
    t = rng.random(400)[:, None]
    return rng.poisson(np.exp(2 * np.sin(3 * t + np.arange(8)))).astype(float)


# -- losses ------------------------------------------------------------------------------------


def test_absolute_error_shrugs_off_outliers(blobs):
    """With a few wild entries the absolute error leaves the clean ones better reconstructed."""
    rng = np.random.default_rng(0)
    line = rng.normal(size=(300, 1)) @ rng.normal(size=(1, 6))
    X = np.where(rng.random(line.shape) < 0.03, 30.0, line)
    settings = dict(init="random", learning_rate=5e-3, max_iter=200, scale=None)
    settings = {**QUICK, **settings, "hidden_layer_sizes": ()}
    errors = {}
    for loss in ("squared_error", "absolute_error", Huber(0.5)):
        model = AutoencoderTransformer(1, loss=loss, **settings).fit(X)
        errors[str(loss)] = np.abs(model.inverse_transform(model.transform(line)) - line).mean()

    assert errors["absolute_error"] < 0.5 * errors["squared_error"]
    assert errors["Huber(delta=0.5)"] < errors["squared_error"]


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("tied", [False, True])
def test_bernoulli_starts_at_the_mean_and_gives_probabilities(digits, init, tied):
    """Before training every row is reconstructed as the mean; after it as probabilities."""
    X = (digits > 0.5).astype(float)
    settings = dict(loss="bernoulli", init=init, tied_weights=tied, **QUICK)
    start = AutoencoderTransformer(4, max_iter=0, **settings).fit(X)
    trained = AutoencoderTransformer(4, max_iter=30, **settings).fit(X)
    reconstructed = trained.inverse_transform(trained.transform(X))

    if not tied and init == "pca":
        expected = np.broadcast_to(X.mean(0), X.shape)
        np.testing.assert_allclose(start.inverse_transform(start.transform(X)), expected, atol=1e-4)
    assert reconstructed.min() >= 0
    assert reconstructed.max() <= 1
    assert trained.score(X) > PCA(4).fit(X).explained_variance_ratio_.sum()
    constant = X.min(0) == X.max(0)
    assert np.array_equal(reconstructed[:, constant], X[:, constant])


def test_bernoulli_loss_is_the_cross_entropy(digits):
    """What training reports is the mean negative log-likelihood of the rows, in nats."""
    X = (digits > 0.5).astype(float)
    model = AutoencoderTransformer(4, loss="bernoulli", random_state=0, max_iter=10)
    model.fit(X[:1200], X_val=X[1200:])
    p = np.clip(model.inverse_transform(model.transform(X[1200:])), 1e-12, 1 - 1e-12)
    x = X[1200:]
    entropy = -(x * np.log(p) + (1 - x) * np.log1p(-p))[:, X[:1200].std(0) > 0].sum(1).mean()

    assert model.best_loss_ == pytest.approx(entropy, abs=0.02)


def test_poisson_gives_rates_of_counts(counts):
    """Rates are positive and close to those that the counts were drawn from."""
    model = AutoencoderTransformer(2, loss="poisson", max_iter=60, **QUICK).fit(counts)
    rates = model.inverse_transform(model.transform(counts))

    assert rates.min() > 0
    assert model.score(counts) > PCA(2).fit(counts).explained_variance_ratio_.sum() - 0.02


@pytest.mark.parametrize(("loss", "row"), [("bernoulli", 1.5), ("poisson", -1.0)])
def test_rows_outside_the_support_are_refused(blobs, loss, row):
    """In fit, in later parts and among validation rows; the value is named."""
    X = np.clip(blobs / 20 + 0.3, 0, 1)
    bad = X.copy()
    bad[0, 0] = row
    model = AutoencoderTransformer(2, loss=loss, max_iter=1, random_state=0)
    with pytest.raises(ValueError, match=str(row)):
        model.fit(bad)
    with pytest.raises(ValueError, match=str(row)):
        model.fit(X, X_val=bad)
    with pytest.raises(ValueError, match=str(row)):
        model.partial_fit(X).partial_fit(bad)


# -- corruption --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(digits):
    """Return an autoencoder trained on clean digits."""
    settings = dict(hidden_layer_sizes=(128, 64), early_stopping=True, max_iter=60, random_state=0)
    return AutoencoderTransformer(24, **settings).fit(digits[:1400])


@pytest.mark.parametrize(
    "corruption", ["gaussian", "masking", "salt_and_pepper", "swap", GaussianNoise(0.5)]
)
def test_denoising_removes_the_noise_it_was_trained_on(digits, plain, corruption):
    """Corrupted rows come back closer to the clean ones than from a net trained on clean rows."""
    denoiser = clone(plain).set_params(corruption=corruption).fit(digits[:1400])
    noise = denoiser._make_recipe().corruption
    scaling, clean = denoiser._net.scaling, digits[1400:]
    noisy = noise(torch.tensor(scaling.to_scaled(clean)), torch.Generator().manual_seed(9))
    noisy = scaling.from_scaled(noisy.numpy())
    errors = [
        np.square(model.inverse_transform(model.transform(noisy)) - clean).sum()
        for model in (plain, denoiser)
    ]

    assert errors[1] < 0.97 * errors[0]


def test_a_callable_corrupts(blobs):
    """A function of batches and the generator is called with both."""
    seen = []

    def double(x, generator):
        seen.append((len(x), type(generator)))
        return 2 * x

    settings = dict(corruption=double, batch_size=100, max_iter=1, **QUICK)
    AutoencoderTransformer(2, **settings).fit(blobs)

    # The rows before and after, to weigh the last epoch against the start; two batches between.
    assert seen == [(n_rows, torch.Generator) for n_rows in (200, 100, 100, 200)]


# -- penalties and code activations ------------------------------------------------------------


def test_penalties_do_what_they_say(digits):
    """L2 makes codes smaller, contraction makes the encoder's Jacobian smaller."""
    settings = dict(max_iter=20, init="random", **QUICK)
    plain = AutoencoderTransformer(8, **settings).fit(digits)
    small = AutoencoderTransformer(8, penalty=L2(0.5), **settings).fit(digits)
    assert np.abs(_raw_codes(small, digits)).mean() < 0.5 * np.abs(_raw_codes(plain, digits)).mean()
    contracted = AutoencoderTransformer(8, penalty=Contractive(1.0), **settings).fit(digits)

    assert _jacobian_norm(contracted, digits) < 0.5 * _jacobian_norm(plain, digits)


def _raw_codes(model, X):
    core = model._net.make_core().eval().double()
    with torch.no_grad():
        return core.encode(torch.tensor(model._net.scaling.to_scaled(X))).numpy()


def _jacobian_norm(model, X):
    """Return the mean Frobenius norm of the encoder's Jacobian."""
    core = model._net.make_core().eval().double()
    rows = torch.tensor(model._net.scaling.to_scaled(X[:50]))
    jacobian = torch.autograd.functional.jacobian(core.encode, rows)
    per_row = jacobian.diagonal(dim1=0, dim2=2)  # (k, d, rows)
    return float(per_row.square().sum((0, 1)).sqrt().mean())


def test_contraction_orders_jacobians_as_in_rifai(digits):
    """Tied, logistic, random start: contractive < denoising < plain, a tenth of plain at most."""
    settings = dict(
        hidden_layer_sizes=(),
        code_activation="logistic",
        tied_weights=True,
        init="random",
        early_stopping=False,
        max_iter=20,
        batch_size=32,
        learning_rate=3e-3,
        random_state=0,
    )
    norms = [
        _jacobian_norm(AutoencoderTransformer(12, **settings, **variant).fit(digits), digits)
        for variant in ({"penalty": Contractive(200.0)}, {"corruption": GaussianNoise(1.0)}, {})
    ]

    assert norms[0] < norms[1] < norms[2]
    assert norms[0] <= 0.1 * norms[2]


@pytest.mark.parametrize("init", ["pca", "random"])
def test_kl_sparsity_reaches_its_target(digits, init):
    """Mean activations come within 0.02 of the target."""
    model = AutoencoderTransformer(
        12,
        init=init,
        code_activation="logistic",
        penalty=KLSparsity(target=0.1, weight=100.0),
        max_iter=150,
        learning_rate=1e-2,
        weight_decay=0.0,
        **{**QUICK, "hidden_layer_sizes": ()},
    ).fit(digits)
    codes = model.transform(digits)

    assert codes.min() >= 0
    assert codes.max() <= 1
    assert np.abs(codes.mean(0) - 0.1).max() < 0.02


def test_kl_sparsity_reaches_its_target_in_order(digits):
    """Penalties see all codes, also those that are not let through to the decoder."""
    settings = dict(init="random", code_activation="logistic", max_iter=150, learning_rate=1e-2)
    settings |= dict(weight_decay=0.0)
    model = AutoencoderTransformer(
        12, ordered=True, penalty=KLSparsity(0.1, 100.0), **settings, **QUICK
    )

    assert np.abs(model.fit_transform(digits).mean(0) - 0.1).max() < 0.02


def test_kl_sparsity_is_not_dodged(digits):
    """Held decoders take codes that are large in few rows; without it codes are small in all."""

    class Unheld(KLSparsity):
        needs_gains = False

    settings = dict(hidden_layer_sizes=(), code_activation="logistic", random_state=0)
    settings |= dict(early_stopping=False, max_iter=100)
    found = []
    for penalty in (KLSparsity(), Unheld()):
        model = AutoencoderTransformer(16, penalty=penalty, **settings).fit(digits)
        gains = model._net.make_core().decoder.gains().detach().numpy()
        found.append((model.transform(digits).max(0).mean(), gains))
    largest = np.sqrt(digits.shape[1] / 16 / (0.05 * 0.95))

    assert found[0][0] > found[1][0] + 0.1
    assert found[0][1].max() < 1.1 * largest < 1.5 * largest < found[1][1].max()


def test_kl_sparsity_holds_wide_rows_alike():
    """In principal coordinates as among all features, and whatever constant columns there are."""
    rng = np.random.default_rng(0)
    rows = 2 * rng.normal(size=(200, 10)) @ rng.normal(size=(10, 1024)) + rng.normal(
        size=(200, 1024)
    )
    settings = dict(hidden_layer_sizes=(), code_activation="logistic", random_state=0)
    settings |= dict(early_stopping=False, max_iter=60, penalty=KLSparsity(0.1))
    model = AutoencoderTransformer(8, **settings)
    padded = np.hstack([rows[:, :1000], np.ones((200, 23))])
    scores = [model.fit(X).score(X) for X in (rows, rows[:, :1023], padded)]

    assert max(scores) - min(scores) < 0.05


class LogSparse(Term):
    """A penalty that favours zeros, which a rotation would fill."""

    axis_aligned = True

    def __call__(self, x, out):
        """Return the penalty per row."""
        return out.z.square().mul(10).log1p().sum(1)


def test_a_penalty_of_ones_own_can_forbid_rotation(digits):
    """With `axis_aligned` codes are the network's, sorted and in X's unit."""
    model = AutoencoderTransformer(4, penalty=LogSparse(), max_iter=2, **QUICK).fit(digits)
    assert sorted(model._net.basis.order) == list(range(4))


def test_kl_sparsity_needs_codes_between_0_and_1(blobs):
    """The error names the penalty and the remedy."""
    model = AutoencoderTransformer(2, penalty="kl_sparsity", code_activation="identity")
    with pytest.raises(ValueError, match=r"KLSparsity.*code_activation='logistic'"):
        model.fit(blobs)


@pytest.mark.parametrize("max_iter", [0, 10])
def test_top_k_codes_have_exactly_k_entries(digits, max_iter):
    """Every row's code has as many entries as asked for, and they are its largest."""
    model = AutoencoderTransformer(12, code_activation=TopK(4), max_iter=max_iter, **QUICK).fit(
        digits
    )
    codes = model.transform(digits)

    assert np.all(np.count_nonzero(codes, axis=1) == 4)
    if max_iter == 0:
        projected = np.abs(PCA(12, svd_solver="full").fit_transform(digits))
        threshold = np.sort(projected, axis=1)[:, -4:].sum(1)
        np.testing.assert_allclose(np.abs(codes).sum(1), threshold, rtol=1e-4)


def test_sparse_codes_are_sorted_and_nothing_else(digits):
    """Their basis is a permutation: what is zero stays zero, and the most useful come first."""
    model = AutoencoderTransformer(8, penalty=["l1", L2(0.01)], max_iter=5, **QUICK).fit(digits)
    codes, raw = model.transform(digits), _raw_codes(model, digits)

    order = model._net.basis.order
    assert sorted(order) == list(range(8))
    unit = model._net.scaling.scale[0]
    np.testing.assert_allclose(codes, raw[:, order] * unit, atol=1e-9)
    assert model.explained_variance_ratio_.sum() == pytest.approx(model.score(digits), abs=1e-9)


def test_a_wrong_thing_in_the_list_of_penalties(blobs):
    """It is named."""
    with pytest.raises(ValueError, match="Got 'l3' in it"):
        AutoencoderTransformer(2, penalty=["l1", "l3"]).fit(blobs)


# -- tied weights ------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "logistic", "tanh"])
@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_tied_weights_start_at_pca_and_stay_tied(digits, activation, hidden):
    """PCA's axes are tied already; after training, cloning and pickling the weights still are."""
    settings = {**QUICK, "hidden_layer_sizes": hidden, "activation": activation}
    start = AutoencoderTransformer(5, tied_weights=True, max_iter=0, **settings).fit(digits)
    pca = PCA(5).fit(digits)
    model = AutoencoderTransformer(5, tied_weights=True, max_iter=3, **settings)
    core = clone(model).fit(digits)._net.make_core()
    names = dict(core.named_parameters())

    assert start.score(digits) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)
    assert not any("weight" in name for name in names if name.startswith("decoder"))
    z = torch.randn(3, 5)
    x = core.decoder.biases[0] + z @ core.encoder.linear.weight
    if not hidden:
        torch.testing.assert_close(core.decode(z), x)


def test_tied_weights_need_built_in_networks(blobs):
    """The error says so."""
    model = AutoencoderTransformer(2, tied_weights=True, decoder=torch.nn.Linear)
    with pytest.raises(ValueError, match="tied_weights=True needs perceptrons"):
        model.fit(blobs)


# -- pretraining -------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_pretrained_layers_start_better(digits, tied):
    """A deep logistic net, slow to start, is better with layers trained one by one before."""
    settings = dict(
        hidden_layer_sizes=(128, 64, 32),
        activation="logistic",
        init="random",
        tied_weights=tied,
        early_stopping=False,
        random_state=0,
    )
    model = AutoencoderTransformer(8, max_iter=10, **settings)
    plain, pretrained = (
        clone(model).set_params(pretraining=how).fit(digits) for how in (None, "greedy")
    )

    assert pretrained.score(digits) > plain.score(digits) + 0.08


def test_pretraining_is_for_the_loss(digits):
    """The layer that returns rows is pretrained for logits where the loss reads it as such."""
    binary = (digits[:800] > 0.5).astype(float)
    settings = dict(hidden_layer_sizes=(64, 32), loss="bernoulli", init="random", max_iter=30)
    first = {
        how: AutoencoderTransformer(8, pretraining=how, **{**QUICK, **settings})
        .fit(binary)
        .loss_curve_[0]
        for how in (None, "greedy")
    }

    assert first["greedy"] < first[None] - 0.5


def test_partial_fit_does_not_pretrain(digits):
    """A call is one epoch, whatever `max_iter`."""
    curves = []
    for max_iter in (10, 400):
        model = AutoencoderTransformer(4, pretraining="greedy", init="random", max_iter=max_iter)
        model.set_params(hidden_layer_sizes=(32,), random_state=0)
        curves.append(model.partial_fit(digits[:200]).loss_curve_)

    assert curves[0] == curves[1]


def test_greedy_pretraining_needs_a_random_start(blobs):
    """The error says what to set."""
    with pytest.raises(ValueError, match=r"pretraining='greedy' needs .* Set init='random'"):
        AutoencoderTransformer(2, pretraining="greedy").fit(blobs)


# -- what the reviews of PCA's attributes found -----------------------------------------------


@pytest.mark.parametrize(
    "variant", [dict(ordered=True), dict(penalty=L1(0.0), code_activation="identity")], ids=str
)
def test_codes_that_are_not_rotated_are_in_the_units_of_the_rows_too(variant):
    """At the start attributes are PCA's, whatever the units of X are."""
    X = np.random.default_rng(0).normal(size=(200, 5)) * [500, 100, 20, 5, 1]
    start, pca = AutoencoderTransformer(3, max_iter=0, **variant).fit(X), PCA(3).fit(X)

    for name in ("components_", "explained_variance_", "explained_variance_ratio_"):
        np.testing.assert_allclose(getattr(start, name), getattr(pca, name), rtol=1e-4, atol=1e-5)


def test_the_gain_is_over_pca_or_not_there(digits):
    """It is zero where the start was kept, not negative where codes were cut, absent elsewhere."""
    X = np.random.default_rng(0).normal(size=(120, 13)) * np.arange(1, 14)
    settings = dict(max_iter=12, random_state=0)
    assert AutoencoderTransformer(13, **settings).fit(X).gain_over_pca_ == 0.0
    assert AutoencoderTransformer(0.9, **settings).fit(digits[:400]).gain_over_pca_ >= 0
    for variant in (dict(loss="bernoulli"), dict(code_activation="logistic")):
        model = AutoencoderTransformer(4, **settings, **variant).fit(digits[:400])
        assert not hasattr(model, "gain_over_pca_")
    again = AutoencoderTransformer(4, warm_start=True, **settings).fit(digits).fit(digits)
    assert not hasattr(again, "gain_over_pca_")


def test_weight_decay_follows_a_schedule(digits):
    """A decay that ends at once is next to none, and one that stays is as strong as the number."""
    settings = dict(max_iter=20, init="random", **QUICK)
    decays = {
        "none": 0.0,
        "gone": LinearWarmup(fraction=1e-9, start=10.0, end=0.0),
        "kept": LinearWarmup(fraction=1e-9, start=10.0, end=10.0),
        "number": 10.0,
    }
    scores = {
        name: AutoencoderTransformer(4, weight_decay=decay, **settings).fit(digits).score(digits)
        for name, decay in decays.items()
    }

    assert scores["kept"] == scores["number"] < scores["none"] - 0.05
    assert scores["gone"] == pytest.approx(scores["none"], abs=0.05)


def test_schedules_go_on_over_parts(digits):
    """With a warm-up from zero the first part teaches nothing and later ones do."""
    model = AutoencoderTransformer(
        4, learning_rate=LinearWarmup(end=1e-3), max_iter=10, random_state=0
    )
    losses = [model.partial_fit(digits).loss_curve_[-1] for _ in range(5)]

    assert losses[4] < 0.9 * losses[0]


def test_parts_of_binary_rows_learn_without_a_basis(digits):
    """Where the start is no model of the rows, codes are the network's own."""
    model = AutoencoderTransformer(4, loss="bernoulli", random_state=0)
    for _ in range(5):
        model.partial_fit(digits)

    assert model.transform(digits).std(0).min() > 0.1
    assert not hasattr(model, "components_")
    assert AutoencoderTransformer(2, loss="bernoulli", max_iter=5).fit(digits[:9]).n_iter_ == 5


def test_a_penalty_with_a_critic_may_come_and_go_between_parts(digits):
    """Adam starts anew where the number of weights changes."""
    model = AutoencoderTransformer(4, random_state=0).partial_fit(digits)
    model.set_params(penalty="acai").partial_fit(digits)
    model.set_params(penalty=None).partial_fit(digits)

    assert model.n_iter_ == 3 * 2  # epochs of 29 steps


def test_a_density_of_one_s_own_is_seeded(digits):
    """Equal fits are equal, and NumPy's global generator is left alone."""
    density = GaussianMixture(3)
    model = AutoencoderTransformer(3, latent_density=density, max_iter=0, random_state=0)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    draws = [clone(model).fit(digits).sample(5, random_state=0) for _ in range(2)]

    assert np.array_equal(*draws)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert density.random_state is None


def test_a_corruption_may_work_in_place(digits):
    """The target stays clean."""
    settings = dict(max_iter=2, **QUICK)
    curves = [
        AutoencoderTransformer(2, corruption=corruption, **settings).fit(digits).loss_curve_
        for corruption in (lambda x, generator: x.mul_(0), lambda x, generator: x * 0)
    ]

    assert curves[0] == curves[1]


def test_corruption_of_ones_own_may_draw_as_torch_does(digits):
    """Draws from torch's global generator follow `random_state`, and any float dtype will do."""

    def noisy(x, generator):
        return x + torch.randn(x.shape, dtype=torch.float64)

    torch.manual_seed(5)
    state, curves = torch.get_rng_state(), []
    for _ in range(2):
        model = AutoencoderTransformer(3, corruption=noisy, max_iter=4, random_state=0)
        curves.append(model.fit(digits[:300]).validation_loss_curve_)

    assert curves[0] == curves[1]
    assert torch.equal(torch.get_rng_state(), state)


# -- order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_components", [2, 4, 16])
def test_first_codes_are_drawn_more_often(n_components):
    """As many rows use k codes as k ** -0.6 says, and all twice as often, by chi-square."""
    core = Autoencoder(MLP(5, 4, []), MLP(4, 5, []), ordered=True, n_components=n_components)
    kept = core.draw_noise(100_000, torch.Generator().manual_seed(0))["kept"]
    weights = np.arange(1, n_components + 1) ** -0.6
    weights[-1] *= 2
    drawn = np.bincount(kept[:, 0].numpy(), minlength=n_components + 1)

    assert drawn[0] == 0
    assert chisquare(drawn[1:], 100_000 * weights / weights.sum()).pvalue > 0.001


def test_the_last_of_ordered_codes_live(digits):
    """Each of sixteen codes raises the score of those before it, and has its share of it."""
    settings = dict(early_stopping=True, max_iter=60, random_state=0)
    model = AutoencoderTransformer(16, ordered=True, **settings).fit(digits)

    assert np.all(np.diff(scores_of_the_first(model, digits), prepend=0) > 0)
    assert np.all(model.explained_variance_ratio_ > 1e-4)


def test_ordered_codes_can_be_cut(digits):
    """The first codes do better than PCA's and far better than those of a net not trained so."""
    settings = dict(hidden_layer_sizes=(128, 64), early_stopping=True, max_iter=50, random_state=0)
    model = AutoencoderTransformer(8, ordered=True, **settings).fit(digits)
    free = AutoencoderTransformer(8, **settings).fit(digits)
    scores, unordered = (scores_of_the_first(m, digits) for m in (model, free))
    pca = np.cumsum(PCA(8).fit(digits).explained_variance_ratio_)

    assert np.all(np.diff(scores, prepend=0) > 0)
    assert np.all(scores > pca + 0.1)
    assert np.all(scores[:5] > unordered[:5] + 0.1)


def scores_of_the_first(model, X):
    """Return the score of X with the first 1, ..., k codes, the others being zero."""
    codes, total = model.transform(X), np.square(X - X.mean(0)).sum()
    first = (np.where(np.arange(codes.shape[1]) < k, codes, 0) for k in range(1, 9))
    return np.array([1 - np.square(X - model.inverse_transform(z)).sum() / total for z in first])


# -- schedules, clipping -----------------------------------------------------------------------


def test_training_settles_at_a_constant_rate_and_at_one_that_decays(blobs):
    """A linear net from a random start comes close to PCA: averaging takes the decay's place."""
    settings = dict(hidden_layer_sizes=(), init="random", early_stopping=False, random_state=0)
    settings = dict(settings, batch_size=20, max_iter=100, weight_decay=0.0)
    best = PCA(2).fit(blobs).explained_variance_ratio_.sum()
    gaps = [
        best - AutoencoderTransformer(2, learning_rate=rate, **settings).fit(blobs).score(blobs)
        for rate in (0.05, CosineDecay(0.05))
    ]

    assert min(gaps) >= 0
    assert max(gaps) < 1e-3


@pytest.mark.filterwarnings("ignore:. of 4 components are active:UserWarning")
def test_a_warmed_up_beta_ends_where_it_should(digits):
    """The weight of the divergence rises with the epochs and held-out rows see its end."""
    settings = dict(early_stopping=False, max_iter=10, random_state=0)
    warmed = VAETransformer(4, beta=LinearWarmup(0.5, end=50.0), **settings).fit(digits)
    heavy = VAETransformer(4, beta=50.0, **settings).fit(digits)

    assert warmed.loss_curve_[0] < heavy.loss_curve_[0]
    assert warmed.transform(digits).var() < 0.5


def test_gradients_are_cut(blobs):
    """Adam divides by the gradient's size, so a bound is felt where it is near Adam's epsilon."""
    settings = dict(max_iter=3, **QUICK)
    free = AutoencoderTransformer(2, **settings).fit(blobs)
    cut = AutoencoderTransformer(2, max_grad_norm=1e-9, **settings).fit(blobs)

    assert not np.allclose(free.loss_curve_, cut.loss_curve_, rtol=1e-6)
    with pytest.raises(ValueError, match="'max_grad_norm'"):
        AutoencoderTransformer(2, max_grad_norm=0).fit(blobs)


def test_dropout_may_fade_out(blobs):
    """Dropout on a schedule ends between that which stays and none; 1 is refused."""
    settings = dict(init="random", max_iter=40, **QUICK)
    curves = [
        AutoencoderTransformer(1, dropout=dropout, **settings).fit(blobs).loss_curve_
        for dropout in (0.0, LinearWarmup(0.5, end=0.0, start=0.5), 0.5)
    ]

    assert curves[1][0] == curves[2][0] != curves[0][0]
    assert curves[1][-1] < curves[2][-1]
    with pytest.raises(ValueError, match=r"range \[0, 1\), but LinearWarmup.* returned 1.0"):
        AutoencoderTransformer(1, dropout=LinearWarmup(), **settings).fit(blobs)


# -- densities ---------------------------------------------------------------------------------


@pytest.mark.parametrize("density", ["auto", GaussianMixture(3), KernelDensity(bandwidth=0.1)])
def test_draws_follow_the_latent_density(density):
    """Rows in three clusters are drawn in three clusters, not between them, by seed."""
    rng = np.random.default_rng(0)
    centers = np.array([[0, 0, 0], [10, 0, 5], [0, 10, -5]])
    X = centers[rng.integers(0, 3, 300)] + 0.1 * rng.normal(size=(300, 3))
    model = AutoencoderTransformer(2, latent_density=density, max_iter=0).fit(X)
    gaussian = AutoencoderTransformer(2, latent_density="gaussian", max_iter=0).fit(X)

    def distance(rows):
        return np.sqrt(np.square(rows[:, None] - centers).sum(2)).min(1)

    draws = model.sample(200, random_state=0)
    assert np.quantile(distance(draws), 0.95) < 1
    assert np.quantile(distance(gaussian.sample(200, random_state=0)), 0.5) > 1
    assert np.array_equal(draws, model.sample(200, random_state=0))
    assert not np.array_equal(draws, model.sample(200, random_state=1))


# -- all together ------------------------------------------------------------------------------


def test_slots_are_searched_by_name(blobs):
    """Parameters of the objects in slots are set by a grid search."""
    slots = dict(penalty=L1(), corruption=MaskingNoise())
    model = AutoencoderTransformer(2, init="random", max_iter=30, **slots, **QUICK)
    grid = {"penalty__weight": [0.0, 100.0], "corruption__fraction": [0.0, 0.5]}
    search = GridSearchCV(model, grid, cv=2).fit(blobs)

    assert search.best_params_["penalty__weight"] == 0.0
    assert search.best_estimator_.penalty.weight == 0.0


VARIANTS = [
    dict(loss="huber", corruption="swap"),
    dict(penalty="contractive", corruption=SwapNoise(0.1)),
    dict(code_activation="logistic", penalty=["kl_sparsity", "l2"], tied_weights=True),
    dict(code_activation=TopK(1), ordered=True),
    dict(whiten=True, learning_rate=CosineDecay(), max_grad_norm=1.0),
    dict(n_components=0.8),
    dict(loss="absolute_error", latent_density=KernelDensity()),
]


@pytest.mark.filterwarnings("ignore:n_components=0.8:UserWarning")
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_estimator_checks_of_variants(variant):
    """Every variant is a scikit-learn transformer, without exceptions."""
    settings = {"n_components": 2, "hidden_layer_sizes": (8,), "max_iter": 3, **variant}
    model = AutoencoderTransformer(early_stopping=True, **settings)
    check_estimator(model, on_skip=None)


def test_a_critic_takes_part_and_is_not_kept():
    """It changes training and leaves no weights behind; it needs rows and outputs in one unit."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, 1000)
    X = np.column_stack([np.cos(angles), np.sin(angles)]) @ rng.normal(size=(2, 6))
    settings = dict(init="random", max_iter=5, **QUICK)
    plain = AutoencoderTransformer(2, **settings).fit(X)
    model = AutoencoderTransformer(2, penalty="acai", **settings).fit(X)

    assert sorted(model._net.arrays) == sorted(plain._net.arrays)
    assert not np.allclose(model.loss_curve_, plain.loss_curve_)
    assert len(model.loss_curve_) == 5
    with pytest.raises(ValueError, match="needs a loss in the units of X"):
        AutoencoderTransformer(2, penalty="acai", loss="bernoulli").fit(np.clip(X, 0, 1))


class PerBatch(Term):
    """A term that returns a scalar by mistake."""

    def __call__(self, x, out):
        """Return one value for all rows."""
        return out.z.abs().mean()


class Halved(CodeActivation):
    """A code activation that loses half of the codes."""

    def __call__(self, z):
        """Return the first half."""
        return z[:, : z.shape[1] // 2]


BAD_SLOTS = [
    (dict(penalty=L1(-1.0)), r"'weight' parameter of L1 .*range \[0, inf\).*Got -1.0"),
    (dict(penalty=L1("a")), r"'weight' parameter of L1 .*Got 'a'"),
    (
        dict(penalty=PerBatch()),
        r"PerBatch must return one value .*shape \(\d+,\).*shape \(\)",
    ),
    (dict(penalty=L1(CosineDecay("a"))), r"'start' parameter of CosineDecay .*Got 'a'"),
    (dict(learning_rate=LinearWarmup(end=np.nan)), r"'end' parameter of LinearWarmup .*Got nan"),
    (dict(corruption=MaskingNoise), "a callable .* not a class"),
    (
        dict(corruption=lambda x, generator: x[:, :2]),
        r"shape \(\d+, 64\).*returned shape \(\d+, 2\)",
    ),
    (dict(corruption=lambda x, generator: None), r"shape \(\d+, 64\).*returned None"),
    (dict(corruption=lambda x, generator: x / 0), "corruption must return finite rows"),
    (dict(penalty=[["l1"]]), r"Got \['l1'\] in it"),
    (dict(penalty=KLDivergence()), "KLDivergence.* is not a penalty on the codes"),
    (dict(penalty="l2", loss=Gaussian()), "an instance of Loss that learns nothing"),
    (dict(penalty=Huber()), "Huber.* is not a penalty on the codes"),
    (dict(penalty=L2(LinearWarmup(end=-5.0))), r"LinearWarmup\(end=-5.0\) returned -"),
    (dict(learning_rate=CosineDecay(-1e-2)), r"CosineDecay\(start=-0.01\) returned -0.01 at"),
    (dict(code_activation=TopK(2.7)), r"'n_active' .* an int in the range \[1, inf\). Got 2.7"),
    (dict(code_activation=Halved()), r"encoder's shape \(\d+, 2\), but Halved\(\) .* \(\d+, 1\)"),
    (dict(latent_density=KernelDensity), "an estimator with fit and sample"),
    (dict(pretraining="greedy", init="random", hidden_layer_sizes=()), "with hidden layers"),
]


@pytest.mark.parametrize(
    ("variant", "message"), BAD_SLOTS, ids=lambda value: str(value).split(" at 0x")[0]
)
def test_what_does_not_fit_a_slot_is_named(digits, variant, message):
    """Numbers out of range and functions that return something else are errors of one sentence."""
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(2, **{"batch_size": 32, **QUICK, **variant}).fit(digits[:96])


# -- codes that vary by rounding only ----------------------------------------------------------


def _with_a_constant_code(n_in, n_out):
    """Return an encoder whose last code is the hyperbolic tangent of a tenth."""
    linear = torch.nn.Linear(n_in, n_out)
    with torch.no_grad():
        linear.weight[-1], linear.bias[-1] = 0, 0.1
    return torch.nn.Sequential(linear, torch.nn.Tanh())


@pytest.mark.parametrize("n_rows", [50, 200, 5000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_constant_code_is_zero(n_rows, dtype):
    """However many rows have it, and the other codes are as tidy as ever."""
    X = np.random.default_rng(0).normal(size=(n_rows, 5)).astype(dtype)
    networks = dict(encoder=_with_a_constant_code, decoder=torch.nn.Linear, whiten=True)
    model = AutoencoderTransformer(3, max_iter=0, random_state=0, **networks)
    codes = model.fit_transform(X).astype(float)
    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(codes.T), np.diag([1, 1, 0]), atol=1e-3)
    assert model.explained_variance_[2] == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_codes_beyond_the_rank_are_zero(dtype, seed):
    """Four codes behind a hidden layer of two units are two, also where rounding blurs them."""
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 2).astype(dtype)
    settings = dict(hidden_layer_sizes=(2,), activation="tanh", init="random", max_iter=5)
    model = AutoencoderTransformer(4, whiten=True, random_state=1, **settings)
    codes = model.fit_transform(X).astype(float)
    np.testing.assert_allclose(np.cov(codes.T), np.diag([1, 1, 0, 0]), atol=2e-2)
    assert not model.explained_variance_[2:].any()
