"""Objectives: the terms of what training minimises, one value per row."""

from ._divergences import KLDivergence
from ._losses import Commitment, GaussianNegativeLogLikelihood, SquaredError
from ._objective import Objective, Term

__all__ = [
    "Commitment",
    "GaussianNegativeLogLikelihood",
    "KLDivergence",
    "Objective",
    "SquaredError",
    "Term",
]
