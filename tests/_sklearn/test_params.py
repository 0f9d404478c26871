"""Tests of constraints: scikit-learn's, in its words, with advice where skae has some."""

import re
from numbers import Integral, Real

import numpy as np
import pytest
from sklearn import config_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    MissingValues,
    Options,
    StrOptions,
    make_constraint,
)

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae._sklearn.params import (
    Kind,
    OneOf,
    allows,
    an_instance_of,
    check_n_samples,
    check_parameters,
    integer,
    real,
)
from skae.priors import AutoregressivePrior, IndependentPrior, UniformPrior

CONSTRAINED = [
    AutoencoderTransformer,
    VAETransformer,
    VQVAETransformer,
    AutoregressivePrior,
    IndependentPrior,
    UniformPrior,
]


class Thing:
    """An object with two parameters, the first of which is checked first."""

    def __init__(self, size=1, n_components=1):
        self.size, self.n_components = size, n_components


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (integer("[1, inf)"), [1, np.int64(5)], [0, 1.0, True, np.True_, "1", None, np.nan]),
        (integer("[0, 3]"), [0, 3], [False, -1, 4]),
        (real("(0, 1)"), [0.5, np.float32(0.1)], [0, 1, 0.0, 1.0, float("nan"), False, "0.5"]),
        (real("[0, inf)"), [0, 0.0, 7, 1e300], [np.inf, -1e-9, True, np.nan, 1j]),
        (OneOf("a", "b"), ["a"], ["c", 1, ["a"], None]),
        (Kind("two", lambda value: value == 2), [2], [3, "two"]),
        (an_instance_of(Thing), [Thing()], [Thing, 1]),
    ],
)
def test_constraints_know_their_values(constraint, good, bad):
    """Each accepts its own values and nothing else: bools are no numbers, NaN is in no interval."""
    assert all(constraint.is_satisfied_by(value) for value in good)
    assert not any(constraint.is_satisfied_by(value) for value in bad)
    assert all(allows([constraint, None], value) for value in [*good, None])


def test_constraints_are_scikit_learn_s():
    """Who reads them, knows them: intervals with bounds, sets of strings."""
    for each in (integer("[1, inf)"), real("(0, 1]")):
        assert isinstance(each, Interval)
    assert (integer("[1, inf)").left, integer("[1, inf)").right) == (1, None)
    assert integer("[1, inf)").type is Integral
    assert issubclass(real("(0, 1]").type, Real)
    assert (real("(0, 1]").left, real("(0, 1]").right, real("(0, 1]").closed) == (0, 1, "right")
    assert isinstance(OneOf("a"), StrOptions)
    assert isinstance(Kind("even", bool), Options)
    assert str(real("(0, 1]")) == "a float in the range (0.0, 1.0]"


def test_strings_are_listed_in_one_order():
    """Whatever order sets have in this process."""
    names = [f"name{i}" for i in range(20)]
    assert re.findall(r"'(\w+)'", str(OneOf(*names[::-1]))) == sorted(names)


@pytest.mark.parametrize("kind", CONSTRAINED)
def test_each_parameter_has_constraints(kind):
    """Those of scikit-learn, which makes sense of each."""
    constraints = kind._parameter_constraints
    assert constraints.keys() == kind().get_params(deep=False).keys()
    known = Interval, StrOptions, Options, HasMethods, MissingValues
    for name, allowed in constraints.items():
        for each in allowed:
            assert isinstance(each, known) or type(make_constraint(each)), name
        assert allows(allowed, getattr(kind(), name)), name  # the default


def test_errors_use_scikit_learn_s_words():
    """The message names parameter, class, what is allowed and the value."""
    with pytest.raises(InvalidParameterError) as caught:
        check_parameters(Thing(-1), {"size": [integer("[0, 5]"), OneOf("b", "a"), None]})
    assert str(caught.value) == (
        "The 'size' parameter of Thing must be an int in the range [0, 5], a str among {'a', 'b'} "
        "or None. Got -1 instead."
    )


def test_the_first_wrong_parameter_is_reported():
    """By scikit-learn's error."""
    constraints = {"size": [integer("[0, 5]")], "n_components": [integer("[1, inf)")]}
    with pytest.raises(InvalidParameterError, match="'size' parameter"):
        check_parameters(Thing(7, 0.5), constraints)
    with pytest.raises(InvalidParameterError, match="'n_components' parameter"):
        check_parameters(Thing(1, 0.5), constraints)


@pytest.mark.parametrize("kind", CONSTRAINED[:3])
@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
def test_parameters_come_before_rows(kind, method):
    """A wrong one is reported whatever X is."""
    with pytest.raises(InvalidParameterError, match="'tol' parameter"):
        getattr(kind(tol=-1), method)(None)


def test_checks_can_be_switched_off():
    """As scikit-learn's configuration says."""
    with config_context(skip_parameter_validation=True):
        check_parameters(Thing(7), {"size": [integer("[0, 5]")]})


def test_numbers_of_draws():
    """They are integers of at least 1."""
    assert check_n_samples(np.int64(3)) == 3
    for bad in (0, True, 1.0, None):
        with pytest.raises(ValueError, match="n_samples must be an int in the range"):
            check_n_samples(bad)
