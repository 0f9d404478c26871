"""Wide rows: a network trained in principal coordinates, and brought back to all features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from .._inference.fitted import FittedNet
from .._init.coordinates import Coordinates
from .._latent.moments import CodeMoments
from ..modules import Core
from ..modules._network import Move
from .recipe import Recipe


@dataclass(frozen=True)
class WideFit:
    """One fit in coordinates, see `Coordinates`, and what it comes back to.

    Attributes
    ----------
    coordinates : Coordinates
        Where the network is trained.
    recipe : Recipe
        What is minimised among all features.
    """

    coordinates: Coordinates
    recipe: Recipe

    @property
    def _move(self) -> Move:
        """From rows in scaled units to coordinates, of which the last is not the network's."""
        axes, scaling = self.coordinates.axes, self.coordinates.scaling
        matrix = np.vstack([axes, np.zeros((1, axes.shape[1]))])
        parts = matrix, scaling.to_scaled(scaling.mean), np.zeros(len(matrix))
        return Move(*(torch.from_numpy(part) for part in parts))

    def narrow(self, core: Core) -> None:
        """Let a network work with coordinates: what it does outside of their span is lost."""
        core.move(self._move)

    def forget_the_last(self, core: Core) -> None:
        """Keep a network from the last coordinate, which pretraining or a critic may have used."""
        last = len(self.coordinates.axes)
        core.leave_out(torch.arange(last + 1, device="cpu") == last)

    def by_feature(self, directions: np.ndarray) -> np.ndarray:
        """Return directions (n, n_axes + 1) among coordinates as such among features."""
        return directions[:, :-1] @ self.coordinates.axes

    def moments_by_feature(self, moments: CodeMoments) -> CodeMoments:
        """Return moments of which reconstructions are among features."""
        return replace(moments, cross=self.by_feature(moments.cross.T).T)

    def widened(self, net: FittedNet) -> FittedNet:
        """Return a fitted network that maps rows of all features."""
        core = net.make_core()
        core.move(self._move.inverse)
        scaling, loss = self.coordinates.scaling, self.recipe.loss
        found = FittedNet.from_core(net.build, core, core, scaling, loss)
        found.basis = net.basis
        return found
