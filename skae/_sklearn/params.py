"""Parameters: what each constructor argument may be, checked at the start of fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
from sklearn import get_config

from ..objectives import Schedule
from ..objectives._checks import lies_in


class Constraint(Protocol):
    """What a parameter may be; its ``str`` completes the sentence "must be ..."."""

    def allows(self, value: Any) -> bool:
        """Return whether `value` satisfies the constraint."""


class Number:
    """A real number, or an integer, in an interval with brackets as in "[0, inf)"."""

    def __init__(self, kind: type[Any], interval: str) -> None:
        self.kind, self.interval = kind, interval
        low, high = interval[1:-1].split(",")
        self.low, self.high = float(low), float(high)

    def allows(self, value: Any) -> bool:
        """Return whether `value` is such a number; bools and NaN are not."""
        return isinstance(value, self.kind) and lies_in(self.interval, value)

    def __str__(self) -> str:
        name = "an int" if self.kind is Integral else "a float"
        return f"{name} in the range {self.interval}"


class OneOf:
    """One of some strings."""

    def __init__(self, *options: str) -> None:
        self.options = options

    def allows(self, value: Any) -> bool:
        """Return whether `value` is one of the strings."""
        return isinstance(value, str) and value in self.options

    def __str__(self) -> str:
        listed = ", ".join(repr(option) for option in sorted(self.options))
        return f"a str among {{{listed}}}"


class Kind:
    """Anything that a test accepts, described in words."""

    def __init__(self, description: str, test: Any) -> None:
        self.description, self.test = description, test

    def allows(self, value: Any) -> bool:
        """Return whether the test accepts `value`."""
        return bool(self.test(value))

    def __str__(self) -> str:
        return self.description


def integer(interval: str) -> Number:
    """An integer in an interval."""
    return Number(Integral, interval)


def real(interval: str) -> Number:
    """A real number in an interval."""
    return Number(Real, interval)


def an_instance_of(kind: type[Any]) -> Kind:
    """An object of a class."""
    return Kind(f"an instance of {kind.__name__}", lambda value: isinstance(value, kind))


def _is_widths(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and all(
        integer("[1, inf)").allows(width) for width in value
    )


SCHEDULE = Kind("a skae.objectives.Schedule", lambda value: isinstance(value, Schedule))
NONE = Kind("None", lambda value: value is None)
BOOLEAN = Kind("a bool", lambda value: isinstance(value, bool | np.bool_))
NETWORK = Kind("a callable (n_in, n_out) -> torch.nn.Module or a torch.nn.Module", callable)
WIDTHS = Kind(
    "a sequence of ints in the range [1, inf)",
    lambda value: not isinstance(value, str) and _is_widths(value),
)
DEVICE = Kind("a str naming a torch device", lambda value: isinstance(value, str))
RANDOM_STATE = Kind(
    "an instance of numpy.random.RandomState",
    lambda value: isinstance(value, np.random.RandomState),
)


SHARED_CONSTRAINTS: dict[str, list[Constraint]] = {
    "n_components": [integer("[1, inf)"), NONE],
    "hidden_layer_sizes": [WIDTHS, OneOf("auto")],
    "activation": [OneOf("gelu", "identity", "logistic", "relu", "silu", "tanh")],
    "encoder": [NETWORK, NONE],
    "decoder": [NETWORK, NONE],
    "init": [OneOf("pca", "random")],
    "n_init": [integer("[1, inf)")],
    "scale": [OneOf("global", "standard"), NONE],
    "batch_size": [integer("[1, inf)"), OneOf("auto")],
    "max_iter": [integer("[0, inf)")],
    "learning_rate": [real("(0, inf)"), SCHEDULE],
    "dropout": [real("[0, 1)"), SCHEDULE],
    "weight_decay": [real("[0, inf)"), SCHEDULE],
    "max_grad_norm": [real("(0, inf)"), SCHEDULE, NONE],
    "early_stopping": [BOOLEAN, OneOf("auto")],
    "validation_fraction": [real("(0, 1)")],
    "n_iter_no_change": [integer("[1, inf)")],
    "tol": [real("[0, inf)")],
    "warm_start": [BOOLEAN],
    "device": [DEVICE],
    "precision": [OneOf("float32", "bfloat16")],
    "random_state": [integer("[0, 4294967295]"), RANDOM_STATE, NONE],
    "verbose": [integer("[0, inf)"), BOOLEAN],
}


_ADVICE = {
    "n_components": " To choose it by the variance that is kept, give AutoencoderTransformer a "
    "float in (0, 1), or search over integers with skae.metrics.explained_variance_scorer."
}


def check_parameters(estimator: Any, constraints: Mapping[str, Sequence[Constraint]]) -> None:
    """Check an estimator's parameters against their constraints, in scikit-learn's words.

    Raises
    ------
    ValueError
        Naming the parameter, what it may be and the value it has.
    """
    if get_config()["skip_parameter_validation"]:
        return
    for name, allowed in constraints.items():
        value = getattr(estimator, name)
        if not any(constraint.allows(value) for constraint in allowed):
            *most, last = (str(constraint) for constraint in allowed)
            expected = f"{', '.join(most)} or {last}" if most else last
            raise ValueError(
                f"The {name!r} parameter of {type(estimator).__name__} must be {expected}. "
                f"Got {value!r} instead."
                + ("" if isinstance(value, Integral) else _ADVICE.get(name, ""))
            )


def check_n_samples(n_samples: Any) -> int:
    """Return a number of draws; ValueError if it is not an int of at least 1."""
    if not integer("[1, inf)").allows(n_samples):
        raise ValueError(f"n_samples must be an int in the range [1, inf). Got {n_samples!r}.")
    return int(n_samples)
