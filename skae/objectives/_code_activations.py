"""Code activations: what the encoder's output goes through (logistic, soft threshold, top-k)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.functional import softshrink

from ._buffers import Bound, in_turn
from ._checks import check_integer, check_real


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


class SoftThreshold(CodeActivation):
    r"""Code activation that draws codes towards zero, and makes small ones zero [1]_.

    .. math:: S(z) = \operatorname{sign}(z) \max(|z| - t, 0)

    The gradient in an entry that is zero is taken to be a small share of what it would be beyond
    the threshold, instead of zero, which is an estimate that lets a code come back that is zero
    on all rows ([2]_ has straight-through estimators of this kind).

    Parameters
    ----------
    threshold : float, default=1.0
        The :math:`t` above, in scaled units. The encoder learns how large codes are beside it.
    leak : float, default=0.1
        The share, in [0, 1].

    References
    ----------
    .. [1] Gregor and LeCun, "Learning Fast Approximations of Sparse Coding", 2010.
    .. [2] Bengio, Leonard and Courville, "Estimating or Propagating Gradients Through Stochastic
       Neurons for Conditional Computation", 2013.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import SoftThreshold
    >>> SoftThreshold(0.5)(torch.tensor([[1.0, -3.0, 0.2]]))
    tensor([[ 0.5000, -2.5000,  0.0000]])
    """

    def __init__(self, threshold: float = 1.0, leak: float = 0.1) -> None:
        self.threshold, self.leak = threshold, leak

    def _check(self) -> None:
        check_real(self, "threshold", "[0, inf)")
        check_real(self, "leak", "[0, 1]")

    def __call__(self, z: Tensor) -> Tensor:
        """Return codes (batch, n_components)."""
        self._check()
        shrink: Any = _LeakyShrinkage.apply
        codes: Tensor = shrink(z, self.threshold, self.leak)
        return codes

    def bind(self, z: Tensor, gradient: Tensor) -> tuple[Bound, Bound]:
        """Return what shrinks codes, and the gradient in those that became zero."""
        self._check()
        kept, leak = torch.zeros_like(z), float(self.leak)

        def activate() -> None:
            z.copy_(softshrink(z, float(self.threshold)))
            torch.ne(z, 0.0, out=kept)
            kept.mul_(1 - leak).add_(leak)

        return activate, lambda: gradient.mul_(kept)


class _LeakyShrinkage(torch.autograd.Function):
    """Shrinkage, whose gradient leaks through zeros."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: float, leak: float) -> Tensor:
        """Return the codes."""
        codes = softshrink(z, threshold)
        ctx.save_for_backward(codes)
        ctx.leak = leak
        return codes

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        """Return the gradient in what was shrunk."""
        (codes,), (gradient,) = ctx.saved_tensors, gradients
        return torch.where(codes == 0, ctx.leak * gradient, gradient), None, None


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
