"""The objective: a sum of weighted terms, one value per row, and the contract of a term."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from sklearn.base import BaseEstimator
from torch import Tensor


class Term(ABC, BaseEstimator):
    """One term of what training minimises.

    A term returns one value per row, shape (batch,): summed over features or components here,
    averaged over rows by the training step and nowhere else.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the term in the objective.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @abstractmethod
    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the term per row, shape (batch,).

        Parameters
        ----------
        x : torch.Tensor of shape (batch, n_features)
            Rows in net units.
        out : named tuple
            What the core's ``forward`` returned for `x`.
        """


class Objective:
    """The weighted sum of terms.

    Parameters
    ----------
    *terms : Term
        The terms to add.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP, Autoencoder
    >>> from skae.objectives import Objective, SquaredError
    >>> x = torch.ones(3, 4)
    >>> Objective(SquaredError(0.5))(x, Autoencoder(MLP(4, 2, []), MLP(2, 4, []))(x)).shape
    torch.Size([3])
    """

    def __init__(self, *terms: Term) -> None:
        self.terms = terms

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the objective per row, shape (batch,)."""
        return sum((term.weight * term(x, out) for term in self.terms), start=x.new_zeros(len(x)))
