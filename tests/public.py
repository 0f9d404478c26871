"""What is public: the modules of skae whose names have no underscore, found by looking."""

import pkgutil

import skae

MODULES = ["skae"] + [
    f"skae.{module.name}"
    for module in pkgutil.iter_modules(skae.__path__)
    if not module.name.startswith("_")
]
