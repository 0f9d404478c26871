"""Penalties: what is asked of the codes (sparse by L1 or KL, small by L2, contractive)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._buffers import Bound, Buffers, in_turn
from ._checks import check_real
from ._objective import Term
from ._schedules import Schedule

# Codes that are all exactly 0 or all exactly 1 would make the sparsity's logarithms infinite.
LEAST_ACTIVATION = 1e-6


class L1(Term):
    r"""Sum of the codes' absolute values, :math:`\sum_j g_j |z_j|` per row: sparse codes.

    A code is weighted by the decoder's gain, :math:`g_j`, the norm of its column, as in the lasso
    with columns of unit norm: without it codes shrink, the decoder grows, and nothing is sparse.
    With hidden layers it is the root of the sum, over all paths from the code to the outputs, of
    the product of the squared weights ([1]_, the path norm for p = 2), which is the same however
    the weights are shared out among encoder and decoder, and among ReLU layers. A decoder of the
    user's has no such norm: the gains are 1.

    Of a linear decoder with orthonormal columns the best codes are those without the penalty, drawn
    towards zero by half of the weight. A network's codes are small in many rows and zero in none;
    ``code_activation="auto"`` is therefore `SoftThreshold` with this term.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in the objective, in scaled units: half of it is the size of codes, in
        units in which features have a variance of about 1, that it does not pay to use.

    References
    ----------
    .. [1] Neyshabur, Tomioka and Srebro, "Norm-Based Capacity Control in Neural Networks", 2015.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import L1
    >>> x, z = torch.zeros(1, 3), torch.tensor([[3.0, -4.0]])
    >>> L1()(x, SimpleNamespace(x_hat=x, z=z, x_in=x, gains=torch.tensor([1.0, 0.5])))
    tensor([5.])
    """

    axis_aligned = True
    needs_gains = True
    code_activation = "soft_threshold"

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the sum of absolute codes, times gains, per row, shape (batch,)."""
        sizes, gains = out.z.abs(), getattr(out, "gains", None)
        return sizes.sum(1) if gains is None else sizes @ gains

    def bind(self, buffers: Buffers) -> Bound:
        """Return what adds the codes times their signs, and the signs to the gradient."""
        z, gradient, factor = buffers.out.z, buffers.grad.z, buffers.factor
        signs, gains = torch.zeros_like(z), getattr(buffers.out, "gains", None)
        if gains is None:
            return in_turn(
                lambda: torch.sign(z, out=signs),
                buffers.product(signs, z),
                lambda: gradient.add_(signs, alpha=factor),
            )
        total, gains_gradient = buffers.total(*gains.shape), buffers.grad.gains

        def run() -> None:
            torch.sign(z, out=signs)
            sums = (signs * z).sum(0)
            total.addcmul_(sums, gains)
            gains_gradient.add_(sums, alpha=factor)
            gradient.addcmul_(signs, gains, value=factor)

        return run


class L2(Term):
    r"""Squared length of the code, :math:`\sum_j z_j^2` per row: small codes.

    Parameters
    ----------
    weight : float or Schedule, default=1e-3
        Factor of the term in the objective.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import L2
    >>> x, z = torch.zeros(1, 3), torch.tensor([[3.0, -4.0]])
    >>> L2()(x, SimpleNamespace(x_hat=x, z=z, x_in=x))
    tensor([25.])
    """

    def __init__(self, weight: float | Schedule = 1e-3) -> None:
        super().__init__(weight)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the sum of squared codes per row, shape (batch,)."""
        return out.z.square().sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what adds the codes' squares, and twice the codes to the gradient."""
        z, gradient, factor = buffers.out.z, buffers.grad.z, 2 * buffers.factor
        return in_turn(buffers.product(z, z), lambda: gradient.add_(z, alpha=factor))


