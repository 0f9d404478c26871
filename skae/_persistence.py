"""What pickle keeps and drops: plain NumPy state, stamped with the version that wrote it."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

_STAMP = "_skae_version"


class VersionedState(BaseEstimator):
    """An estimator whose pickles say which skae wrote them.

    What torch needs is rebuilt when it is used (`FittedNet`), so that the state is NumPy arrays
    and plain values.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), _STAMP: version("skae")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        written, current = state.pop(_STAMP, "unknown"), version("skae")
        if written != current:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=f"skae {current}",
                    original_sklearn_version=f"skae {written}",
                ),
                stacklevel=2,
            )
        super().__setstate__(state)
