"""Configuration of the documentation: plain Sphinx, numpydoc, Markdown pages."""

import inspect
import re

import skae

project = "skae"
author = "the skae developers"
project_copyright = "2026, the skae developers"
version = release = skae.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc", "myst_parser"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Autoencoders that behave like PCA."}

autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_typehints = "none"
numpydoc_show_class_members = False

# The build needs no network, so names of other packages are not resolved.
nitpick_ignore_regex = [(r"py:.*", r"(?!skae\b).*")]


def skip_inherited_members(app, what, name, obj, skip, options):
    """Leave out what classes inherit from scikit-learn and torch: it is documented there."""
    obj = obj.fget if isinstance(obj, property) else obj
    module = getattr(inspect.unwrap(obj) if callable(obj) else obj, "__module__", None) or ""
    return skip or module.split(".")[0] != "skae"


def escape_shapes(app, what, name, obj, options, lines):
    """Keep fitted attributes in shapes, as in `(n_codes_, 2)`, from being read as link targets."""
    for i, line in enumerate(lines):
        lines[i] = re.sub(r"\bshape \([^)]*\)", lambda m: re.sub(r"_(?=[,)])", r"\_", m[0]), line)


def setup(app):
    """Connect the hooks above; shapes are escaped before numpydoc reads them."""
    app.connect("autodoc-process-docstring", escape_shapes, priority=400)
    app.connect("autodoc-skip-member", skip_inherited_members)