class KLSparsity(Term):
    r"""Sparsity of codes in (0, 1): how far their mean activations are from a target.

    The divergence, in nats, of Bernoulli variables with the target :math:`\rho` and the codes'
    means :math:`\hat\rho_j` over the rows that are passed through together [1]_,

    .. math:: \sum_j \rho \log \frac{\rho}{\hat\rho_j}
              + (1 - \rho) \log \frac{1 - \rho}{1 - \hat\rho_j}

    Codes that stay near their target in every row would reach it too, beside a decoder that has
    grown. What a code changes in a row is therefore held: the decoder's gain of a code, :math:`g_j`
    (see `L1`), may be what a code needs that is 1 in a share :math:`\rho` of the rows, 0 in others,
    and carries one of k equal shares of the rows' mean squared distance from their mean,
    :math:`v`. Beyond that its excess counts,

    .. math:: \sum_j \max\left(\frac{g_j}{g} - 1, 0\right)^2, \qquad
              g^2 = \frac{v}{k \, \rho (1 - \rho)}

    Notes in [1]_ use weight decay for it. A decoder of the user's has no gains and is not held.

    The term belongs to the rows as a whole, so each of them gets the same value. Of a batch of more
    than 4096 rows, that are the rows of each of its slices.

    Parameters
    ----------
    target : float, default=0.05
        Mean activation :math:`\rho` to aim at, in (0, 1).
    weight : float or Schedule, default=30.0
        Factor of the term in the objective; the default brings the mean activations of images of
        digits within 0.02 of the target, and of linear networks within 0.05.

    References
    ----------
    .. [1] Ng, "Sparse Autoencoder", CS294A lecture notes, 2011.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import KLSparsity
    >>> x, z = torch.zeros(2, 3), torch.tensor([[0.1], [0.4]])
    >>> KLSparsity(target=0.25)(x, SimpleNamespace(x_hat=x, z=z, x_in=x))
    tensor([0., 0.])
    """

    axis_aligned = True
    needs_unit_codes = True
    needs_gains = True
    code_activation = "logistic"

    def __init__(self, target: float = 0.05, weight: float | Schedule = 30.0) -> None:
        super().__init__(weight)
        self.target = target

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the divergence for each row, shape (batch,)."""
        check_real(self, "target", "(0, 1)")
        on, off = self.target, 1 - self.target
        mean = out.z.mean(0).clamp(LEAST_ACTIVATION, 1 - LEAST_ACTIVATION)
        divergence = on * (math.log(on) - mean.log()) + off * (math.log(off) - (-mean).log1p())
        value, gains = divergence.sum(), getattr(out, "gains", None)
        if gains is not None:
            value = value + (gains / self._most(x, len(gains)) - 1).clamp(min=0).square().sum()
        return value.expand(len(x))

    def _most(self, x: Tensor, n_components: int) -> Tensor:
        """Return the largest gain that codes of these rows need, shape ()."""
        variance = x.var(0, correction=0).sum()
        return (variance / (n_components * self.target * (1 - self.target))).sqrt().clamp(min=1e-6)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what adds the divergence for each row, and its gradient in the codes."""
        check_real(self, "target", "(0, 1)")
        z, gradient, factor = buffers.out.z, buffers.grad.z, buffers.factor
        n_rows, width = z.shape
        target, low, high = float(self.target), LEAST_ACTIVATION, 1 - LEAST_ACTIVATION
        buffers.constant += width * (target * math.log(target) + (1 - target) * math.log1p(-target))
        logs, logs_off = (
            buffers.total(width, factor=-n_rows * share) for share in (target, 1 - target)
        )

        def run() -> None:
            mean = z.mean(0)
            on = mean.clamp(low, high)
            logs.add_(on.log())
            logs_off.add_(on.neg().log1p_())
            derivative = (on - target) / (on * (1 - on))
            gradient.add_(derivative.mul_(on == mean), alpha=factor)

        gains = getattr(buffers.out, "gains", None)
        return run if gains is None else in_turn(run, self._bind_gains(buffers, gains))

    def _bind_gains(self, buffers: Buffers, gains: Tensor) -> Bound:
        """Return what adds the gains' excess for each row, and its gradient in the gains."""
        x, gradient = buffers.x, buffers.grad.gains
        total = buffers.total(*gains.shape, factor=len(x))
        factor = 2 * len(x) * buffers.factor

        def run() -> None:
            most = self._most(x, len(gains))
            excess = (gains / most - 1).clamp_(min=0)
            total.addcmul_(excess, excess)
            gradient.add_(excess.div_(most), alpha=factor)

        return run


class Contractive(Term):
    r"""Squared Frobenius norm of the encoder's Jacobian, per row [1]_.

    .. math:: ||J(x)||_F^2 = \sum_{ij} \left(\frac{\partial z_j(x)}{\partial x_i}\right)^2

    It is exact for any encoder that treats rows independently, and costs a pass backwards through
    the encoder for each code.

    Parameters
    ----------
    weight : float or Schedule, default=0.1
        Factor of the term in the objective.

    References
    ----------
    .. [1] Rifai, Vincent, Muller, Glorot and Bengio, "Contractive Auto-Encoders: Explicit
       Invariance During Feature Extraction", 2011.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import torch
    >>> from skae.objectives import Contractive
    >>> x = torch.ones(2, 3, requires_grad=True)
    >>> out = SimpleNamespace(x_hat=x, z=2 * x[:, :2], x_in=x)
    >>> Contractive()(x, out).detach()
    tensor([8., 8.])
    """

    needs_input_gradient = True

    def __init__(self, weight: float | Schedule = 0.1) -> None:
        super().__init__(weight)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared norm of the Jacobian per row, shape (batch,)."""
        norms = [_squared_gradient(code, out.x_in) for code in out.z.unbind(1)]
        return torch.stack(norms).sum(0)


def _squared_gradient(code: Tensor, x: Tensor) -> Tensor:
    """Return the squared length of one code's gradient per row, itself differentiable."""
    # A row's code depends on that row alone, so the sum's gradient is that of each row's code.
    (gradient,) = torch.autograd.grad(code.sum(), x, create_graph=True)
    return gradient.square().sum(1)
