"""Discrete codes: what pulls encodings and codebooks together, and how long codes are in nats."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ._buffers import Bound, Buffers, in_turn
from ._objective import Term


class Commitment(Term):
    r"""Commitment loss :math:`\sum_d ||z_e - sg(z^{(d)})||^2` per row, over stages d.

    It keeps the encoder close to the codes it is assigned to ([1]_, third term of equation 3), and
    of residual codes to the sum of the vectors of each number of first stages ([2]_, equation 7).

    Where the gradient of a squared error passes straight through to the encoder, encodings move
    away from their codes, at a rate in proportion to the distance: with a weight below 1 the
    encoder stretches until ``weight`` times the squared scale is 1, and the objective grows.

    Parameters
    ----------
    weight : float or Schedule, default=1.0
        The papers' beta.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017.
    .. [2] Lee, Kim, Kim, Cho and Han, "Autoregressive Image Generation using Residual
       Quantization", 2022.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import VQVAEOutput
    >>> from skae.objectives import Commitment
    >>> z = torch.ones(1, 2)
    >>> Commitment()(z, VQVAEOutput(x_hat=z, z=z, z_e=2 * z, codes=None, z_stages=z[:, None]))
    tensor([2.])
    """

    needs_outputs = "z_e", "z_stages"
    auxiliary = True

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared distances to the codes per row, shape (batch,)."""
        return (out.z_e[:, None] - out.z_stages.detach()).square().sum((1, 2))

    def bind(self, buffers: Buffers) -> Bound:
        """Return what adds the squared distances, and their gradient in the encodings."""
        z_e, stages, factor = buffers.out.z_e[:, None], buffers.out.z_stages, 2 * buffers.factor
        gaps, sums = torch.zeros_like(stages), torch.zeros_like(stages[:, 0])
        return in_turn(
            lambda: torch.sub(z_e, stages, out=gaps),
            buffers.product(gaps, gaps),
            lambda: torch.sum(gaps, 1, out=sums),
            lambda: buffers.grad.z_e.add_(sums, alpha=factor),
        )


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
    auxiliary = True

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return the squared distance to the encodings per row, shape (batch,)."""
        return (out.z - out.z_e.detach()).square().sum(1)

    def bind(self, buffers: Buffers) -> Bound:
        """Return what adds the squared distance, and its gradient in the codes' vectors."""
        z, z_e, factor = buffers.out.z, buffers.out.z_e, 2 * buffers.factor
        gap = torch.zeros_like(z)
        return in_turn(
            lambda: torch.sub(z, z_e, out=gap),
            buffers.product(gap, gap),
            lambda: buffers.grad.z.add_(gap, alpha=factor),
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
