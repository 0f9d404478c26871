"""Buffers that a term with a gradient of its own reads and adds to."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Bound = Callable[[], Any]


class Buffers:
    """The tensors that `Term.bind` is given: they stay where they are from step to step.

    A bound term is called once per batch. It adds its value, summed over the batch's rows, to what
    `total` gave it, and its gradient, times `factor`, to the tensors in `grad`. The gradient in
    ``x_hat`` belongs to the loss alone, which writes it instead of adding.

    Parameters
    ----------
    x : torch.Tensor of shape (n_rows, n_features)
        The clean rows.
    out : SimpleNamespace
        What the network returned, by the names that `Term.__call__` reads.
    grad : SimpleNamespace
        Gradients of the objective in these, by the same names.
    factor : float
        What the gradient is to be multiplied by.
    residual : torch.Tensor of shape () or (n_features,), default=None
        Where a likelihood that is asked for it writes the sum of `Likelihood.residual` over rows,
        and over features where there is one number for all.

    Attributes
    ----------
    constant : float
        What each row adds to the value, whatever it is; a term adds to it when it is bound.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import Buffers, SquaredError
    >>> x, x_hat, gradient = torch.ones(2, 3), torch.zeros(2, 3), torch.zeros(2, 3)
    >>> out, grad = SimpleNamespace(x_hat=x_hat), SimpleNamespace(x_hat=gradient)
    >>> add = SquaredError().bind(Buffers(x, out, grad, factor=1.0))
    >>> add()
    >>> gradient
    tensor([[-2., -2., -2.],
            [-2., -2., -2.]])
    """

    def __init__(
        self,
        x: Tensor,
        out: SimpleNamespace,
        grad: SimpleNamespace,
        factor: float,
        residual: Tensor | None = None,
    ) -> None:
        self.x, self.out, self.grad, self.factor = x, out, grad, factor
        self.residual = residual
        self.constant = 0.0
        self.totals: list[tuple[Tensor, float]] = []

    def with_rows(self, x: Tensor) -> Buffers:
        """Return the same buffers for other rows.

        Parameters
        ----------
        x : torch.Tensor of shape (n_rows, n_features)
            The rows.

        Returns
        -------
        Buffers
            With the same totals.
        """
        other = Buffers(x, self.out, self.grad, self.factor, self.residual)
        other.totals = self.totals
        return other

    def total(self, *shape: int, factor: float = 1.0) -> Tensor:
        """Return zeros to add to: their sum, times `factor`, counts as the term's value.

        Parameters
        ----------
        *shape : int
            Their shape.
        factor : float, default=1.0
            What the sum is multiplied by.

        Returns
        -------
        torch.Tensor
            Zeros in the rows' dtype, on their device.
        """
        zeros = torch.zeros(shape, dtype=self.x.dtype, device=self.x.device)
        self.totals.append((zeros, factor))
        return zeros

    def product(self, a: Tensor, b: Tensor, factor: float = 1.0) -> Bound:
        """Return what adds ``factor * (a * b).sum()`` to the value.

        Parameters
        ----------
        a, b : torch.Tensor
            Contiguous tensors of one shape.
        factor : float, default=1.0
            What the sum is multiplied by.

        Returns
        -------
        callable
            Without arguments.
        """
        total, row, column = self.total(1, factor=factor), a.view(1, -1), b.view(-1)

        def add() -> None:
            total.addmv_(row, column)

        return add

    def scaled(self, gradient: Tensor, factor: float) -> list[Bound]:
        """Return what multiplies a gradient by a factor: nothing if that is 1.

        Parameters
        ----------
        gradient : torch.Tensor
            The gradient.
        factor : float
            The factor.

        Returns
        -------
        list of callable
            One or none, without arguments.
        """
        return [] if factor == 1 else [lambda: gradient.mul_(factor)]


def in_turn(*calls: Bound) -> Bound:
    """Return one call that makes several, one after the other."""

    def run() -> None:
        for call in calls:
            call()

    return run
