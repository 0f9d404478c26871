"""Code activations: what the encoder's output goes through (identity, logistic, top-k)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from ._checks import check_integer


class CodeActivation(ABC, BaseEstimator):
    """A map of the encoder's output to the codes, row by row.

    Attributes
    ----------
    gives_unit_codes : bool
        Whether codes lie in (0, 1).
    """

    gives_unit_codes: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, z: Tensor) -> Tensor:
        """Return codes of the same shape, (batch, n_components)."""


class Identity(CodeActivation):
    """Code activation that changes nothing.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import Identity
    >>> Identity()(torch.tensor([[1.0, -3.0]]))
    tensor([[ 1., -3.]])
    """

    def __call__(self, z: Tensor) -> Tensor:
        """Return `z`."""
        return z


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
