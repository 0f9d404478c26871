"""Puts skae's classes where scikit-learn's tests look for PCA; a plugin of pytest."""

import functools

import sklearn.decomposition
import sklearn.decomposition._pca

import skae.decomposition


def untrained(kind):
    """Return a subclass of the same name that is not trained unless it is asked to be."""
    made = type(kind.__name__, (kind,), {"__doc__": kind.__doc__})

    @functools.wraps(kind.__init__)
    def init(self, *args, **kwargs):
        kind.__init__(self, *args, **{"max_iter": 0, **kwargs})

    made.__init__ = init
    made.__module__ = __name__
    globals()[kind.__name__] = made  # where pickle finds it
    return made


for name in ("PCA", "IncrementalPCA"):
    setattr(sklearn.decomposition, name, untrained(getattr(skae.decomposition, name)))
