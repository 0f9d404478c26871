"""Code activations: what the encoder's output goes through (identity, logistic, top-k)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from ._buffers import Bound, in_turn
from ._checks import check_integer


class CodeActivation(ABC, BaseEstimator):
    """A map of the encoder's output to the codes, row by row.

    Attributes
    ----------
    gives_unit_codes : bool
        Whether codes lie in (0, 1).
    keeps_axes : bool
        Whether each code has a meaning of its own, which a rotation of the codes would destroy.
    """

    gives_unit_codes: ClassVar[bool] = False
    keeps_axes: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, z: Tensor) -> Tensor:
        """Return codes of the same shape, (batch, n_components)."""

    def bind(self, z: Tensor, gradient: Tensor) -> tuple[Bound, Bound] | None:
        """Return calls that turn `z` into codes, and a gradient in codes into one in `z`.

        Both work in place, on tensors of shape (batch, n_components); the second is called after
        the first, when `z` holds the codes. None is for autograd.
        """
        return None


class Identity(CodeActivation):
    """Code activation that changes nothing.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import Identity
    >>> Identity()(torch.tensor([[1.0, -3.0]]))
    tensor([[ 1., -3.]])
    """

    keeps_axes = False

    def __call__(self, z: Tensor) -> Tensor:
        """Return `z`."""
        return z

    def bind(self, z: Tensor, gradient: Tensor) -> tuple[Bound, Bound]:
        """Return calls that do nothing."""
        return in_turn(), in_turn()


class Logistic(CodeActivation):
    r"""Code activation :math:`1 / (1 + e^{-z})`: codes in (0, 1), as sparsity by KL needs them.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import Logistic
    >>> Logistic()(torch.zeros(1, 2))
    tensor([[0.5000, 0.5000]])
    """

    gives_unit_codes = True

    def __call__(self, z: Tensor) -> Tensor:
        """Return the logistic function of each entry."""
        return z.sigmoid()

    def bind(self, z: Tensor, gradient: Tensor) -> tuple[Bound, Bound]:
        """Return the function, and the product with its derivative, ``codes * (1 - codes)``."""
        derivative = torch.zeros_like(z)

        def back() -> None:
            torch.addcmul(z, z, z, value=-1, out=derivative)
            gradient.mul_(derivative)

        return z.sigmoid_, back


class TopK(CodeActivation):
    """Code activation that keeps the largest codes of each row and sets the others to zero [1]_.

    Largest means in magnitude, so that codes may have either sign.

    Parameters
    ----------
    n_active : int, default=5
        Number of codes to keep; all if there are fewer.

    References
    ----------
    .. [1] Makhzani and Frey, "k-Sparse Autoencoders", 2014.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import TopK
    >>> TopK(2)(torch.tensor([[1.0, -3.0, 2.0]]))
    tensor([[ 0., -3.,  2.]])
    """

    def __init__(self, n_active: int = 5) -> None:
        self.n_active = n_active

    def __call__(self, z: Tensor) -> Tensor:
        """Return codes (batch, n_components) with `n_active` entries per row."""
        check_integer(self, "n_active", "[1, inf)")
        chosen = z.abs().topk(min(int(self.n_active), z.shape[1]), dim=1).indices
        return torch.zeros_like(z).scatter(1, chosen, z.gather(1, chosen))

    def bind(self, z: Tensor, gradient: Tensor) -> tuple[Bound, Bound]:
        """Return what keeps the largest codes, and the gradient in these."""
        check_integer(self, "n_active", "[1, inf)")
        kept = torch.zeros_like(z)

        def activate() -> None:
            z.copy_(self(z))
            torch.ne(z, 0.0, out=kept)

        return activate, lambda: gradient.mul_(kept)
