"""One fit's working set: the network, its scaling, the optimisation step and the device."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator

from ._batches import Rows, make_rows
from ._device import threads_for
from ._inference import FittedNet
from ._input import Scaling
from ._steps import AutogradStep, Loss
from ._training import HeldOut, History, train
from .modules import Core


class Session:
    """What one call of fit or partial_fit works with.

    Parameters
    ----------
    build : functools.partial
        ``build(generator=...) -> Core``, which made the core.
    core : Core
        The network; moved to the device.
    scaling : Scaling
        The map between rows and net units.
    device : torch.device
        Where training runs.
    objective : callable
        ``(x, out) -> (batch,)``.
    generator : torch.Generator
        The fit's one source of randomness, on the CPU.
    learning_rate, weight_decay : float
        Settings of the step.
    """

    core: Any

    def __init__(
        self,
        build: partial[Core],
        core: Core,
        scaling: Scaling,
        device: torch.device,
        objective: Loss,
        generator: Generator,
        *,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        self.build, self.scaling, self.device = build, scaling, device
        self.generator = generator
        self.blank = deepcopy(core)  # before training: what has run cannot always be copied
        self.core = core.to(device)
        self.step = AutogradStep(
            core, objective, generator, learning_rate=learning_rate, weight_decay=weight_decay
        )

    def fitted_net(self) -> FittedNet:
        """Return the network as it is now, to be used."""
        return FittedNet.from_core(self.build, deepcopy(self.blank), self.core, self.scaling)

    def rows(self, X: Any, index: np.ndarray | None = None) -> Rows:
        """Bring rows of X, all or those at `index`, to the device."""
        index = np.arange(X.shape[0]) if index is None else index
        return make_rows(X, index, self.scaling, self.device)

    def train(
        self, rows: Rows, held_out: Rows | None, *, batch_size: int, **settings: Any
    ) -> History:
        """Train on `rows`; see `skae._training.train` for the settings."""
        with threads_for(batch_size * self.core.largest_matrix):
            judge = None
            if held_out is not None:
                judge = HeldOut(self.core, self.step.objective, held_out, self.generator)
            return train(self.step, rows, judge, batch_size=batch_size, **settings)
