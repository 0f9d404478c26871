"""Tests of the small services: defaults, randomness, devices, threads, sampling."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from skae._latent.density import draw_gaussian, fit_gaussian, whitened_normals
from skae._runtime.device import resolve_device
from skae._runtime.isolation import seed_alike
from skae._runtime.modes import flushed_denormals, own_modes
from skae._runtime.random import make_generator
from skae._runtime.threads import threads_for
from skae._training.defaults import count_held_out, hidden_widths, rows_per_batch


@pytest.mark.parametrize(
    ("n_features", "widths"), [(1, [64, 32]), (64, [128, 64]), (784, [512, 256])]
)
def test_auto_widths_grow_with_the_row(n_features, widths):
    """They are powers of two between 32 and 512; given ones are taken as they are."""
    assert hidden_widths("auto", n_features) == widths
    assert hidden_widths((7, 5), n_features) == [7, 5]


@pytest.mark.parametrize(
    ("n_samples", "rows"), [(1, 64), (1797, 64), (60_000, 256), (300_000, 512)]
)
def test_auto_batches_grow_with_the_data(n_samples, rows):
    """About two hundred steps an epoch, between 64 and 512 rows each."""
    assert rows_per_batch("auto", n_samples) == rows
    assert rows_per_batch(7, n_samples) == 7


@pytest.mark.parametrize(
    ("early_stopping", "n_samples", "expected"),
    [("auto", 9, 0), ("auto", 10, 5), ("auto", 1000, 100), (True, 20, 2), (False, 1000, 0)],
)
def test_held_out_rows(early_stopping, n_samples, expected):
    """ "auto" wants at least five of ten or more; True takes the fraction; False none."""
    assert count_held_out(early_stopping, 0.1, n_samples) == expected


def test_a_large_fraction_is_held_out_all_the_same():
    """More than half may be held out, but never all."""
    assert count_held_out("auto", 0.7, 100) == 70
    assert count_held_out("auto", 0.999, 100) == 99


def test_held_out_rows_must_leave_some():
    """One row cannot be split."""
    with pytest.raises(ValueError, match="n_samples=1 "):
        count_held_out(True, 0.1, 1)


def test_generators_follow_scikit_learn():
    """Ints repeat, RandomState advances, None follows NumPy's global generator."""

    def first(random_state):
        return float(torch.rand((), generator=make_generator(random_state)))

    state = np.random.RandomState(0)
    assert first(3) == first(3)
    assert first(state) != first(state)
    shared = np.random.mtrand._rand
    before = shared.get_state()
    drawn = first(None)
    shared.set_state(before)
    assert first(None) == drawn
    with pytest.raises(ValueError, match="cannot be used to seed"):
        make_generator("seed")


@pytest.mark.parametrize("k", [1, 5, 32, 100, 128, 300])
def test_scoring_points_have_exact_moments(k):
    """Mean zero and identity covariance to rounding, so quadratic functions average exactly."""
    points = whitened_normals(64, k)

    assert len(points) == max(64, 2 * k)
    torch.testing.assert_close(points.mean(0), torch.zeros(k, dtype=torch.float64))
    torch.testing.assert_close(
        points.T @ points / len(points), torch.eye(k, dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_devices_are_resolved_or_refused_in_words():
    """The CPU is always there; what is not a device says what to use."""
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("toaster", "mps", "meta", "cuda:99"):
        with pytest.raises(ValueError, match=f"device='{name}' cannot be used"):
            resolve_device(name)


@pytest.mark.parametrize(("name", "seeded"), [("cuda", 1), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_device_without_a_number_is_the_current_one(name, seeded, monkeypatch):
    """The generator is seeded that networks there draw from; two devices are played here."""
    generators = [torch.Generator() for _ in range(2)]
    before = [generator.initial_seed() for generator in generators]
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    state = torch.get_rng_state()
    seed_alike(torch.device(name))
    torch.set_rng_state(state)
    before[seeded] = 0
    assert [generator.initial_seed() for generator in generators] == before


@pytest.mark.usefixtures("two_threads")
def test_small_work_runs_on_one_thread_of_the_calling_thread_only():
    """Inside the block this thread has one, another thread keeps its own, and all is restored."""
    before, elsewhere = torch.get_num_threads(), []
    with threads_for(10):
        inside = torch.get_num_threads()
        thread = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    with threads_for(10**12):
        large = torch.get_num_threads()

    assert (inside, large, torch.get_num_threads()) == (1, before, before)
    assert elsewhere == [before]


def test_one_thread_holds_for_products_after_the_caller_set_a_number():
    """MKL heeds no limit of OpenMP once torch.set_num_threads was called, but its own."""
    code = """
import time, torch
from skae._runtime.threads import OneThread
torch.set_num_threads(2)
x = torch.randn(1500, 1500)
x @ x
def cores():
    start = time.perf_counter(), time.process_time()
    for _ in range(5):
        x @ x
    return (time.process_time() - start[1]) / (time.perf_counter() - start[0])
with OneThread():
    inside = cores()
assert inside < 1.3, inside
assert torch.get_num_threads() == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_denormals_are_flushed_in_a_block_and_the_mode_is_put_back():
    """Half of the smallest number is zero inside, whatever the caller's mode, which stays."""
    smallest = torch.tensor(torch.finfo(torch.float32).tiny)
    for callers in (False, True):
        torch.set_flush_denormal(callers)
        try:
            with flushed_denormals():
                assert smallest / 2 == 0
            assert bool(smallest / 2 == 0) == callers
        finally:
            torch.set_flush_denormal(False)


def test_the_front_door_opens_without_torch():
    """Importing skae imports neither torch nor scikit-learn; no fit imports torch's compiler."""
    code = """
import sys, warnings
import skae
assert not {"torch", "sklearn", "numpy"} & set(sys.modules)
assert "AutoencoderTransformer" in dir(skae) and "metrics" in dir(skae)
import numpy as np
warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(60, 4))
for name in skae.__all__:
    getattr(skae, name)(2, max_iter=2).fit(X).transform(X)
assert not {"torch._dynamo", "sympy"} & set(sys.modules)
assert skae.metrics.explained_variance_scorer
try:
    skae.PCA
except AttributeError as error:
    assert "module 'skae' has no attribute 'PCA'" in str(error)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_own_modes_shields_and_restores():
    """Inside, gradients are as asked and autocast is off; outside, all is as it was."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        with own_modes(gradients=True):
            product = torch.ones(2, 2, requires_grad=True) @ torch.ones(2, 2)
            assert product.requires_grad
            assert product.dtype == torch.float32
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")


def test_gaussian_draws_have_the_fitted_moments():
    """Mean and covariance come back, for a singular covariance too."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(5000, 2)) @ [[1.0, 2.0, 0.0], [0.0, 1.0, 0.0]] + [1.0, 2.0, 3.0]
    mean, covariance = fit_gaussian(codes)
    drawn = draw_gaussian(200_000, mean, covariance, make_generator(0))

    np.testing.assert_allclose(covariance, np.cov(codes.T, bias=True), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.05)
    assert np.ptp(drawn[:, 2]) < 1e-6
