"""Objectives: the terms of what training minimises, one value per row, and what they act on."""

from ._corruptions import Corruption, GaussianNoise, MaskingNoise, SaltAndPepperNoise, SwapNoise
from ._divergences import KLDivergence
from ._losses import (
    AbsoluteError,
    BernoulliNegativeLogLikelihood,
    Commitment,
    GaussianNegativeLogLikelihood,
    Huber,
    Loss,
    PoissonNegativeLogLikelihood,
    SquaredError,
)
from ._objective import Objective, Term
from ._penalties import L1, L2, Contractive, KLSparsity
from ._schedules import CosineDecay, ExponentialDecay, LinearWarmup, Schedule

__all__ = [
    "L1",
    "L2",
    "AbsoluteError",
    "BernoulliNegativeLogLikelihood",
    "Commitment",
    "Contractive",
    "Corruption",
    "CosineDecay",
    "ExponentialDecay",
    "GaussianNegativeLogLikelihood",
    "GaussianNoise",
    "Huber",
    "KLDivergence",
    "KLSparsity",
    "LinearWarmup",
    "Loss",
    "MaskingNoise",
    "Objective",
    "PoissonNegativeLogLikelihood",
    "SaltAndPepperNoise",
    "Schedule",
    "SquaredError",
    "SwapNoise",
    "Term",
]
