"""The life of an estimator: any order of calls keeps the contract.

After each call results are finite and repeatable, shapes agree with the attributes, parameters
are as they were set, and a call that fails leaves everything as it was.
"""

import pickle

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sklearn.base import clone

from .estimators import (
    ESTIMATORS,
    assert_finite,
    assert_same,
    expected_warnings,
    is_fitted,
    results,
    small,
)

N_FEATURES = 4
ROWS = np.random.default_rng(0).normal([0, 3, -2, 0.5], [2, 1, 0.5, 3], (60, N_FEATURES))
PROBES = ROWS[:7] + 0.1
# Each holds values that a fitted network can take up, and one that it cannot.
HARMLESS = {
    "learning_rate": [1e-3, 1e-2],
    "max_iter": [0, 1, 2],
    "batch_size": ["auto", 8],
    "weight_decay": [0.0, 0.1],
    "early_stopping": ["auto", True, False],
}
FROZEN = {"n_components": [1, 2, None], "activation": ["relu", "tanh"], "scale": ["global", None]}
WRONG = {"learning_rate": -1.0, "max_iter": 1.5, "activation": "none", "batch_size": 0}


class Life(RuleBasedStateMachine):
    """One estimator, what it was fitted with, and what it must still compute."""

    @initialize(kind=st.sampled_from(ESTIMATORS), n_components=st.sampled_from([1, 2, None]))
    def make(self, kind, n_components):
        """Begin with an estimator that is not fitted."""
        self.model = small(kind, n_components, early_stopping=True)
        self.frozen = None
        self.n_samples, self.n_epochs = 0, 0

    # -- calls ---------------------------------------------------------------------------------

    @rule(name_and_value=st.sampled_from([(k, v) for k, vs in HARMLESS.items() for v in vs]))
    def set_harmless(self, name_and_value):
        """Set a parameter that concerns training only."""
        self.set(*name_and_value)

    @rule(name_and_value=st.sampled_from([(k, v) for k, vs in FROZEN.items() for v in vs]))
    def set_frozen(self, name_and_value):
        """Set a parameter that the network is made from."""
        self.set(*name_and_value)

    @rule(warm=st.booleans())
    def set_warm_start(self, warm):
        """Let fits go on, or begin anew."""
        self.set("warm_start", warm)

    def set(self, name, value):
        """Set a parameter; what was learned stays."""
        before = self.seen()
        self.model.set_params(**{name: value})
        assert self.model.get_params()[name] == value
        self.assert_unchanged(before)

    @rule(n_rows=st.integers(5, len(ROWS)))
    def fit(self, n_rows):
        """Fit to some rows; a network cannot change what it was made from."""
        goes_on = self.model.warm_start and is_fitted(self.model)
        if goes_on and self.wants_another_network():
            self.assert_refused(lambda: self.model.fit(ROWS[:n_rows]), "cannot go on")
            return
        with expected_warnings():
            assert self.model.fit(ROWS[:n_rows]) is self.model
        assert 0 <= self.model.n_iter_ <= self.model.max_iter
        assert self.model.n_samples_ == n_rows
        self.was_fitted(n_rows, self.model.n_iter_)

    @rule(start=st.integers(0, 40), n_rows=st.integers(5, 20))
    def partial_fit(self, start, n_rows):
        """Go on with some rows, whatever came before."""
        if is_fitted(self.model) and self.wants_another_network():
            call = lambda: self.model.partial_fit(ROWS[start : start + n_rows])  # noqa: E731
            self.assert_refused(call, "cannot go on")
            return
        with expected_warnings():
            assert self.model.partial_fit(ROWS[start : start + n_rows]) is self.model
        assert self.model.n_samples_ == self.n_samples + n_rows
        n_epochs = max(1, n_rows // 6) if self.model._is_streamed else 1
        assert self.model.n_iter_ == self.n_epochs + (n_epochs if self.model.max_iter else 0)
        self.was_fitted(self.model.n_samples_, self.model.n_iter_)

    @rule(streamed=st.booleans(), bad=st.sampled_from(["nan", "text", "width", "one dimension"]))
    def fail_on_rows(self, streamed, bad):
        """Rows that are refused leave everything as it was."""
        rows = {
            "nan": np.where(np.arange(N_FEATURES) == 2, np.nan, ROWS),
            "text": [["a"] * N_FEATURES] * 9,
            "width": np.ones((9, 0)),
            "one dimension": ROWS[:, 0],
        }[bad]
        call = self.model.partial_fit if streamed else self.model.fit
        self.assert_refused(lambda: call(rows))

    @rule(name=st.sampled_from(sorted(WRONG)), streamed=st.booleans())
    def fail_on_a_parameter(self, name, streamed):
        """So do parameters that are refused."""
        before = self.model.get_params()[name]
        self.model.set_params(**{name: WRONG[name]})
        call = self.model.partial_fit if streamed else self.model.fit
        self.assert_refused(lambda: call(ROWS), name)
        self.model.set_params(**{name: before})

    @rule(new=st.booleans())
    def copy(self, new):
        """Go on as a copy: a pickle is the same to the last bit, a clone knows nothing."""
        before, parameters = self.seen(), repr(self.model)
        if new:
            self.model = clone(self.model)
            assert not is_fitted(self.model)
            self.frozen, self.n_samples, self.n_epochs = None, 0, 0
        else:
            self.model = pickle.loads(pickle.dumps(self.model))
            self.assert_unchanged(before)
        assert repr(self.model) == parameters

    @precondition(lambda self: not self.model.warm_start)
    @rule()
    def fit_twice(self):
        """A fit anew does not depend on what came before it."""
        with expected_warnings():
            self.model.fit(ROWS)
            expected = results(clone(self.model).fit(ROWS), PROBES)
        assert_same(results(self.model, PROBES), expected)
        self.was_fitted(len(ROWS), self.model.n_iter_)

    # -- what holds ----------------------------------------------------------------------------

    @invariant()
    def results_are_in_order(self):
        """Results are finite, repeat themselves, and have the shapes that attributes say."""
        assert is_fitted(self.model) == (self.frozen is not None)
        if self.frozen is None:
            return
        found = self.seen()
        assert_finite(found)
        self.assert_unchanged(found)
        k = self.model.n_components_
        assert found["transform"].shape == (len(PROBES), k)
        assert found["inverse_transform"].shape == (len(PROBES), N_FEATURES)
        assert found["sample"].shape == (3, N_FEATURES)
        assert len(self.model.get_feature_names_out()) == k
        assert self.model.n_features_in_ == N_FEATURES
        assert len(self.model.loss_curve_) == self.model.n_iter_

    def was_fitted(self, n_samples, n_epochs):
        """Remember what the network was made from and has seen."""
        self.n_samples, self.n_epochs = n_samples, n_epochs
        self.frozen = {name: getattr(self.model, name) for name in FROZEN}

    def wants_another_network(self):
        """Return whether a parameter differs from what the network was made from."""
        return any(getattr(self.model, name) != value for name, value in self.frozen.items())

    def seen(self):
        """Return all results, or nothing where there is no network yet."""
        return results(self.model, PROBES) if is_fitted(self.model) else {}

    def assert_unchanged(self, before):
        """Assert that results are what they were, to the last bit."""
        assert_same(self.seen(), before)

    def assert_refused(self, call, words="."):
        """Assert that a call raises an error that says so, and changes nothing."""
        before, attributes = self.seen(), sorted(vars(self.model))
        with pytest.raises(ValueError, match=words):
            call()
        assert sorted(vars(self.model)) == attributes
        self.assert_unchanged(before)


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=max(5, settings.default.max_examples // 2), stateful_step_count=12
)
