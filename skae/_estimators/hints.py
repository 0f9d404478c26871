"""What parameters may be, for those who check types: strings that are spelled right, and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from numpy.random import RandomState
from torch import nn

from .._training.step import Corrupt
from ..architectures import Architecture
from ..objectives import Term

Auto = Literal["auto"]
Widths = Sequence[int] | Auto
ActivationName = Literal["relu", "tanh", "logistic", "identity", "silu", "gelu"]
Encoder = Architecture | Callable[[int, int], nn.Module] | nn.Module | None
CustomNet = Callable[[int, int], nn.Module] | nn.Module | None
Init = Literal["pca", "random"]
Scale = Literal["global", "standard"] | None
Precision = Literal["float32", "bfloat16"]
Seed = int | RandomState | None

LossName = Literal["squared_error", "absolute_error", "huber", "bernoulli", "poisson"]
LikelihoodName = Literal["auto", "gaussian", "bernoulli", "laplace", "poisson", "negative_binomial"]
CorruptionName = Literal["gaussian", "masking", "salt_and_pepper", "swap"]
CodeActivationName = Literal["auto", "identity", "logistic", "soft_threshold"]
PenaltyName = Literal["l1", "l2", "kl_sparsity", "contractive", "acai"]
QuantizerName = Literal["vector", "residual", "finite_scalar"]
PriorName = Literal["autoregressive", "independent", "uniform"]

Noising = CorruptionName | Corrupt | None
Penalty = PenaltyName | Term | None
Penalties = Penalty | Sequence[Penalty]


class Drawable(Protocol):
    """What is fitted to codes and draws from them: a density or a prior."""

    def fit(self, X: Any) -> Any:
        """Fit to codes."""

    def sample(self, n_samples: int) -> Any:
        """Draw codes."""


class Scored(Drawable, Protocol):
    """What also says how probable codes are."""

    def score_samples(self, X: Any) -> Any:
        """Return log-densities of codes."""


Density = Literal["auto", "gaussian"] | Drawable
CodeDensity = Literal["auto", "normal", "mixture"] | Scored
Prior = PriorName | Drawable
