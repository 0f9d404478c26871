"""The device: device="auto", ambient torch state kept out, threads by the work per step."""

from __future__ import annotations

import torch

from .warnings import warn


def resolve_device(device: str) -> torch.device:
    """Return the torch device for `device`; "auto" is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        If `device` is not a device string or no such device is present.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type not in ("cpu", "cuda"):
            raise NotImplementedError("skae computes on the CPU and on CUDA devices")
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here: {error}. Use device='auto' or 'cpu'."
        ) from error
    return resolved


def evaluation_device(device: str) -> torch.device:
    """Return the torch device for `device`; the CPU, with a warning, where it is not present."""
    try:
        return resolve_device(device)
    except ValueError as error:
        warn(f"{error} The CPU is used instead.")
        return torch.device("cpu")
