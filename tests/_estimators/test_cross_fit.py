"""Tests of small tables, which are cross-fitted: what folds see, what they decide, what is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae._estimators import cross_fit, fitting
from skae._estimators.autoencoder import AutoencoderTransformer as Fitted
from skae._training.validation import BestState
from skae.exceptions import ConvergenceError

ENDS_EARLY = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SMALL = dict(hidden_layer_sizes=(8,), max_iter=4, random_state=0)


def curve(n_rows, seed=0, noise=0.05):
    """Return rows around a curve in four dimensions, which a line explains badly."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(-1, 1, n_rows)
    X = np.column_stack([t, 2 * t**2, np.sin(3 * t), np.cos(2 * t)])
    return X + noise * rng.normal(size=X.shape)


def gaussian(n_rows, seed, n_features=6):
    """Return rows of two linear factors and noise."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, n_features))
    return factors + 0.5 * rng.normal(size=(n_rows, n_features))


def assert_starts_alike(model, other):
    """Assert that two networks are one linear map, bit for bit, without hidden layers' part."""
    one, other = model._net.make_core(), other._net.make_core()
    for name in ("encoder", "decoder"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert torch.equal(mine.linear.weight, theirs.linear.weight)
        assert torch.equal(mine.linear.bias, theirs.linear.bias)
        assert not any(p.any() for p in mine.linears()[-1].parameters())


class Watch:
    """What is handed to the loop in a fit, and what a fit does with folds, noted as it goes."""

    def __init__(self, monkeypatch):
        self.folds, self.trained, self.starts, self.weights = None, [], [], []
        self.networks, self.best, self.states = None, None, []
        train, fit_as_folds_say = fitting.train, fitting.Fitting._fit_as_folds_say
        note_gain, begin = Fitted._note_gain, fitting.Fitting._begin

        def noted_train(runs, plan, **how):
            self.trained.append((runs, plan))
            self.starts.append([run.step.weights.clone() for run in runs])
            self.weights.append(weights := [[] for _ in runs])

            def noted(run, seen):
                def after_epoch():
                    run.after_epoch()
                    seen.append(run.step.weights.clone())

                return replace(run, after_epoch=after_epoch)

            runs = [noted(run, seen) for run, seen in zip(runs, weights, strict=True)]
            return train(runs, plan, **how)

        def noted_folds(model, X, folds, generator):
            self.folds = folds
            return fit_as_folds_say(model, X, folds, generator)

        def noted_gain(model, networks, best):
            self.networks, self.best = networks, best
            return note_gain(model, networks, best)

        def noted_begin(model, X, training, generator, **how):
            self.states.append(generator.get_state())
            return begin(model, X, training, generator, **how)

        monkeypatch.setattr(fitting, "train", noted_train)
        monkeypatch.setattr(fitting.Fitting, "_fit_as_folds_say", noted_folds)
        monkeypatch.setattr(fitting.Fitting, "_begin", noted_begin)
        monkeypatch.setattr(Fitted, "_note_gain", noted_gain)


@pytest.fixture
def watch(monkeypatch):
    """Return notes of the fits of a test."""
    return Watch(monkeypatch)


# -- folds -------------------------------------------------------------------------------------


@ENDS_EARLY
@pytest.mark.parametrize(
    ("n_rows", "n_folds"), [(10, 5), (83, 5), (499, 5), (500, 3), (999, 3), (1000, 2), (1999, 2)]
)
def test_folds_hold_out_a_fifth_each(n_rows, n_folds, watch):
    """No row twice, with five folds each once; the networks are trained on all others."""
    X, each = curve(n_rows), -(-n_rows // 5)
    AutoencoderTransformer(1, **SMALL | dict(max_iter=1, batch_size=500)).fit(X)
    held_out = np.concatenate(watch.folds)

    assert len(watch.folds) == n_folds
    assert len(np.unique(held_out)) == len(held_out)
    assert n_folds < 5 or sorted(held_out) == list(range(n_rows))
    for fold, network, run in zip(watch.folds, watch.networks, watch.trained[0][0], strict=True):
        assert each - 1 <= len(fold) <= each
        np.testing.assert_array_equal(network.held_out, X[fold])
        assert run.rows.n_rows == n_rows - len(fold)
        mean = np.delete(X, fold, axis=0).mean(0)
        np.testing.assert_allclose(network.trainer.scaling.mean, mean, rtol=1e-12)


@ENDS_EARLY
@pytest.mark.parametrize("n_rows", [9, 2000])
def test_other_tables_have_no_folds(n_rows, watch):
    """Too few rows keep the start; many are held out once."""
    AutoencoderTransformer(1, **SMALL | dict(max_iter=1, batch_size=500)).fit(curve(n_rows))
    assert watch.folds is None
    ((runs, _),) = watch.trained
    assert [run.held_out and run.held_out.n_rows for run in runs] == [200 if n_rows > 9 else None]


@ENDS_EARLY
@pytest.mark.parametrize(
    "how", [dict(early_stopping=True), dict(early_stopping=False), dict(n_components=0.5)]
)
def test_only_a_number_of_components_without_other_wishes_is_cross_fitted(how, watch):
    """A score to reach needs rows that decide about codes; True and False are taken by word."""
    AutoencoderTransformer(**{"n_components": 1, **SMALL, **how}).fit(curve(60))
    assert watch.folds is None


@ENDS_EARLY
def test_held_out_rows_of_the_caller_s_take_the_place_of_folds(watch):
    """And a fit that goes on has no folds either: the network knows all rows."""
    X = curve(60)
    model = AutoencoderTransformer(1, **SMALL, warm_start=True).fit(X, X_val=curve(30, 1))
    assert watch.folds is None
    model.fit(X)
    assert watch.folds is None


@ENDS_EARLY
@pytest.mark.parametrize(("k", "is_cross_fitted"), [(16, True), (17, False)])
def test_components_that_the_other_rows_do_not_have(k, is_cross_fitted, watch):
    """With more components than a fold's network has rows, rows are held out once."""
    X = np.random.default_rng(0).normal(size=(20, 40))
    model = AutoencoderTransformer(k, **SMALL).fit(X)
    assert (watch.folds is not None) == is_cross_fitted
    assert len(watch.trained[0][0]) == (5 if is_cross_fitted else 1)
    assert model.transform(X).shape == (20, k)


@ENDS_EARLY
@pytest.mark.parametrize("kind", [AutoencoderTransformer, VAETransformer])
@pytest.mark.parametrize("n_features", [4, 1100])
def test_a_fold_s_network_knows_nothing_of_its_held_out_rows(kind, n_features, watch):
    """With garbage in their place it starts and trains as before, to the last bit."""
    X = curve(60) @ np.random.default_rng(1).normal(size=(4, n_features))
    kind(1, **SMALL).fit(X)
    fold = watch.folds[0]
    garbage = X.copy()
    garbage[fold] = 100 * np.random.default_rng(2).normal(size=(len(fold), n_features))
    kind(1, **SMALL).fit(garbage)
    cross_fits = [i for i, (runs, _) in enumerate(watch.trained) if len(runs) == 5]
    first, second = cross_fits

    np.testing.assert_array_equal(watch.folds[0], fold)
    assert torch.equal(watch.starts[first][0], watch.starts[second][0])
    assert not torch.equal(watch.starts[first][1], watch.starts[second][1])
    for one, other in zip(watch.weights[first][0], watch.weights[second][0], strict=True):
        assert torch.equal(one, other)


# -- what is kept ------------------------------------------------------------------------------


@ENDS_EARLY
@pytest.mark.filterwarnings("ignore:codebook_size=:UserWarning")
@pytest.mark.parametrize("kind", [AutoencoderTransformer, VAETransformer, VQVAETransformer])
@pytest.mark.parametrize("init", ["pca", "random"])
def test_what_is_kept_is_a_fit_of_all_rows_to_the_best_epoch(kind, init, watch, monkeypatch):
    """It is that of ``early_stopping=False`` with as many epochs, from the same random numbers."""
    monkeypatch.setattr(cross_fit, "count_starts", lambda *shape: 1)
    X, settings = curve(80), SMALL | dict(max_iter=12, init=init)
    if kind is VQVAETransformer:
        settings |= dict(codebook_size=8, n_codes=1)
    model = kind(1, **settings).fit(X)
    n_epochs, state = len(watch.weights[-1][0]), watch.states[-1]
    begin = fitting.Fitting._begin

    def begin_alike(model, X, training, generator, **how):
        generator.set_state(state)
        return begin(model, X, training, generator, **how)

    monkeypatch.setattr(fitting.Fitting, "_begin", begin_alike)
    alone = kind(1, **settings | dict(max_iter=n_epochs, early_stopping=False)).fit(X)

    assert n_epochs > 0 or init == "pca"
    np.testing.assert_array_equal(model.transform(X), alone.transform(X))
    np.testing.assert_array_equal(model.score_samples(X), alone.score_samples(X))


@ENDS_EARLY
def test_of_several_starts_the_smallest_training_loss_is_kept(monkeypatch):
    """A small table is trained as a whole three times, and the best of these is the model."""
    losses, train_all = [], fitting.Fitting._train_all

    def noted(model, *arguments, **how):
        history = train_all(model, *arguments, **how)
        losses.append(history.best.choose().loss)
        return history

    monkeypatch.setattr(fitting.Fitting, "_train_all", noted)
    X = curve(80)
    model = AutoencoderTransformer(1, **SMALL | dict(max_iter=12)).fit(X)
    kept = -model.score_samples(X).mean() / model._net.scaling.unit**2

    assert len(losses) == 3
    assert len(set(losses)) == 3
    assert kept == pytest.approx(min(losses), rel=1e-4)


@ENDS_EARLY
@pytest.mark.parametrize(("wanted", "n_starts"), [(-np.inf, 3), (np.inf, 6)])
def test_networks_that_are_stuck_get_more_starts(wanted, n_starts, monkeypatch):
    """As many again where the training rows gain less than the folds' held-out rows did."""
    started, train_all, on_all = [], fitting.Fitting._train_all, fitting.train_on_all

    def noted(model, *arguments, **how):
        started.append(model)
        return train_all(model, *arguments, **how)

    def with_wish(model, X, n_epochs, gained, generator):
        return on_all(model, X, n_epochs, wanted, generator)

    monkeypatch.setattr(fitting.Fitting, "_train_all", noted)
    monkeypatch.setattr(fitting, "train_on_all", with_wish)
    AutoencoderTransformer(1, **SMALL | dict(max_iter=12)).fit(curve(80))

    assert len(started) == n_starts


@ENDS_EARLY
@pytest.mark.parametrize("n_failures", [2, 3])
def test_starts_that_diverge_are_passed_over(n_failures, monkeypatch):
    """Training fails only if all starts do."""
    train_all, failures = fitting.Fitting._train_all, iter(range(n_failures))

    def failing(model, *arguments, **how):
        if next(failures, None) is not None:
            raise ConvergenceError("diverged")
        return train_all(model, *arguments, **how)

    monkeypatch.setattr(fitting.Fitting, "_train_all", failing)
    monkeypatch.setattr(
        cross_fit, "count_starts", lambda *shape: n_failures if n_failures < 3 else 1
    )
    model = AutoencoderTransformer(1, **SMALL | dict(max_iter=12))
    if n_failures < 3:
        assert np.isfinite(model.fit(curve(80)).transform(curve(80))).all()
    else:
        with pytest.raises(ConvergenceError, match="diverged"):
            model.fit(curve(80))


@ENDS_EARLY
def test_a_gain_is_forgotten_when_training_goes_on():
    """It described the network as `fit` left it."""
    model = AutoencoderTransformer(1, **SMALL, early_stopping=True).fit(curve(80))
    assert hasattr(model, "gain_over_pca_")
    assert not hasattr(model.partial_fit(curve(80)), "gain_over_pca_")


@ENDS_EARLY
def test_curves_and_the_best_loss_are_those_of_the_folds(watch):
    """Each held-out row counts once, and the epochs of the last fit are the best one's number."""
    model = AutoencoderTransformer(1, **SMALL | dict(max_iter=30)).fit(curve(80))
    best = watch.best.choose()

    assert model.n_iter_ == len(model.loss_curve_) == len(model.validation_loss_curve_)
    assert all(len(weights) == model.n_iter_ for weights in watch.weights[0])
    assert model.best_loss_ == min(model.validation_loss_curve_) == best.loss
    assert 1 + int(np.argmin(model.validation_loss_curve_)) == best.n_epochs
    assert len(watch.weights[1][0]) == best.n_epochs
    assert len(best.losses) == 80


@ENDS_EARLY
def test_a_start_that_wins_on_all_rows_is_what_is_described(watch, monkeypatch):
    """Then nothing is gained, whatever the folds said, and the loss is the start's."""
    choose = BestState.choose
    X = curve(80)

    def start_of_all(best):
        return choose(best) if best.plan.stops_training else best.start

    monkeypatch.setattr(BestState, "choose", start_of_all)
    model = AutoencoderTransformer(1, **SMALL | dict(max_iter=30)).fit(X)
    pca = AutoencoderTransformer(1, **SMALL | dict(max_iter=0)).fit(X)

    assert len(watch.weights[1][0]) > 0
    assert model.best_loss_ == watch.best.start.loss > min(model.validation_loss_curve_)
    assert model.gain_over_pca_ == 0.0
    assert_starts_alike(model, pca)


@ENDS_EARLY
def test_tables_without_curvature_keep_pca():
    """Of eight tables nearly all keep its network, bit for bit, and say that nothing was gained."""
    kept = []
    for seed in range(8):
        X = gaussian(100, seed)
        model = AutoencoderTransformer(2, max_iter=20, random_state=seed).fit(X)
        pca = AutoencoderTransformer(2, max_iter=0).fit(X)
        kept.append(model.gain_over_pca_ == 0.0)
        if kept[-1]:
            assert_starts_alike(model, pca)
            np.testing.assert_allclose(model.transform(X), PCA(2).fit_transform(X), atol=1e-5)
    assert sum(kept) >= 7


@ENDS_EARLY
def test_of_noise_no_more_is_learned_than_fresh_rows_show():
    """A curved surface explains more of round noise than a plane: it is that, or PCA, but not less.

    A plane explains a third, and the best of 300 rows a little more of these.
    """
    fresh, gains = np.random.default_rng(99).normal(size=(4000, 6)), []
    for seed in range(4):
        X = np.random.default_rng(seed).normal(size=(300, 6))
        model = AutoencoderTransformer(2, max_iter=30, random_state=seed).fit(X)
        pca = AutoencoderTransformer(2, max_iter=0).fit(X)
        gains.append([model.gain_over_pca_, model.score(fresh) - pca.score(fresh)])
    estimated, true = np.transpose(gains)
    assert true.min() > -0.01
    assert estimated.mean() < true.mean() + 0.02


@ENDS_EARLY
def test_the_gain_is_what_fresh_rows_show():
    """On average over tables it is the score of new rows minus PCA's, within its own noise.

    Each fold's network has four fifths of the rows, so that it may gain a little less.
    """
    fresh, estimated, true = curve(4000, seed=99, noise=0.1), [], []
    for seed in range(6):
        X = curve(100, seed, noise=0.1)
        settings = dict(hidden_layer_sizes=(16,), max_iter=150, random_state=seed)
        model = AutoencoderTransformer(1, **settings).fit(X)
        pca = AutoencoderTransformer(1, max_iter=0).fit(X)
        estimated.append(model.gain_over_pca_)
        true.append(model.score(fresh) - pca.score(fresh))
    error = np.subtract(estimated, true)
    noise = np.std(error, ddof=1) / len(error) ** 0.5

    assert np.mean(true) > 0.2
    assert abs(error.mean()) < 3 * noise + 0.1 * np.mean(true)
    assert noise < 0.1 * np.mean(true)


@ENDS_EARLY
def test_the_gain_of_folds_is_of_rows_that_did_not_choose_the_epoch(watch):
    """It is put together from each fold's errors at the epoch that the other folds choose."""
    X = curve(83)
    model = AutoencoderTransformer(1, **SMALL | dict(max_iter=30)).fit(X)
    before = now = total = 0.0
    for i, (fold, network) in enumerate(zip(watch.folds, watch.networks, strict=True)):
        for state in (watch.best.start, watch.best.chosen_without(i)):
            network.trainer.step.restore(state.snapshot[i])
            net = network.trainer.fitted_net()
            error = net.squared_errors(X[fold], torch.device("cpu")).sum()
            before, now = (error + before, now) if state.n_epochs == 0 else (before, error + now)
        total += np.square(X[fold] - np.delete(X, fold, axis=0).mean(0)).sum()
    assert model.gain_over_pca_ == pytest.approx((before - now) / total, rel=1e-9)


# -- in use ------------------------------------------------------------------------------------


@ENDS_EARLY
@pytest.mark.parametrize("n_features", [4, 1100])
def test_sparse_tables_are_cross_fitted_like_dense_ones(n_features):
    """To rounding, after few epochs."""
    X = np.maximum(curve(60) @ np.random.default_rng(1).normal(size=(4, n_features)), 0)
    dense = AutoencoderTransformer(1, **SMALL).fit(X)
    sparse = AutoencoderTransformer(1, **SMALL).fit(csr_array(X))
    largest = np.abs(dense.transform(X)).max()
    curves = dense.validation_loss_curve_, sparse.validation_loss_curve_
    np.testing.assert_allclose(*curves, rtol=1e-4)
    np.testing.assert_allclose(sparse.transform(X), dense.transform(X), atol=1e-3 * largest)


@ENDS_EARLY
def test_the_same_seed_gives_the_same_bits():
    """Folds included."""
    X = curve(60)
    one, other = (AutoencoderTransformer(1, **SMALL).fit(X) for _ in range(2))
    np.testing.assert_array_equal(one.transform(X), other.transform(X))
    assert one.validation_loss_curve_ == other.validation_loss_curve_


@ENDS_EARLY
def test_a_search_over_processes_is_the_search_in_one():
    """Scores of a grid agree to the last bit; workers share a process or have their own."""
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer(1, **SMALL))
    grid = {"autoencodertransformer__n_components": [1, 2]}
    scores = [
        GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs).fit(curve(60)).cv_results_
        for n_jobs in (None, 2)
    ]
    np.testing.assert_array_equal(*(each["mean_test_score"] for each in scores))
