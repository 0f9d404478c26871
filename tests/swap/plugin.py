"""A plugin of pytest that puts skae's classes where scikit-learn's tests look for PCA."""

import fnmatch
import functools
from pathlib import Path

import pytest
import sklearn.decomposition

import skae.decomposition

EXCEPTIONS = Path(__file__).with_name("exceptions.txt")


def untrained(kind):
    """Return a subclass of the same name that is not trained unless it is asked to be."""

    @functools.wraps(kind.__init__)
    def init(self, *args, **kwargs):
        kind.__init__(self, *args, **{"max_iter": 0, **kwargs})

    members = {"__doc__": kind.__doc__, "__init__": init, "__module__": __name__}
    globals()[kind.__name__] = type(kind.__name__, (kind,), members)  # where pickle finds it
    return globals()[kind.__name__]


def pytest_configure(config):
    """Swap the classes before tests import them."""
    for name in ("PCA", "IncrementalPCA"):
        setattr(sklearn.decomposition, name, untrained(getattr(skae.decomposition, name)))


def exceptions():
    """Return pairs of a pattern of names and a reason."""
    lines = EXCEPTIONS.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split(" : ", 1)) for line in lines if line and not line.startswith("#")]


def pytest_collection_modifyitems(items):
    """Expect the listed tests to fail: one that passes is no exception any more."""
    unused = dict(exceptions())
    for item in items:
        for pattern, reason in exceptions():
            if fnmatch.fnmatchcase(item.name, pattern.replace("[", "[[]")):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
                unused.pop(pattern, None)
    if unused and len(items) > 1:
        raise pytest.UsageError(f"Patterns that match no test: {sorted(unused)}")
