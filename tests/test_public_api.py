"""The public surface: what is exported is sorted, complete, documented and listed in the docs."""

import importlib
import inspect
import re
import types
from pathlib import Path

import pytest

from tests.public import MODULES

API_PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def sort_key(name):
    """Order constants before classes before functions, then by name, as ruff does."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def unlisted(module):
    """Return the public classes and functions that `module` defines but does not list."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
        and name not in module.__all__
    ]


def exports():
    """Return the pairs (module, name) of everything public, dunders left out."""
    return [
        (module, name)
        for module in MODULES
        for name in importlib.import_module(module).__all__
        if not name.startswith("__")
    ]


def words(text):
    """Return the identifiers in a text."""
    return set(re.findall(r"\w+", text))


@pytest.mark.parametrize("module", MODULES)
def test_all_is_sorted(module):
    """A name is found in `__all__` where one looks for it, and only once."""
    names = importlib.import_module(module).__all__
    assert list(names) == sorted(set(names), key=sort_key)


@pytest.mark.parametrize("module", MODULES)
def test_all_is_complete(module):
    """Whatever can be imported from a public module without an underscore is listed there."""
    assert unlisted(importlib.import_module(module)) == []


def test_unlisted_names_are_caught():
    """The checker finds a public function that is missing from `__all__`, and only that."""
    module = types.ModuleType("house")
    source = "def shown(): ...\ndef forgotten(): ...\ndef _private(): ...\n__all__ = ['shown']"
    exec(source, vars(module))
    assert unlisted(module) == ["forgotten"]


@pytest.mark.parametrize(("module", "name"), exports())
def test_exports_exist_and_have_docstrings(module, name):
    """Every exported name can be imported and says what it is."""
    assert inspect.getdoc(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(("module", "name"), exports())
def test_exports_are_on_the_api_page(module, name):
    """Every exported name is on the API page."""
    assert name in words(API_PAGE.read_text(encoding="utf-8"))
