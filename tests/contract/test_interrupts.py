"""Interrupts and failures in the middle of a fit: the fit before it works on."""

import joblib
import pytest
import torch
from sklearn.base import clone

from skae._training.adam import ScheduleFreeAdam
from tests.contract.checks import CALM, assert_same, assert_unfitted, outputs

pytestmark = CALM


class Interruptible(torch.nn.Linear):
    """A linear map that raises `error` after so many calls, if there is one."""

    calls_left, error = 0, None

    def forward(self, x):
        """Count down, then raise."""
        if Interruptible.error is not None:
            Interruptible.calls_left -= 1
            if Interruptible.calls_left < 0:
                raise Interruptible.error
        return super().forward(x)


@pytest.mark.parametrize("calls", [0, 1, 2, 12])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("method", ["fit", "partial_fit", "warm_start"])
def test_interrupted_refit(model, blobs, monkeypatch, method, error, calls):
    """An interrupt is passed on at once; the fit before it works on, bit for bit."""
    calls = min(calls, 5) if method == "partial_fit" else calls
    model.set_params(encoder=Interruptible, batch_size=32).fit(blobs)
    before, expected = joblib.hash(model), outputs(model, blobs)
    monkeypatch.setattr(Interruptible, "error", error("stop"))
    monkeypatch.setattr(Interruptible, "calls_left", calls)
    model.set_params(warm_start=method == "warm_start")
    with pytest.raises(error, match="stop"):
        (model.partial_fit if method == "partial_fit" else model.fit)(-blobs)
    monkeypatch.setattr(Interruptible, "error", None)
    model.set_params(warm_start=False)
    assert joblib.hash(model) == before
    assert_same(outputs(model, blobs), expected)


def test_interrupted_step(model, blobs, monkeypatch):
    """An interrupt within a built-in network's training leaves no first fit, or the old one."""
    model.set_params(batch_size=32)
    fresh, steps = clone(model), []
    before = joblib.hash(model.fit(blobs))
    take = ScheduleFreeAdam.__call__

    def interrupted(self, *arguments, **options):
        steps.append(1)
        if len(steps) % 4 == 0:
            raise KeyboardInterrupt
        return take(self, *arguments, **options)

    monkeypatch.setattr(ScheduleFreeAdam, "__call__", interrupted)
    for estimator in (fresh, model):
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(-blobs)
    assert_unfitted(fresh)
    assert joblib.hash(model) == before
