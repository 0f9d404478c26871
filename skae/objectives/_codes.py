"""Discrete codes: what pulls encodings and codebooks together, and how long codes are in nats."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ._buffers import Bound, Buffers, in_turn
from ._objective import Term
from ._schedules import Schedule


class Commitment(Term):
    r"""Commitment loss :math:`||z_e - sg(z)||^2` per row.

    It keeps the encoder close to the codes it is assigned to ([1]_, third term of equation 3).

    Parameters
    ----------
    weight : float or Schedule, default=0.25
        The paper's beta.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import VQVAEOutput
    >>> from skae.objectives import Commitment
    >>> z = torch.ones(1, 2)
    >>> Commitment()(z, VQVAEOutput(x_hat=z, z=z, z_e=2 * z, codes=None))
    tensor([2.])
    """

    needs_outputs = ("z_e",)

    def __init__(self, weight: float | Schedule = 0.25) -> None:
        super().__init__(weight)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared distance to the codes per row, shape (batch,)."""
        return (out.z_e - out.z.detach()).square().sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what adds the squared distance, and its gradient in the encodings."""
        return _bind_distance(buffers, buffers.out.z_e, buffers.out.z, buffers.grad.z_e)


class CodebookLoss(Term):
    r"""Codebook loss :math:`||sg(z_e) - z||^2` per row.

    It moves codebook vectors towards the encodings that they stand for ([1]_, second term of
    equation 3), where they are trained by gradients. Its gradients reach nothing else.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import VQVAEOutput
    >>> from skae.objectives import CodebookLoss
    >>> z = torch.ones(1, 2)
    >>> CodebookLoss()(z, VQVAEOutput(x_hat=z, z=3 * z, z_e=z, codes=None))
    tensor([8.])
    """

    needs_outputs = ("z_e",)

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared distance to the encodings per row, shape (batch,)."""
        return (out.z - out.z_e.detach()).square().sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what adds the squared distance, and its gradient in the codes' vectors."""
        return _bind_distance(buffers, buffers.out.z, buffers.out.z_e, buffers.grad.z)


def _bind_distance(buffers: Buffers, moved: Tensor, fixed: Tensor, gradient: Tensor) -> Bound:
    gap, factor = torch.zeros_like(moved), 2 * buffers.factor
    return in_turn(
        lambda: torch.sub(moved, fixed, out=gap),
        buffers.product(gap, gap),
        lambda: gradient.add_(gap, alpha=factor),
    )


class CodeLength(Term):
    r"""Length of a row of integer codes, :math:`-\sum_i \log p(c_i | c_1 \dots c_{i-1})`, in nats.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        Factor of the term in the objective.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import CausalAutoencoder
    >>> from skae.objectives import CodeLength
    >>> network, codes = CausalAutoencoder(3, 8, n_hidden=4), torch.zeros(1, 3)
    >>> CodeLength()(codes, network(codes)) / torch.tensor(8.0).log()  # at first all are even
    tensor([3.], grad_fn=<DivBackward0>)
    """

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the length per row, shape (batch,).

        Parameters
        ----------
        x : torch.Tensor of shape (batch, n_codes)
            Codes, whole numbers of any dtype.
        out : named tuple
            What the network returned: ``x_hat``, logits of shape (n_codes, batch, codebook_size).
        """
        codes = x.T.flatten().long()
        lengths = cross_entropy(out.x_hat.flatten(0, 1), codes, reduction="none")
        return lengths.view(x.T.shape).sum(0)
