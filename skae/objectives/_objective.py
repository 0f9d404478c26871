"""The objective: a sum of weighted terms, one value per row, and the contract of a term."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Generator, Tensor, nn

from ._buffers import Bound, Buffers, in_turn
from ._checks import check_per_row, check_real
from ._schedules import Schedule, value_at


class Term(ABC, BaseEstimator):
    """One term of what training minimises.

    A term returns one value per row, shape (batch,): summed over features or components here,
    averaged over rows by the training step and nowhere else.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    Attributes
    ----------
    needs_input_gradient : bool
        Whether the term differentiates with respect to ``out.x_in``.
    needs_unit_codes : bool
        Whether the term is defined for codes in (0, 1) only.
    adversarial : bool
        Whether the term is trained against the network, so that its values say nothing from one
        epoch to the next. It compares ``out.x_hat`` with rows in scaled units.
    auxiliary : bool
        Whether the term only helps training along: states of the network are compared without it.
    needs_gains : bool
        Whether the term asks for ``out.gains``: by how much a unit of each code changes a
        reconstruction, of shape (n_components,), or None for a decoder of the user's. A term that
        shrinks codes multiplies them by it, or large weights of the decoder make up for it.
    code_activation : str
        What ``code_activation="auto"`` stands for with this term.
    axis_aligned : bool
        Whether the term gives each code a meaning of its own, as sparsity does, so that codes may
        be sorted but not rotated.
    needs_outputs : tuple of str
        Fields of `out` that the term reads, beside those named in `__call__`.
    gradient_unit : float
        A factor that all gradients have, 2 for squares: `bind` is given its inverse as a factor
        where it may leave it out.
    """

    weight: float | Schedule = 1.0
    axis_aligned: ClassVar[bool] = False
    needs_outputs: ClassVar[tuple[str, ...]] = ()
    needs_input_gradient: ClassVar[bool] = False
    needs_unit_codes: ClassVar[bool] = False
    adversarial: ClassVar[bool] = False
    auxiliary: ClassVar[bool] = False
    needs_gains: ClassVar[bool] = False
    code_activation: ClassVar[str] = "identity"
    gradient_unit: float = 1.0

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        self.weight = weight

    def begin(
        self,
        decode: Callable[[Tensor], Tensor],
        make_network: Callable[[int, int], nn.Module],
        n_features: int,
        generator: Generator,
    ) -> Term:
        """Return the term as it is used in one fit; by default the term itself.

        Parameters
        ----------
        decode : callable
            From codes to rows in scaled units.
        make_network : callable
            ``(n_in, n_out) -> torch.nn.Module``, for a network of the term's own.
        n_features : int
            Number of features.
        generator : torch.Generator
            Source of what the term draws, on the CPU.

        Returns
        -------
        Term
            What is called in training.
        """
        return self

    def parameters(self) -> list[nn.Parameter]:
        """Return weights of the term's own, which are trained with the network's."""
        return []

    @abstractmethod
    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the term per row, shape (batch,).

        Parameters
        ----------
        x : torch.Tensor of shape (batch, n_features)
            The clean rows, in scaled units, or in the user's for a `Loss` with ``raw_target``.
        out : named tuple
            What the core returned: ``x_hat``, what the decoder returned; ``z``, the codes;
            ``x_in``, what the encoder was given, which is not `x` where rows are corrupted.
        """

    def bind(self, buffers: Buffers) -> Bound | None:
        """Return a call that adds the term's value and gradient to fixed buffers, or None.

        With it training makes no graph of automatic differentiation, which for small networks is
        several times faster. A class that changes `__call__` and not `bind` is left to autograd.

        Parameters
        ----------
        buffers : skae.objectives.Buffers
            What to read and what to add to.

        Returns
        -------
        callable or None
            Called without arguments once per batch. None is for autograd.

        Raises
        ------
        ValueError
            If a parameter of the term is not valid.
        """
        return None


def check_weight(term: Term) -> None:
    """Raise a ValueError if a term's weight is neither a schedule nor a number in [0, inf)."""
    if not isinstance(term.weight, Schedule):
        check_real(term, "weight", "[0, inf)")


