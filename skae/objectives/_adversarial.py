"""Adversarial terms: a critic that tells interpolated rows from real ones (ACAI)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ._buffers import Buffers
from ._checks import check_real
from ._objective import Term
from ._schedules import Schedule


class ACAI(Term):
    r"""Adversarially constrained autoencoder interpolation [1]_.

    Codes of two rows are mixed, and a critic :math:`d` learns to tell from the decoded mixture
    :math:`\hat x_\alpha` how much of it is from either row, :math:`\alpha \in [0, 1/2]`, and to
    return 0 for rows that are not mixed. The autoencoder learns to make it return 0 for mixtures
    too, so that paths between rows look like rows. The autoencoder adds (equation 1)

    .. math:: \lambda D \, d(\hat x_\alpha)^2

    to its loss while the critic minimises (equation 2)

    .. math:: (d(\hat x_\alpha) - \alpha)^2 + d(\gamma x + (1 - \gamma) \hat x)^2 .

    The number of features :math:`D` is there because [1]_ averages squared errors over features
    and skae sums them. The critic is a perceptron with the encoder's hidden layers, trained with
    the same optimiser, and is not kept after `fit`. Held-out rows are evaluated without this term.
    In a batch of more than 4096 rows, only rows of the same slice are mixed.

    Parameters
    ----------
    weight : float or Schedule, default=0.5
        The :math:`\lambda` above.
    gamma : float, default=0.2
        The :math:`\gamma` above.

    References
    ----------
    .. [1] Berthelot, Raffel, Roy and Goodfellow, "Understanding and Improving Interpolation in
       Autoencoders via an Adversarial Regularizer", 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.objectives import ACAI
    >>> X, _ = load_iris(return_X_y=True)
    >>> model = AutoencoderTransformer(2, penalty=ACAI(weight=0.1), random_state=0).fit(X)
    >>> model.interpolate(X[:1], X[-1:], n_steps=5).shape
    (1, 5, 4)
    """

    adversarial = True

    def __init__(self, weight: float | Schedule = 0.5, gamma: float = 0.2) -> None:
        super().__init__(weight)
        self.gamma = gamma

    def begin(
        self,
        decode: Callable[[Tensor], Tensor],
        make_network: Callable[[int, int], nn.Module],
        n_features: int,
        generator: Generator,
    ) -> Term:
        """Return the term with a critic of its own, for one fit.

        Parameters
        ----------
        decode : callable
            From codes to rows in scaled units.
        make_network : callable
            ``(n_in, n_out) -> torch.nn.Module``, which makes the critic.
        n_features : int
            Number of features.
        generator : torch.Generator
            Source of the shares of mixtures, on the CPU.

        Returns
        -------
        Term
            What is called in training.
        """
        check_real(self, "gamma", "[0, 1]")
        critic = make_network(n_features, 1)
        return _ACAIWithCritic(self.weight, self.gamma, critic, decode, n_features, generator)

    def bind(self, buffers: Buffers) -> None:
        """Leave the gradient to autograd; ValueError if `gamma` is not valid."""
        check_real(self, "gamma", "[0, 1]")

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Raise, because there is no critic before `begin`."""
        raise TypeError("ACAI has no critic yet: call `begin`, and then what it returns.")


class _ACAIWithCritic(Term):
    """The term during one fit; the critic's gradients do not reach the autoencoder."""

    adversarial = True

    def __init__(
        self,
        weight: float | Schedule,
        gamma: float,
        critic: nn.Module,
        decode: Callable[[Tensor], Tensor],
        n_features: int,
        generator: Generator,
    ) -> None:
        super().__init__(weight)
        self.gamma, self.critic, self.decode = gamma, critic, decode
        self.n_features, self.generator = n_features, generator

    def parameters(self) -> list[nn.Parameter]:
        """Return the critic's weights."""
        return list(self.critic.parameters())

    def __call__(self, x: Tensor, out: Any) -> Tensor:
        """Return what either player minimises, added up, per row, shape (batch,)."""
        uniform = torch.rand(
            (len(x), 1), generator=self.generator, device="cpu", dtype=torch.float32
        )
        alpha = 0.5 * uniform.to(x)
        mixed = self.decode(alpha * out.z + (1 - alpha) * out.z.flip(0))
        partly_real = self.gamma * x + (1 - self.gamma) * out.x_hat.detach()
        told = (self.critic(mixed.detach()) - alpha).square() + self.critic(partly_real).square()
        fixed = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        fooled = torch.func.functional_call(self.critic, fixed, mixed).square()
        return (self.n_features * fooled + told)[:, 0]
