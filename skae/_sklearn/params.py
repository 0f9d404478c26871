"""Parameters: what each constructor argument may be, in scikit-learn's own terms and words.

Nothing else imports scikit-learn's private module of constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.utils._param_validation import (
    Interval,
    Options,
    RealNotInt,
    StrOptions,
    make_constraint,
    validate_parameter_constraints,
)

from ..objectives import Schedule

# What a parameter may be, by its name: what scikit-learn's validation takes, such as None,
# "boolean" or one of the classes below.
Constraints = dict[str, list[Any]]


class Number(Interval):
    """A number of a kind in an interval with brackets as in "[0, inf)"; bools are none."""

    def __init__(self, kind: type[Any], interval: str) -> None:
        low, high = (float(bound) for bound in interval[1:-1].split(","))
        as_bound = int if kind is Integral else float
        super().__init__(
            kind,
            None if np.isinf(low) else as_bound(low),
            None if np.isinf(high) else as_bound(high),
            closed=_CLOSED[interval[0] + interval[-1]],
        )

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether `val` is such a number."""
        if isinstance(val, bool) or not isinstance(val, Real):
            return False
        if isinstance(val, Integral):
            return val in self
        return self.type is not Integral and float(val) in self


_CLOSED = {"[]": "both", "[)": "left", "(]": "right", "()": "neither"}


class OneOf(StrOptions):
    """One of some strings, which are listed in the same order always."""

    def __init__(self, *options: str) -> None:
        super().__init__(set(options))

    def __str__(self) -> str:
        return f"a str among {{{', '.join(map(repr, sorted(self.options)))}}}"


class Kind(Options):
    """Anything that a test accepts, described in words."""

    def __init__(self, description: str, test: Callable[[Any], Any]) -> None:
        super().__init__(object, set())
        self.description, self.test = description, test

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether the test accepts `val`."""
        return bool(self.test(val))

    def __str__(self) -> str:
        return self.description


def integer(interval: str) -> Number:
    """An integer in an interval."""
    return Number(Integral, interval)


def real(interval: str) -> Number:
    """A real number in an interval."""
    return Number(Real, interval)


def real_beside_integers(interval: str) -> Number:
    """A real number in an interval, where integers mean something else."""
    return Number(RealNotInt, interval)


def an_instance_of(kind: type[Any]) -> Kind:
    """An object of a class."""
    return Kind(f"an instance of {kind.__name__}", lambda value: isinstance(value, kind))


def allows(constraints: Iterable[Any], value: Any) -> bool:
    """Return whether `value` satisfies one of the constraints."""
    return any(make_constraint(each).is_satisfied_by(value) for each in constraints)


def _is_widths(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and all(
        integer("[1, inf)").is_satisfied_by(width) for width in value
    )


SCHEDULE = Kind("a skae.objectives.Schedule", lambda value: isinstance(value, Schedule))
NETWORK = Kind("a callable (n_in, n_out) -> torch.nn.Module or a torch.nn.Module", callable)
WIDTHS = Kind(
    "a sequence of ints in the range [1, inf)",
    lambda value: not isinstance(value, str) and _is_widths(value),
)
DEVICE = Kind("a str naming a torch device", lambda value: isinstance(value, str))


SHARED_CONSTRAINTS: Constraints = {
    "n_components": [integer("[1, inf)"), None],
    "hidden_layer_sizes": [WIDTHS, OneOf("auto")],
    "activation": [OneOf("gelu", "identity", "logistic", "relu", "silu", "tanh")],
    "encoder": [NETWORK, None],
    "decoder": [NETWORK, None],
    "init": [OneOf("pca", "random")],
    "n_init": [integer("[1, inf)")],
    "scale": [OneOf("global", "standard"), None],
    "batch_size": [integer("[1, inf)"), OneOf("auto")],
    "max_iter": [integer("[0, inf)"), OneOf("auto")],
    "learning_rate": [real("(0, inf)"), SCHEDULE, OneOf("auto")],
    "dropout": [real("[0, 1)"), SCHEDULE],
    "weight_decay": [real("[0, inf)"), SCHEDULE],
    "max_grad_norm": [real("(0, inf)"), SCHEDULE, None],
    "early_stopping": ["boolean", OneOf("auto")],
    "validation_fraction": [real("(0, 1)")],
    "n_iter_no_change": [integer("[1, inf)"), OneOf("auto")],
    "tol": [real("[0, inf)")],
    "warm_start": ["boolean"],
    "device": [DEVICE],
    "precision": [OneOf("float32", "bfloat16")],
    "random_state": [integer("[0, 4294967295]"), np.random.RandomState, None],
    "verbose": ["verbose"],
}


def check_parameters(estimator: Any, constraints: Mapping[str, Sequence[Any]]) -> None:
    """Check an estimator's parameters against their constraints, in scikit-learn's words.

    Raises
    ------
    ValueError
        Naming the parameter, what it may be and the value it has.
    """
    if get_config()["skip_parameter_validation"]:
        return
    values = {name: getattr(estimator, name) for name in constraints}
    validate_parameter_constraints(constraints, values, type(estimator).__name__)


def check_n_samples(n_samples: Any) -> int:
    """Return a number of draws; ValueError if it is not an int of at least 1."""
    if not integer("[1, inf)").is_satisfied_by(n_samples):
        raise ValueError(f"n_samples must be an int in the range [1, inf). Got {n_samples!r}.")
    return int(n_samples)
