"""The fitted network: its weights, and rows mapped through it in blocks, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .._data.rows import as_array
from .._data.scaling import Scaling
from .._latent.basis import Basis
from .._runtime.isolation import isolated_for, seed_alike
from ..modules import Core
from ..objectives import Loss
from .blocks import cut, map_blocks, rows_per_block
from .workspace import Workspace, Workspaces

_CPU = torch.device("cpu")
_TORCH_DTYPES = {np.dtype("float32"): torch.float32, np.dtype("float64"): torch.float64}
# How wide rows may become where that is not known.
_UNKNOWN_WIDTH = 2**12
# Most values of a block that takes little memory.
_SMALL_BLOCK = 2**16

Function = Callable[[Any, Tensor], Tensor]  # (core, rows or codes) -> what is made of each


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
    basis : Basis or None, default=None
        The map between the network's codes and those that are given out and taken in.
    """

    def __init__(
        self,
        build: partial[Core],
        arrays: dict[str, np.ndarray],
        scaling: Scaling,
        loss: Loss | None = None,
        basis: Basis | None = None,
    ) -> None:
        self.build, self.arrays, self.scaling = build, arrays, scaling
        self.loss, self.basis = loss, basis
        self._cores: dict[tuple[torch.dtype, torch.device], Core] = {}
        self._workspaces: dict[tuple[np.dtype, torch.device], Workspaces] = {}
        self._remembered: dict[str, Any] = {}

    def remembered(self, name: str, find: Callable[[], Any]) -> Any:
        """Return what `find` returned of this network, which is called once and not pickled."""
        if name not in self._remembered:
            self._remembered[name] = find()
        return self._remembered[name]

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

    def decode(
        self, Z: np.ndarray, device: torch.device, to_codes: Function | None = None
    ) -> np.ndarray:
        """Return the rows that codes Z stand for, (n_rows, n_features), in Z's dtype.

        Where Z holds something else than codes, ``to_codes(core, Z)`` makes codes of it.
        """

        def rows(core: Any, z: Tensor) -> Tensor:
            return self.rows(core, z if to_codes is None else to_codes(core, z))

        def from_scaled(_: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
            return self._to_original(x_hat).astype(Z.dtype, copy=False)

        return self._map(rows, Z, device, _copy, from_scaled)

    def decoder(
        self, device: torch.device, origin: np.ndarray
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return a map from codes to the rows that they stand for, less `origin`, in float64.

        It is for one thread and for evaluation (`skae._runtime.modes.Evaluation`). What it returns
        may be written to, and holds until it is called again.
        """
        shift, scale = -origin, self.unit_of_rows
        if not self._gives_raw_rows:
            shift = self.scaling.center - origin
        exact = np.flatnonzero(self.scaling.constant & self._gives_raw_rows)
        workspaces: dict[torch.dtype, Workspace] = {}

        def decode(codes: np.ndarray) -> np.ndarray:
            z = torch.from_numpy(codes).to(device)
            if z.dtype not in workspaces:
                core = self.core(z.dtype, device)
                workspaces[z.dtype] = Workspace(core, np.dtype(np.float64))
            workspace = workspaces[z.dtype]
            with isolated_for(workspace.core, z):
                x_hat = self.rows(workspace.core, z).cpu().numpy()
            rows = np.multiply(x_hat, scale, out=workspace.array(*x_hat.shape))
            rows += shift
            rows[:, exact] = (self.scaling.mean - origin)[exact]
            return rows

        return decode

    def squared_errors(self, X: Any, device: torch.device) -> np.ndarray:
        """Return each row's squared reconstruction error in X's units, float64 (n_rows,)."""

        def error(rows: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
            gaps = self._to_original(x_hat)
            gaps -= rows
            return np.square(gaps, out=gaps).sum(1)

        def reconstruct(core: Any, x: Tensor) -> Tensor:
            return self.rows(core, self._codes(core, x))

        return self._map(reconstruct, X, device, self.scaling.to_scaled, error)

    def leave_core(self, raw: Tensor) -> Tensor:
        """Return a core's codes as they are given out."""
        return raw if self.basis is None else self.basis.enter(raw)

    def rows(self, core: Any, z: Tensor) -> Tensor:
        """Return what a core of this network makes of codes: rows, in scaled units or in X's."""
        x_hat = core.decode(z if self.basis is None else self.basis.leave(z))
        return self.loss.mean(x_hat) if self.loss else x_hat

    @property
    def unit_of_rows(self) -> np.ndarray:
        """What `rows` are multiplied by to be in X's units, shape (n_features,) or (1,)."""
        return np.ones(1) if self._gives_raw_rows else self.scaling.scale

    def _codes(self, core: Any, x: Tensor) -> Tensor:
        return self.leave_core(core.encode(x))

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
        function: Function,
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

    def map_codes(self, function: Function, Z: np.ndarray, device: torch.device) -> np.ndarray:
        """Apply ``function(core, z)``, which works row by row, to codes Z, in their dtype."""
        return self._map(function, Z, device, _copy)

    def _map(
        self,
        function: Function,
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

        ``enter(rows, array)`` brings rows to where the network reads them, in X's dtype or `dtype`.

        Raises
        ------
        NotFiniteError
            If a result is not finite.
        """
        spaces = self._workspaces_for(np.dtype(dtype or X.dtype), device)
        core, is_custom = spaces.core, spaces.is_custom
        on_cpu = device.type == "cpu"
        fixed = known and on_cpu and not is_custom
        # several copies of a row, or what a custom network makes of it, may take more room
        size = rows_per_block(spaces.widest if fixed else _UNKNOWN_WIDTH)
        cuts = cut(X.shape[0], size)
        if len(cuts) > 1 and spaces.widest * size > _SMALL_BLOCK:
            spaces = Workspaces(core, spaces.dtype)  # let go, so that fitted networks stay small

        def work(start: int, stop: int) -> np.ndarray:
            workspace, rows = spaces.take(), as_array(X[start:stop])
            x = torch.from_numpy(enter(rows, workspace.array(*rows.shape))).to(device)
            if is_custom:
                seed_alike(device)
            on_buffers = workspace.core if fixed and len(rows) in (1, size) else core
            result = leave(rows, function(on_buffers, x).cpu().numpy())
            spaces.give_back(workspace)
            return result

        multiply_adds = spaces.multiply_adds if on_cpu and not (is_custom or in_order) else 0
        with _isolation(spaces, device) if is_custom else nullcontext():
            joined = map_blocks(work, cuts, multiply_adds)
        if not np.isfinite(joined).all():
            raise NotFiniteError(
                "The result is not finite: the input holds values too far outside the range of "
                f"the training data. The largest is {abs(X).max():.1e}."
            )
        return joined

    def _workspaces_for(self, dtype: np.dtype, device: torch.device) -> Workspaces:
        """Return the core for a dtype on a device with its idle workspaces, made once."""
        key = dtype, device
        if key not in self._workspaces:
            self._workspaces[key] = Workspaces(self.core(_TORCH_DTYPES[dtype], device), dtype)
        return self._workspaces[key]


def _isolation(spaces: Workspaces, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which custom networks may run."""
    like = torch.empty(0, dtype=_TORCH_DTYPES[spaces.dtype], device=device)
    return isolated_for(spaces.core, like)


def _copy(rows: np.ndarray, array: np.ndarray) -> np.ndarray:
    array[...] = rows
    return array
