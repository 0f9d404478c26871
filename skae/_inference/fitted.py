"""Encode and decode in row order, in fixed blocks, without gradients; the fitted network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .._data.rows import as_array
from .._data.scaling import Scaling
from .._engine.layers import on_buffers
from .._latent.basis import LatentBasis
from .._runtime.isolation import isolated_for, seed_alike
from ..modules import Core
from ..modules._custom import with_networks
from ..objectives import Loss
from .blocks import cut, map_blocks, rows_per_block

_CPU = torch.device("cpu")
_TORCH_DTYPES = {np.dtype("float32"): torch.float32, np.dtype("float64"): torch.float64}
_FEATURES_AT_ONCE = 128
# How wide rows may become where that is not known.
_UNKNOWN_WIDTH = 2**12
# Most values of a block that takes little memory.
_SMALL_BLOCK = 2**16


class NotFiniteError(ValueError):
    """What a network makes of rows or codes is not finite."""


class FittedNet:
    """A trained network: plain NumPy arrays, and torch modules that hold the same.

    Pickles hold the arrays only, so they are small, do not depend on the torch version or on a
    GPU, and can be hashed; the module is built anew when it is first needed after that.

    Parameters
    ----------
    build : functools.partial
        ``build(generator=...) -> Core``: makes the network, whose weights are then loaded; its
        keywords describe it.
    arrays : dict of str to ndarray
        The network's state.
    scaling : Scaling
        The map between rows and the network's units.
    loss : Loss or None, default=None
        The loss that says what rows the decoder's output stands for; None where it returns rows
        in scaled units.
    basis : LatentBasis or None, default=None
        The map between the network's codes and those that are given out and taken in.
    """

    def __init__(
        self,
        build: partial[Core],
        arrays: dict[str, np.ndarray],
        scaling: Scaling,
        loss: Loss | None = None,
        basis: LatentBasis | None = None,
    ) -> None:
        self.build, self.arrays, self.scaling = build, arrays, scaling
        self.loss, self.basis = loss, basis
        self._cores: dict[tuple[torch.dtype, torch.device], Core] = {}
        self._idle: dict[tuple[torch.dtype, torch.device], list[_Workspace]] = {}

    @classmethod
    def from_core(
        cls,
        build: partial[Core],
        blank: Core,
        core: Core,
        scaling: Scaling,
        loss: Loss | None = None,
    ) -> FittedNet:
        """Copy a trained core's state into `blank`, a core of the same build."""
        arrays = {name: value.cpu().numpy().copy() for name, value in core.state_dict().items()}
        net = cls(build, arrays, scaling, loss)
        net._load(blank)
        return net

    def __getstate__(self) -> dict[str, Any]:
        names = ("build", "arrays", "scaling", "loss", "basis")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _load(self, blank: Core) -> None:
        """Let `blank`, a float32 core on the CPU, hold these weights."""
        blank.load_state_dict(
            {name: torch.tensor(array, device="cpu") for name, array in self.arrays.items()}
        )
        self._has_custom_parts = blank.has_custom_parts
        self._cores[torch.float32, _CPU] = blank.eval()

    def make_core(self) -> Core:
        """Return a new float32 core on the CPU with these weights, to be trained."""
        return deepcopy(self.core(torch.float32, _CPU)).train()

    def core(self, dtype: torch.dtype, device: torch.device) -> Core:
        """Return the core for evaluation in a dtype on a device, made once."""
        if (torch.float32, _CPU) not in self._cores:
            self._load(self.build(generator=Generator("cpu").manual_seed(0)))
        if (dtype, device) not in self._cores:
            core = deepcopy(self._cores[torch.float32, _CPU])
            self._cores[dtype, device] = core.to(dtype=dtype, device=device)
        return self._cores[dtype, device]

    def encode(self, X: Any, device: torch.device) -> np.ndarray:
        """Return the codes of rows X, shape (n_rows, n_components), in X's dtype."""
        return self.map_rows(self._codes, X, device)

    def decode(self, Z: np.ndarray, device: torch.device) -> np.ndarray:
        """Return the rows that codes Z stand for, (n_rows, n_features), in Z's dtype."""

        def from_scaled(_: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
            return self._to_original(x_hat).astype(Z.dtype, copy=False)

        return self._map(self._rows, Z, device, _copy, from_scaled)

    def decoder(
        self, device: torch.device, origin: np.ndarray
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return a map from codes to the rows that they stand for, less `origin`, in float64.

        It is for one thread and for evaluation (`skae._device.Evaluation`). What it returns may be
        written to, and holds until it is called again.
        """
        shift, scale = -origin, np.ones(1)
        if not self._gives_raw_rows:
            shift, scale = self.scaling.center - origin, self.scaling.scale
        exact = np.flatnonzero(self.scaling.constant & self._gives_raw_rows)
        workspaces: dict[torch.dtype, _Workspace] = {}

        def decode(codes: np.ndarray) -> np.ndarray:
            z = torch.from_numpy(codes).to(device)
            if z.dtype not in workspaces:
                core = self.core(z.dtype, device)
                workspaces[z.dtype] = _Workspace(core, np.dtype(np.float64))
            workspace = workspaces[z.dtype]
            with isolated_for(workspace.core, z):
                x_hat = self._rows(workspace.core, z).cpu().numpy()
            rows = np.multiply(x_hat, scale, out=workspace.place(*x_hat.shape))
            rows += shift
            rows[:, exact] = (self.scaling.mean - origin)[exact]
            return rows

        return decode

    def decode_codes(self, codes: np.ndarray, device: torch.device) -> np.ndarray:
        """Return the rows that integer codes stand for, float64 (n_rows, n_features)."""
        return self._map(
            lambda core, z: self._rows(core, self._vectors(core, z)),
            codes,
            device,
            _copy,
            lambda _, x_hat: self._to_original(x_hat),
            dtype=np.float64,
        )

    def lookup(self, codes: np.ndarray, device: torch.device) -> np.ndarray:
        """Return the vectors that integer codes stand for, float64 (n_rows, n_components)."""
        return self._map(self._vectors, codes, device, _copy, dtype=np.float64)

    def _vectors(self, core: Any, codes: Tensor) -> Tensor:
        found: Tensor = core.quantizer.lookup(codes.long())
        return found if self.basis is None else self.basis.enter(found)

    def squared_errors(self, X: Any, device: torch.device) -> np.ndarray:
        """Return each row's squared reconstruction error in X's units, float64 (n_rows,)."""

        def error(rows: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
            gaps = self._to_original(x_hat)
            gaps -= rows
            return np.square(gaps, out=gaps).sum(1)

        return self._map(
            lambda core, x: self._rows(core, self._codes(core, x)),
            X,
            device,
            self.scaling.to_scaled,
            error,
        )

    def loadings(self, code: np.ndarray, device: torch.device) -> np.ndarray:
        """Return the Jacobian of `decode` at a code, float64 (n_components, n_features)."""
        core = self.core(torch.float64, device)
        at = torch.tensor(code, device=device, dtype=torch.float64)
        rows = partial(self._rows, core)
        with isolated_for(core, at):
            gradients = _jacobian(rows, at)
        scale = 1.0 if self._gives_raw_rows else self.scaling.scale
        return gradients.cpu().numpy() * scale

    def _codes(self, core: Any, x: Tensor) -> Tensor:
        raw = core.encode(x)
        return raw if self.basis is None else self.basis.enter(raw)

    def _rows(self, core: Any, z: Tensor) -> Tensor:
        x_hat = core.decode(z if self.basis is None else self.basis.leave(z))
        return self.loss.mean(x_hat) if self.loss else x_hat

    @property
    def _gives_raw_rows(self) -> bool:
        return self.loss is not None and self.loss.raw_target

    def _to_original(self, x_hat: np.ndarray) -> np.ndarray:
        """Return rows in the user's units, float64; features without variance are exact."""
        if not self._gives_raw_rows:
            return self.scaling.from_scaled(x_hat)
        return np.where(self.scaling.constant, self.scaling.mean, x_hat.astype(np.float64))

    def map_rows(
        self,
        function: Callable[[Any, Tensor], Tensor],
        X: Any,
        device: torch.device,
        dtype: Any = None,
        *,
        known: bool = True,
        in_order: bool = False,
    ) -> np.ndarray:
        """Apply ``function(core, x)``, which works row by row, to rows X in scaled units.

        It is computed in X's dtype, or in `dtype`. `known` says that each row goes through the
        core's own maps, and not in several copies or through others; `in_order`, that blocks are to
        be worked off one after the other, as where they draw from one generator.
        """
        how = {"dtype": dtype, "known": known, "in_order": in_order}
        return self._map(function, X, device, self.scaling.to_scaled, **how)

    def _map(
        self,
        function: Callable[[Any, Tensor], Tensor],
        X: Any,
        device: torch.device,
        enter: Callable[[np.ndarray, np.ndarray], np.ndarray],
        leave: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda _, result: result.copy(),
        *,
        dtype: Any = None,
        known: bool = True,
        in_order: bool = False,
    ) -> np.ndarray:
        """Apply ``leave(rows, function(core, rows in scaled units))`` block by block.

        ``enter(rows, place)`` brings rows to where the network reads them, in X's dtype or `dtype`.

        Raises
        ------
        NotFiniteError
            If a result is not finite.
        """
        dtype = np.dtype(dtype or X.dtype)
        kind = _TORCH_DTYPES[dtype]
        core = self.core(kind, device)
        fixed = known and device == _CPU and not self._has_custom_parts
        # several copies of a row, or what a network of the user's makes of it, may take more room
        size = rows_per_block(core.widest if fixed else _UNKNOWN_WIDTH)
        cuts = cut(X.shape[0], size)
        # what many large blocks need is let go, so that fitted networks stay small
        small = len(cuts) == 1 or core.widest * size <= _SMALL_BLOCK
        idle = self._idle.setdefault((kind, device), []) if small else []

        def work(start: int, stop: int) -> np.ndarray:
            workspace = _taken_from(idle) or _Workspace(core, dtype)
            rows = as_array(X[start:stop])
            x = torch.from_numpy(enter(rows, workspace.place(*rows.shape))).to(device)
            if self._has_custom_parts:
                seed_alike(device)
            own = workspace.core if fixed and len(rows) in (1, size) else core
            left = leave(rows, function(own, x).cpu().numpy())
            idle.append(workspace)
            return left

        shareable = device.type == "cpu" and not self._has_custom_parts and not in_order
        multiply_adds = core.n_weights if shareable and len(cuts) > 1 else 0
        with self._isolation(kind, device) if self._has_custom_parts else nullcontext():
            joined = map_blocks(work, cuts, multiply_adds)
        if not np.isfinite(joined).all():
            raise NotFiniteError(
                "The result is not finite: the input holds values too far outside the range of "
                f"the training data. The largest is {abs(X).max():.1e}."
            )
        return joined

    def _isolation(self, dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
        """Return the context in which networks of the user's may run."""
        like = torch.empty(0, dtype=dtype, device=device)
        return isolated_for(self.core(like.dtype, device), like)


class _Workspace:
    """What one thread needs to work off blocks: a core on buffers, and places for rows.

    Parameters
    ----------
    core : Core
        The core.
    dtype : dtype
        That of the rows.
    """

    def __init__(self, core: Core, dtype: np.dtype) -> None:
        self.core, self._dtype = _on_buffers(core), dtype
        self._places: dict[int, np.ndarray] = {}

    def place(self, n_rows: int, width: int) -> np.ndarray:
        """Return the array for so many rows, which holds what it did."""
        if width not in self._places or len(self._places[width]) < n_rows:
            self._places[width] = np.empty((n_rows, width), dtype=self._dtype)
        return self._places[width][:n_rows]


def _taken_from(idle: list[_Workspace]) -> _Workspace | None:
    """Take a workspace that no thread is at, if there is one."""
    with suppress(IndexError):
        return idle.pop()
    return None


def _on_buffers(core: Core) -> Core:
    """Return a core for one thread, with the same weights, whose perceptrons allocate nothing."""
    return with_networks(core, on_buffers)


def _copy(rows: np.ndarray, place: np.ndarray) -> np.ndarray:
    place[...] = rows
    return place


def _jacobian(rows: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Return the Jacobian (n_components, n_features) of `rows` at a code.

    It is made of gradients of the features, some at a time: networks of the user's are sure to have
    these, but perhaps no second ones.
    """
    with torch.no_grad():
        n_features = rows(at.expand(1, -1)).shape[1]
    parts = []
    for features in torch.arange(n_features, device=at.device).split(_FEATURES_AT_ONCE):
        codes = at.repeat(len(features), 1).requires_grad_()
        chosen = rows(codes).gather(1, features[:, None])
        parts.append(torch.autograd.grad(chosen.sum(), codes)[0])
    return torch.cat(parts).T
