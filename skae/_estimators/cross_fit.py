"""Networks beside rows that they were not trained on: what training has gained there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._data.batches import Rows
from .._data.rows import sum_of_squares
from .._training.trainer import Trainer
from .._training.validation import BestState
from .wide import WideFit


@dataclass(frozen=True)
class Compared:
    """A network and rows that are held out from its training.

    Attributes
    ----------
    trainer : Trainer
        The network.
    mean : ndarray of shape (n_features,)
        Mean of the rows that it is trained on.
    held_out : ndarray or CSR of shape (n_rows, n_features)
        The rows, as the network sees them.
    wide : WideFit or None
        In which coordinates that is.
    """

    trainer: Trainer
    mean: np.ndarray
    held_out: Any
    wide: WideFit | None

    def rows(self) -> Rows:
        """Return the rows in scaled units on the device."""
        return self.trainer.rows(self.held_out)

    def unexplained(self, snapshot: list[Tensor], rows: Any, device: torch.device) -> float:
        """Return the squared error of rows in a state of the network, which it is left in."""
        self.trainer.step.restore(snapshot)
        if self.wide is not None:
            self.wide.forget_the_last(self.trainer.core)
        return float(self.trainer.fitted_net().squared_errors(rows, device).sum())


def gain(networks: Sequence[Compared], best: BestState, device: torch.device) -> float:
    """Return the score of held-out rows minus that of the start, after selection by others.

    Each group of rows is scored at the epoch that the other groups choose: rows of several
    networks by fold, those of one by halves. It is 0 where the start is kept. The networks are
    left in the state that is.
    """
    kept = best.choose()
    before = now = total = 0.0
    for group in range(best.n_groups if kept is not best.start else 0):
        i = group % len(networks)
        network = networks[i]
        rows = network.held_out if len(networks) > 1 else network.held_out[group :: best.n_groups]
        before += network.unexplained(best.start.snapshot[i], rows, device)
        now += network.unexplained(best.chosen_without(group).snapshot[i], rows, device)
        total += sum_of_squares(rows, network.mean)
    for network, snapshot in zip(networks, kept.snapshot, strict=True):
        network.trainer.step.restore(snapshot)
    return (before - now) / total if total else 0.0
