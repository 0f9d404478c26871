"""Exceptions of skae, and the warnings it shares with scikit-learn."""

from sklearn.exceptions import ConvergenceWarning, NotFittedError

__all__ = ["ConvergenceError", "ConvergenceWarning", "NotFittedError"]


class ConvergenceError(ValueError):
    """Training diverged, and restarts at smaller learning rates diverged as well.

    It is a ``ValueError``, as scikit-learn raises in this case, so that ``GridSearchCV`` turns it
    into its ``error_score``.
    """
