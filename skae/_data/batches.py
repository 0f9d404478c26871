"""How rows reach the device: resident or streamed, densified CSR, memmaps; the epoch's order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Generator, Tensor

from .rows import as_array
from .scaling import Scaling

# Above this many bytes of float32 the rows stay where they are and are gathered batch by batch,
# which takes 2 % of a step of wide rows; sparse ones take longer to densify.
_LARGEST_RESIDENT = 128 * 2**20
_LARGEST_DENSIFIED = 2 * 2**30
_FRACTION_OF_GPU = 0.5
# Rows are scaled in float64 in pieces of about this size.
_COPY_BYTES = 2**25
_SAMPLED_AT_ONCE = 256


def _batch_sizes(n_rows: int, batch_size: int) -> list[int]:
    """Return the sizes of batches.

    A single last row joins the batch before, as batch statistics need two.
    """
    n_full, rest = divmod(n_rows, batch_size)
    sizes = [batch_size] * n_full + [rest] * (rest > 0)
    if rest == 1 and n_full:
        sizes[-2:] = [batch_size + 1]
    return sizes


class Rows(ABC):
    """Rows in scaled units, float32, on a device.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    """

    index_device = torch.device("cpu")

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows

    @abstractmethod
    def take(self, index: Tensor, buffer: Tensor | None = None) -> Tensor:
        """Return the rows at `index` (int64, on `index_device`), shape (len(index), n_features).

        They are written to `buffer` if there is one.
        """

    def epoch(
        self,
        batch_size: int,
        generator: Generator,
        batch_buffer: Callable[[int], Tensor | None] = lambda n_rows: None,
    ) -> Iterator[Tensor]:
        """Yield all rows once, in batches, in an order drawn from `generator`.

        A batch is written to ``batch_buffer(n_rows)`` where that is a tensor, and then holds until
        the next one.
        """
        order = torch.randperm(self.n_rows, generator=generator, device="cpu")
        order = order.to(self.index_device)
        sizes = _batch_sizes(self.n_rows, batch_size)
        buffers = {size: batch_buffer(size) for size in set(sizes)}
        for index, size in zip(order.split(sizes), sizes, strict=True):
            yield self.take(index, buffers[size])

    def in_order(self, batch_size: int) -> Iterator[Tensor]:
        """Yield all rows once, in batches, in order."""
        for index in torch.arange(self.n_rows, device="cpu").split(batch_size):
            yield self.take(index)

    def sample(self, n_rows: int, generator: Generator) -> Iterator[Tensor]:
        """Yield, in pieces, `n_rows` rows drawn without replacement, or all if there are fewer."""
        order = torch.randperm(self.n_rows, generator=generator, device="cpu")
        for index in order[:n_rows].to(self.index_device).split(_SAMPLED_AT_ONCE):
            yield self.take(index)


class StreamedRows(Rows):
    """Rows that stay in host memory or on disk; each batch is gathered, scaled and moved.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        Where the rows are.
    index : ndarray of int
        Which of them these are.
    scaling : Scaling
        The map to scaled units.
    device : torch.device
        Where batches go.
    """

    def __init__(self, X: Any, index: np.ndarray, scaling: Scaling, device: torch.device) -> None:
        super().__init__(len(index))
        self.X, self.index, self.scaling, self.device = X, index, scaling, device
        self._in_place = isinstance(X, np.ndarray) and X.flags.c_contiguous

    def take(self, index: Tensor, buffer: Tensor | None = None) -> Tensor:
        """Gather rows on the host and move them."""
        chosen = self.index[index.numpy()]
        if buffer is not None and buffer.device.type == "cpu":
            net = buffer.numpy()
            self.scaling.to_scaled(self._gathered(chosen, net), out=net)
            return buffer
        rows = as_array(self.X[chosen])
        net = np.empty(rows.shape, dtype=np.float32)
        moved = torch.from_numpy(self.scaling.to_scaled(rows, out=net)).to(self.device)
        return moved if buffer is None else buffer.copy_(moved)

    def _gathered(self, chosen: np.ndarray, buffer: np.ndarray) -> np.ndarray:
        """Return some rows as they are, in `buffer` if they fit there."""
        if self._in_place and self.X.dtype == buffer.dtype:
            return np.take(self.X, chosen, axis=0, out=buffer, mode="clip")
        return as_array(self.X[chosen])


class ResidentRows(Rows):
    """Rows that are on the device as a whole.

    Parameters
    ----------
    values : torch.Tensor of shape (n_rows, n_features)
        The rows.
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__(len(values))
        self.values = values
        self.index_device = values.device

    def take(self, index: Tensor, buffer: Tensor | None = None) -> Tensor:
        """Gather rows on the device."""
        if buffer is None:
            return self.values.index_select(0, index)
        return torch.index_select(self.values, 0, index, out=buffer)

    def in_order(self, batch_size: int) -> Iterator[Tensor]:
        """Yield all rows once, in batches, in order, without a copy."""
        return iter(self.values.split(batch_size))


def make_rows(X: Any, index: np.ndarray, scaling: Scaling, device: torch.device) -> Rows:
    """Return rows of X, dense or CSR, resident on the device if they fit and else streamed."""
    limit = _LARGEST_DENSIFIED if sparse.issparse(X) else _LARGEST_RESIDENT
    if device.type == "cuda":
        limit = int(_FRACTION_OF_GPU * torch.cuda.mem_get_info(device)[0])
    rows = StreamedRows(X, index, scaling, device)
    shape = (len(index), X.shape[1])
    if 4 * shape[0] * shape[1] > limit:
        return rows
    values = torch.empty(shape, device=device, dtype=torch.float32)
    at_once = max(1, _COPY_BYTES // (8 * shape[1]))
    for some in torch.arange(rows.n_rows, device="cpu").split(at_once):
        rows.take(some, values[some[0] : some[-1] + 1])
    return ResidentRows(values)
