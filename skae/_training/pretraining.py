"""Greedy pretraining: hidden layers trained one after the other before the network as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn

from .._data.batches import Rows
from .._runtime.modes import flushed_denormals
from .._runtime.threads import threads_for
from ..modules import Autoencoder
from ..objectives import Objective, Schedule, SquaredError, Term
from ..objectives._schedules import value_at
from .step import Step


class EncodedRows(Rows):
    """Rows as the layers that are trained already see them.

    Parameters
    ----------
    rows : Rows
        The rows.
    layers : list of torch.nn.Module
        What they go through.
    """

    def __init__(self, rows: Rows, layers: list[nn.Module]) -> None:
        super().__init__(rows.n_rows)
        self.rows, self.layers, self.index_device = rows, layers, rows.index_device

    @torch.no_grad()
    def take(self, index: Tensor, buffer: Tensor | None = None) -> Tensor:
        """Return the representation of the rows at `index`, shape (len(index), width)."""
        x = self.rows.take(index)
        for layer in self.layers:
            x = layer(x)
        return x


def pretrain_greedily(
    core: Any,
    rows: Rows,
    generator: Generator,
    max_iter: int,
    batch_size: int,
    learning_rate: float | Schedule,
    loss: Term,
) -> None:
    """Train each hidden layer as an autoencoder of what the layers before it return [1]_.

    The encoder's layer is paired with the decoder's that undoes it, weights tied or not. The
    outermost pair minimises the loss and the others the squared error, without dropout.

    Parameters
    ----------
    core : Core
        A network of perceptrons with as many hidden layers on either side, on its device.
    rows : Rows
        Training rows.
    generator : torch.Generator
        Source of the batches.
    max_iter, batch_size : int
        Ten times the epochs per layer, and rows per step.
    learning_rate : float or Schedule
        Step size of Adam; of a schedule, the largest at its start, middle and end.
    loss : Term
        What the reconstruction of rows is trained for.

    References
    ----------
    .. [1] Bengio, Lamblin, Popovici and Larochelle, "Greedy Layer-Wise Training of Deep Networks",
       2007.
    """
    trained: list[nn.Module] = []
    rate = max(value_at(learning_rate, progress) for progress in (0.0, 0.5, 1.0))
    for encode, decode in _pairs(core):
        seen = EncodedRows(rows, trained)
        pair = Autoencoder(encode, decode)
        objective = Objective(SquaredError() if trained else loss)
        step = Step(pair, objective, generator, learning_rate=rate)
        with flushed_denormals(), threads_for(batch_size * pair.largest_product):
            for _ in range(math.ceil(max_iter / 10)):
                step.begin_epoch(0.0)
                for x in seen.epoch(batch_size, generator):
                    step(x)
                step.end_epoch()
        trained.append(encode)


def _pairs(core: Any) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield the encoder's stages, first to last, each with the decoder's that undoes it."""
    encoder_stages, decoder_stages = core.encoder.stages(), core.decoder.stages()
    yield from zip(encoder_stages, reversed(decoder_stages), strict=True)
