"""What type checkers and editors know: every documented attribute, and how strings are spelled."""

import re
import types
import typing

import pytest
from numpydoc.docscrape import NumpyDocString

from skae import AutoencoderTransformer, VAETransformer, VQVAETransformer
from skae._sklearn.params import OneOf

ESTIMATORS = [AutoencoderTransformer, VAETransformer, VQVAETransformer]


def documented(kind, section):
    """Return what a section of a class's docstring says of the types of names."""
    entries = NumpyDocString(typing.cast(str, kind.__doc__))[section]
    return {name: entry.type for entry in entries for name in entry.name.split(", ")}


def strings_in(hint):
    """Return the strings that a type admits by name."""
    if typing.get_origin(hint) is typing.Literal:
        return {value for value in typing.get_args(hint) if isinstance(value, str)}
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return set().union(*map(strings_in, typing.get_args(hint)))
    return set()


def parameters():
    """Return the pairs of an estimator and the name of one of its parameters."""
    return [(kind, name) for kind in ESTIMATORS for name in kind().get_params(deep=False)]


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_documented_attributes_have_types(kind):
    """And no others but private ones have."""
    hints = {name for name in typing.get_type_hints(kind) if not name.startswith("_")}
    properties = {name for name in dir(kind) if isinstance(getattr(kind, name), property)}
    public = {name for name in hints | properties if not name.startswith("_")}
    assert public == set(documented(kind, "Attributes"))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_properties_say_what_they_return(kind):
    """For a property, the type is that of what it returns."""
    for name in dir(kind):
        if name[0] != "_" and isinstance(found := getattr(kind, name), property):
            assert "return" in typing.get_type_hints(found.fget), name


@pytest.mark.parametrize(("kind", "name"), parameters())
def test_strings_are_those_that_are_documented_and_taken(kind, name):
    """The type, the docstring and the check of a parameter know the same strings."""
    hint = strings_in(typing.get_type_hints(kind.__init__)[name])
    documentation = documented(kind, "Parameters")[name].split("default=")[0]
    choices = [
        each.options for each in kind._parameter_constraints[name] if isinstance(each, OneOf)
    ]
    assert hint == set(re.findall(r'"(\w+)"', documentation))
    assert hint == {value for values in choices for value in values}
