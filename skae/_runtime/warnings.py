"""Warnings that point at the caller's code, however many layers of skae lie between."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

# Packages whose code runs between a user's line and a warning: Pipelines, searches, their workers.
_PASSED_OVER = {"skae", "sklearn", "joblib"}


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn of something at the line that called skae, itself or through scikit-learn."""
    frame = sys._getframe(1)
    while _package_of(frame) in _PASSED_OVER and frame.f_back is not None:
        frame = frame.f_back
    names, filename = frame.f_globals, frame.f_code.co_filename
    registry = names.setdefault("__warningregistry__", {})
    module = names.get("__name__")
    warnings.warn_explicit(message, category, filename, frame.f_lineno, module, registry)


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
