"""Objectives: the terms of what training minimises, one value per row, and what they act on."""

from ._adversarial import ACAI
from ._code_activations import CodeActivation, Identity, Logistic, TopK
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
    "ACAI",
    "L1",
    "L2",
    "AbsoluteError",
    "BernoulliNegativeLogLikelihood",
    "CodeActivation",
    "Commitment",
    "Contractive",
    "Corruption",
    "CosineDecay",
    "ExponentialDecay",
    "GaussianNegativeLogLikelihood",
    "GaussianNoise",
    "Huber",
    "Identity",
    "KLDivergence",
    "KLSparsity",
    "LinearWarmup",
    "Logistic",
    "Loss",
    "MaskingNoise",
    "Objective",
    "PoissonNegativeLogLikelihood",
    "SaltAndPepperNoise",
    "Schedule",
    "SquaredError",
    "SwapNoise",
    "Term",
    "TopK",
]
