"""The docstrings: numpydoc's rules for everything public."""

import importlib
import inspect

import pytest
from numpydoc.validate import validate

from tests.public import MODULES

PROSE_PACKAGES = ("skae.modules", "skae.objectives")

IGNORED = {
    "GL01": "a docstring starts on the line of its opening quotes",
    "ES01": "a good summary needs no second paragraph",
    "SA01": "related names are mentioned where they matter",
    "SA04": "the name of a related class is description enough",
    "EX01": "examples are asked of classes, in a test of their own",
    "RT02": "a returned value may have a name",
    "RT03": "the summary says what is returned",
    "PR06": "`bool`, `str` and `int` are written as scikit-learn writes them",
}
# In the package prose is enough for a method or function whose signature tells the rest.
IGNORED_IN_PROSE = {
    "PR01": "the parameters are in the signature",
    "RT01": "the summary says what is returned",
    "YD01": "the summary says what is yielded",
}


def public_objects():
    """Return dotted names and public classes and functions of skae, one path for each object."""
    paths = {}
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            value = getattr(importlib.import_module(module), name)
            if getattr(value, "__module__", "").split(".")[0] == "skae":
                paths.setdefault(value, f"{module}.{name}")
    return [(path, value) for value, path in paths.items()]


def public_classes():
    """Return the dotted names of the public classes of skae."""
    return [(path, value) for path, value in public_objects() if inspect.isclass(value)]


def is_abstract(value):
    """Tell the classes that cannot be used as they are, whatever their metaclass."""
    return any(
        getattr(inspect.getattr_static(value, name), "__isabstractmethod__", False)
        for name in dir(value)
    )


def is_documented_here(owner, name):
    """Tell the members written in skae from those inherited from scikit-learn and torch."""
    value = inspect.getattr_static(owner, name)
    value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    value = inspect.unwrap(value) if callable(value) else value
    return inspect.isfunction(value) and value.__module__.split(".")[0] == "skae"


def public_members():
    """Return the dotted names of the public methods and properties written in skae."""
    return [
        f"{path}.{name}"
        for path, value in public_classes()
        for name in dir(value)
        if not name.startswith("_") and is_documented_here(value, name)
    ]


def complaints(path):
    """Return what numpydoc has to say about a dotted name, the ignored rules left out."""
    report = validate(path)
    prose = path.startswith(PROSE_PACKAGES) and "\n---" not in inspect.cleandoc(report["docstring"])
    ignored = IGNORED | (IGNORED_IN_PROSE if prose else {})
    return [f"{code}: {text}" for code, text in report["errors"] if code not in ignored]


@pytest.mark.parametrize("path", [path for path, _ in public_objects()] + public_members())
def test_docstrings_follow_numpydoc(path):
    """Every public class, function and method is documented in numpydoc's form."""
    assert complaints(path) == []


@pytest.mark.parametrize(("path", "value"), public_classes())
def test_classes_have_examples(path, value):
    """Every public class shows how it is used, except tuples, exceptions and abstract ones."""
    if issubclass(value, (Exception, tuple)) or is_abstract(value):
        pytest.skip("an exception, a plain tuple or an abstract class")
    assert "\nExamples\n--------\n" in inspect.getdoc(value)


def test_broken_rules_are_reported():
    """A docstring without numpydoc's sections, here the standard library's, is complained about."""
    assert any(error.startswith("PR") for error in complaints("collections.OrderedDict.popitem"))
