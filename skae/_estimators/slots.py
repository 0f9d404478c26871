"""Slots: what a string in a slot stands for, and what else a slot takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sklearn.base import BaseEstimator

from .._sklearn.params import Constraints, Kind, OneOf, allows, an_instance_of
from ..objectives import (
    ACAI,
    L1,
    L2,
    AbsoluteError,
    Bernoulli,
    CodeActivation,
    Contractive,
    Corruption,
    Gaussian,
    GaussianNoise,
    Huber,
    Identity,
    KLSparsity,
    Laplace,
    Likelihood,
    Logistic,
    Loss,
    MaskingNoise,
    NegativeBinomial,
    Poisson,
    SaltAndPepperNoise,
    SoftThreshold,
    SquaredError,
    SwapNoise,
    Term,
)
from ..priors import AutoregressivePrior, CodePrior, IndependentPrior, UniformPrior
from ..quantization import FiniteScalarQuantization, Quantization, VectorQuantization

LOSSES: dict[str, type[Loss]] = {
    "squared_error": SquaredError,
    "absolute_error": AbsoluteError,
    "huber": Huber,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
}
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "auto": Gaussian,  # shared noise, unless rows say otherwise
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "laplace": Laplace,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}
CORRUPTIONS: dict[str, type[Corruption]] = {
    "gaussian": GaussianNoise,
    "masking": MaskingNoise,
    "salt_and_pepper": SaltAndPepperNoise,
    "swap": SwapNoise,
}
CODE_ACTIVATIONS: dict[str, type[CodeActivation]] = {
    "identity": Identity,
    "logistic": Logistic,
    "soft_threshold": SoftThreshold,
}
PENALTIES: dict[str, type[Term]] = {
    "l1": L1,
    "l2": L2,
    "kl_sparsity": KLSparsity,
    "contractive": Contractive,
    "acai": ACAI,
}
QUANTIZERS: dict[str, Callable[[], Quantization]] = {
    "vector": VectorQuantization,
    "residual": partial(VectorQuantization, n_stages=2),
    "finite_scalar": FiniteScalarQuantization,
}

PRIORS: dict[str, type[CodePrior]] = {
    "autoregressive": AutoregressivePrior,
    "independent": IndependentPrior,
    "uniform": UniformPrior,
}

_CORRUPT = Kind(
    "a callable (x, generator) -> x, not a class",
    lambda value: callable(value) and not isinstance(value, type),
)

_PENALTY: list[Any] = [OneOf(*PENALTIES), an_instance_of(Term), None]

SLOT_CONSTRAINTS: Constraints = {
    "loss": [
        OneOf(*LOSSES),
        Kind(
            "an instance of Loss that learns nothing beside the network",
            lambda value: isinstance(value, Loss) and not value.needs_outputs,
        ),
    ],
    "corruption": [OneOf(*CORRUPTIONS), _CORRUPT, None],
    "code_activation": [OneOf("auto", *CODE_ACTIVATIONS), an_instance_of(CodeActivation)],
    "penalty": [
        *_PENALTY,
        Kind("a list of these", lambda value: isinstance(value, list | tuple)),
    ],
    "latent_density": [
        OneOf("auto", "gaussian"),
        Kind(
            "an estimator with fit and sample",
            lambda value: isinstance(value, BaseEstimator) and hasattr(value, "sample"),
        ),
    ],
}
CODE_DENSITY_CONSTRAINTS: list[Any] = [
    OneOf("auto", "normal", "mixture"),
    Kind(
        "an estimator with fit, sample and score_samples",
        lambda value: (
            isinstance(value, BaseEstimator)
            and all(hasattr(value, name) for name in ("sample", "score_samples"))
        ),
    ),
]

QUANTIZER_CONSTRAINTS: list[Any] = [OneOf(*QUANTIZERS), an_instance_of(Quantization)]
LIKELIHOOD_CONSTRAINTS: list[Any] = [OneOf(*LIKELIHOODS), an_instance_of(Likelihood)]


def resolve(value: Any, named: dict[str, Any]) -> Any:
    """Return the object that a slot's value stands for; anything but a string is one."""
    return named[value]() if isinstance(value, str) else value


def takes_no_negatives(value: Any) -> bool:
    """Return whether a loss or likelihood, by name or as an object, is for non-negative rows.

    Of a value that no slot takes, it is not.
    """
    named: dict[str, Any] = {**LOSSES, **LIKELIHOODS}
    part = named.get(value) if isinstance(value, str) else value
    return getattr(part, "non_negative", False) is True


def resolve_code_activation(value: Any, penalties: list[Term]) -> CodeActivation:
    """Return the code activation in a slot; for "auto" that which the penalties ask for."""
    if not (isinstance(value, str) and value == "auto"):
        found: CodeActivation = resolve(value, CODE_ACTIVATIONS)
        return found
    # One that needs codes in (0, 1) has no choice.
    ordered = sorted(penalties, key=lambda penalty: not penalty.needs_unit_codes)
    names = [each.code_activation for each in ordered if each.code_activation != "identity"]
    return CODE_ACTIVATIONS[names[0] if names else "identity"]()


def resolve_penalties(value: Any) -> list[Term]:
    """Return the penalties in a slot that takes one, several or none.

    Raises
    ------
    ValueError
        If one is not a penalty.
    """
    listed = value if isinstance(value, list | tuple) else [value]
    penalties = []
    for each in listed:
        if not allows(_PENALTY, each):
            raise ValueError(
                "The 'penalty' parameter of AutoencoderTransformer must be a list of instances of "
                f"Term or of {sorted(PENALTIES)}. Got {each!r} in it."
            )
        if each is not None:
            penalties.append(resolve(each, PENALTIES))
    return penalties


def check_penalties(penalties: list[Term], code_activation: CodeActivation, loss: Loss) -> None:
    """Check that penalties are of codes, and go with the other parts.

    Raises
    ------
    ValueError
        If one is not a penalty of codes, needs codes in (0, 1) and these are not, or does not go
        with the loss.
    """
    for penalty in penalties:
        if penalty.needs_outputs or isinstance(penalty, Loss):
            raise ValueError(
                f"penalty={penalty!r} is not a penalty on the codes of an autoencoder: it is a "
                "loss, or needs what only another network returns. Use one of "
                f"{sorted(PENALTIES)} or a Term of your own."
            )
        if penalty.adversarial and loss.raw_target:
            raise ValueError(
                f"penalty={penalty!r} needs a loss in the units of X, which loss={loss!r} is not. "
                "Use loss='squared_error'."
            )
        if penalty.needs_unit_codes and not code_activation.gives_unit_codes:
            raise ValueError(
                f"penalty={penalty!r} needs codes in (0, 1), which "
                f"code_activation={code_activation!r} does not give. Use "
                "code_activation='logistic'."
            )
