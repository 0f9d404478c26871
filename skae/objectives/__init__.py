"""Objectives: the terms of what training minimises, one value per row, and what they act on."""

from ._adversarial import ACAI
from ._buffers import Buffers
from ._code_activations import CodeActivation, Identity, Logistic, SoftThreshold, TopK
from ._codes import CodebookLoss, CodeLength, Commitment
from ._corruptions import Corruption, GaussianNoise, MaskingNoise, SaltAndPepperNoise, SwapNoise
from ._counts import NegativeBinomial, Poisson
from ._divergences import ImportanceWeightedBound, KLDivergence
from ._likelihoods import Bernoulli, Gaussian, Laplace, Likelihood
from ._losses import AbsoluteError, Huber, Loss, SquaredError
from ._objective import Objective, Term
from ._penalties import L1, L2, Contractive, KLSparsity
from ._schedules import CosineDecay, ExponentialDecay, LinearWarmup, Schedule

__all__ = [
    "ACAI",
    "L1",
    "L2",
    "AbsoluteError",
    "Bernoulli",
    "Buffers",
    "CodeActivation",
    "CodeLength",
    "CodebookLoss",
    "Commitment",
    "Contractive",
    "Corruption",
    "CosineDecay",
    "ExponentialDecay",
    "Gaussian",
    "GaussianNoise",
    "Huber",
    "Identity",
    "ImportanceWeightedBound",
    "KLDivergence",
    "KLSparsity",
    "Laplace",
    "Likelihood",
    "LinearWarmup",
    "Logistic",
    "Loss",
    "MaskingNoise",
    "NegativeBinomial",
    "Objective",
    "Poisson",
    "SaltAndPepperNoise",
    "Schedule",
    "SoftThreshold",
    "SquaredError",
    "SwapNoise",
    "Term",
    "TopK",
]
