"""State: taken over whole or not at all, pickled as plain NumPy with the version that wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from .._runtime.modes import own_modes
from .._runtime.threads import OneThread
from .._runtime.warnings import warn
from .._version import __version__

_STAMP = "_skae_version"


class GuardedState(BaseEstimator):
    """An estimator that is never half-fitted, and whose pickles say which skae wrote them.

    What torch needs is rebuilt when it is used (`FittedNet`), so that the state is NumPy arrays
    and plain values.
    """

    @contextmanager
    def _draft(self) -> Iterator[Self]:
        """Yield a copy to fit, whose state this estimator takes over if nothing is raised."""
        draft = type(self).__new__(type(self))
        draft.__dict__.update(self.__dict__)
        with own_modes(gradients=True), OneThread():  # large work asks for more: `threads_for`
            yield draft
        self.__dict__ = draft.__dict__

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), _STAMP: __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        written = state.pop(_STAMP, "unknown")
        if written != __version__:
            warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=f"skae {__version__}",
                    original_sklearn_version=f"skae {written}",
                ),
            )
        super().__setstate__(state)
