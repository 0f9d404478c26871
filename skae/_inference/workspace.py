"""Workspaces: networks on buffers and arrays for rows, kept from one call to the next."""

from __future__ import annotations

import numpy as np

from .._engine.layers import on_buffers
from ..modules import Core
from ..modules._custom import with_networks


class Workspace:
    """What one thread needs to evaluate blocks: a core on buffers, and arrays for rows.

    Parameters
    ----------
    core : Core
        The core, whose weights are used where they are.
    dtype : dtype
        That of the rows.

    Attributes
    ----------
    core : Core
        The same, whose networks of dense layers allocate nothing.
    """

    def __init__(self, core: Core, dtype: np.dtype) -> None:
        self.core, self._dtype = with_networks(core, on_buffers), dtype
        self._arrays: dict[int, np.ndarray] = {}

    def array(self, n_rows: int, width: int) -> np.ndarray:
        """Return the array for so many rows, which holds what it did."""
        if width not in self._arrays or len(self._arrays[width]) < n_rows:
            self._arrays[width] = np.empty((n_rows, width), dtype=self._dtype)
        return self._arrays[width][:n_rows]


class Workspaces:
    """A core in one dtype on one device, and the workspaces that no thread uses.

    Parameters
    ----------
    core : Core
        The core.
    dtype : dtype
        That of rows and weights.

    Attributes
    ----------
    is_custom : bool
        Whether code of the user's runs in the core.
    widest, multiply_adds : int
        Those of the core, which takes long to find them.
    idle : list of Workspace
        The workspaces.
    """

    def __init__(self, core: Core, dtype: np.dtype) -> None:
        self.core, self.dtype = core, dtype
        self.is_custom, self.widest = core.has_custom_parts, core.widest
        self.multiply_adds = core.multiply_adds
        self.idle: list[Workspace] = []

    def take(self) -> Workspace:
        """Return an idle workspace, which is to be given back, or a new one."""
        try:
            return self.idle.pop()
        except IndexError:
            return Workspace(self.core, self.dtype)

    def give_back(self, workspace: Workspace) -> None:
        """Keep a workspace for the next who takes one."""
        self.idle.append(workspace)