class OnRawRows(Term):
    """A term that is given rows in the user's units instead of scaled units.

    Parameters
    ----------
    term : Term
        The term.
    center, scale : ndarray of shape (n_features,)
        ``x * scale + center`` are the rows in the user's units.
    device : torch.device
        Where the rows are.
    """

    def __init__(
        self, term: Term, center: np.ndarray, scale: np.ndarray, device: torch.device
    ) -> None:
        super().__init__(term.weight)
        self.term = term
        self.center, self.scale = (
            torch.tensor(array, device=device, dtype=torch.float64) for array in (center, scale)
        )

        self.gradient_unit = term.gradient_unit

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the term per row, shape (batch,)."""
        return self.term(x * self.scale.to(x.dtype) + self.center.to(x.dtype), out)

    def bind(self, buffers: Buffers) -> Bound | None:
        """Return what brings rows to the user's units, and then calls the bound term."""
        x, raw = buffers.x, torch.zeros_like(buffers.x)
        inner = buffers.with_rows(raw)
        bound = bound_by(self.term, FORMULAS)(inner)
        if bound is None:
            return None
        buffers.constant += inner.constant
        center, scale = self.center.to(x.dtype), self.scale.to(x.dtype)
        return in_turn(lambda: torch.addcmul(center, x, scale, out=raw), bound)


# The methods that say what a term is: a `bind` of a class above them is of another formula.
FORMULAS = "__call__", "log_prob", "residual"


def bound_by(owner: Any, formulas: tuple[str, ...], method: str = "bind") -> Callable[..., Any]:
    """Return a method of an object; one that returns None if a subclass changed only a formula."""
    kinds = type(owner).__mro__

    def depth(name: str) -> int:
        return next((i for i, kind in enumerate(kinds) if name in vars(kind)), len(kinds))

    if depth(method) <= min(map(depth, formulas)):
        found: Callable[..., Any] = getattr(owner, method)
        return found
    return lambda *arguments, **keywords: None


class Objective:
    """The weighted sum of terms.

    Parameters
    ----------
    *terms : Term
        The terms to add.

    Attributes
    ----------
    progress : float
        Where training stands between 0 and 1, for weights that follow a schedule; the training
        loop sets it. An objective that nobody trains is one at the end of training.

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
        self.progress = 1.0

    def begin(self, *arguments: Any) -> Objective:
        """Return the objective of one fit.

        Parameters
        ----------
        *arguments : object
            What `Term.begin` is given.

        Returns
        -------
        Objective
            Of the terms that these return.

        Raises
        ------
        ValueError
            If a weight is neither a schedule nor a number in [0, inf).
        """
        for term in self.terms:
            check_weight(term.term if isinstance(term, OnRawRows) else term)
        return Objective(*(term.begin(*arguments) for term in self.terms))

    def parameters(self) -> list[nn.Parameter]:
        """Return the terms' own weights."""
        return [weight for term in self.terms for weight in term.parameters()]

    def for_validation(self) -> Objective:
        """Return the objective, at the end of training, by which epochs are compared."""
        return Objective(*(term for term in self.terms if not (term.adversarial or term.auxiliary)))

    @property
    def adversarial(self) -> bool:
        """Whether a term is trained against the network."""
        return any(term.adversarial for term in self.terms)

    @property
    def schedules_finished(self) -> bool:
        """Whether all weights are what they will be at the end of training."""
        return self.weights() == [value_at(term.weight, 1.0) for term in self.terms]

    def weights(self) -> list[float]:
        """Return the terms' weights at the present progress."""
        return [value_at(term.weight, self.progress) for term in self.terms]

    @property
    def needs_input_gradient(self) -> bool:
        """Whether a term differentiates with respect to ``out.x_in``."""
        return any(term.needs_input_gradient for term in self.terms)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the objective per row, shape (batch,).

        Raises
        ------
        ValueError
            If a term does not return one value per row.
        """
        total = None
        for term in self.terms:
            values = term(x, out)
            check_per_row(values, len(x), type(term).__name__)
            weight = value_at(term.weight, self.progress)
            values = values if weight == 1 else weight * values
            total = values if total is None else total + values
        if total is None:
            return x.new_zeros(len(x))
        return total
