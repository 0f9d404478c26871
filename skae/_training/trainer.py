"""One fit's working set: the network, its scaling, the optimisation step and the device."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, nn

from .._data.batches import Rows, make_rows
from .._data.scaling import Scaling
from .._inference.fitted import FittedNet
from .._runtime.distributed import agreed
from .._runtime.random import draw_seed
from ..modules import MLP, Core
from ..objectives import Loss, Objective
from .learner import Run
from .step import Step


def make_shared_generator(random_state: Any) -> Generator:
    """Return a generator for a fit, seeded from a random_state, the same on all ranks."""
    return Generator("cpu").manual_seed(agreed(draw_seed(random_state)))


class Trainer:
    """What one call of fit or partial_fit works with.

    Parameters
    ----------
    build : functools.partial
        ``build(generator=...) -> Core``, which made the core.
    core : Core
        The network; moved to the device.
    scaling : Scaling
        The map between rows and scaled units.
    device : torch.device
        Where training runs.
    objective : Objective
        What is minimised.
    generator : torch.Generator
        The fit's one source of randomness, on the CPU.
    loss : Loss or None
        What says which rows the decoder's output stands for; None where it returns rows in scaled
        units.
    **settings : dict
        Settings of the step.
    """

    core: Any

    def __init__(
        self,
        build: partial[Core],
        core: Core,
        scaling: Scaling,
        device: torch.device,
        objective: Objective,
        generator: Generator,
        *,
        loss: Loss | None,
        **settings: Any,
    ) -> None:
        self.build, self.scaling, self.device = build, scaling, device
        self.generator, self.loss = generator, loss
        self.blank = deepcopy(core)  # before training: what has run cannot always be copied
        self.core = core.to(device)
        objective = objective.begin(core.decode, self._make_network, len(scaling.mean), generator)
        self.step = Step(core, objective, generator, **settings)

    def fitted_net(self) -> FittedNet:
        """Return the network as it is now, to be used."""
        blank = deepcopy(self.blank)
        return FittedNet.from_core(self.build, blank, self.core, self.scaling, self.loss)

    def _make_network(self, n_in: int, n_out: int) -> nn.Module:
        """Return a perceptron with the encoder's hidden layers."""
        keywords = self.build.keywords
        widths, activation = keywords["hidden_layer_sizes"], keywords["activation"]
        return MLP(n_in, n_out, widths, activation, generator=self.generator).to(self.device)

    def rows(self, X: Any, index: np.ndarray | None = None) -> Rows:
        """Bring rows of X, all or those at `index`, to the device."""
        index = np.arange(X.shape[0]) if index is None else index
        return make_rows(X, index, self.scaling, self.device)

    def run(
        self,
        rows: Rows,
        batch_size: int,
        held_out: Rows | None = None,
        after_epoch: Callable[[], None] = lambda: None,
    ) -> Run:
        """Return what the loop trains: the network with training rows and a validation set."""
        return Run(self.step, rows, batch_size, held_out, after_epoch)
