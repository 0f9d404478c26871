"""Corruptions: what a denoising autoencoder does to its input (noise, masking, swapping)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from sklearn.base import BaseEstimator
from torch import Generator, Tensor

from ._checks import check_real


class Corruption(ABC, BaseEstimator):
    """A random change of the rows that the encoder is given; the target stays clean.

    All draws are made on the CPU, as many as the batch has entries whatever the parameters are,
    so that a seed means the same on every device.
    """

    @abstractmethod
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return a corrupted copy of a batch.

        Parameters
        ----------
        x : torch.Tensor of shape (batch, n_features)
            The whole batch, in scaled units: centred and scaled.
        generator : torch.Generator
            Source of the draws, on the CPU.
        """


class GaussianNoise(Corruption):
    r"""Add independent normal noise to each entry, :math:`\tilde x \sim N(x, std^2 I)` [1]_.

    Parameters
    ----------
    std : float, default=0.3
        Standard deviation of the noise, in units of the scaled rows.

    References
    ----------
    .. [1] Vincent, Larochelle, Lajoie, Bengio and Manzagol, "Stacked Denoising Autoencoders:
       Learning Useful Representations in a Deep Network with a Local Denoising Criterion", 2010.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import GaussianNoise
    >>> noisy = GaussianNoise(std=2.0)(torch.zeros(1000, 5), torch.Generator().manual_seed(0))
    >>> round(float(noisy.std()), 1)
    2.0
    """

    def __init__(self, std: float = 0.3) -> None:
        self.std = std

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the batch plus noise."""
        check_real(self, "std", "[0, inf)")
        noise = torch.randn(x.shape, generator=generator, device="cpu", dtype=torch.float32)
        return x + self.std * noise.to(x)


class MaskingNoise(Corruption):
    """Set entries to 0, which is the feature's mean where rows are centred.

    Each entry is masked independently of the others ([1]_, with a number of entries that is
    fixed in the mean instead of in each row).

    Parameters
    ----------
    fraction : float, default=0.3
        Probability with which an entry is masked.

    References
    ----------
    .. [1] Vincent, Larochelle, Bengio and Manzagol, "Extracting and Composing Robust Features with
       Denoising Autoencoders", 2008.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import MaskingNoise
    >>> masked = MaskingNoise(fraction=0.25)(torch.ones(1000, 5), torch.Generator().manual_seed(0))
    >>> masked.unique()
    tensor([0., 1.])
    """

    def __init__(self, fraction: float = 0.3) -> None:
        self.fraction = fraction

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the batch with zeros in some places."""
        check_real(self, "fraction", "[0, 1]")
        return x.masked_fill(_uniform(x, generator) < self.fraction, 0.0)


class SaltAndPepperNoise(Corruption):
    """Set entries to the smallest or the largest value of their feature in the batch [1]_.

    Parameters
    ----------
    fraction : float, default=0.1
        Probability with which an entry is replaced, by either value equally often.

    References
    ----------
    .. [1] Vincent, Larochelle, Lajoie, Bengio and Manzagol, "Stacked Denoising Autoencoders:
       Learning Useful Representations in a Deep Network with a Local Denoising Criterion", 2010.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import SaltAndPepperNoise
    >>> x = torch.tensor([[0.0], [1.0], [5.0]])
    >>> noisy = SaltAndPepperNoise(fraction=1.0)(x, torch.Generator().manual_seed(0))
    >>> bool(torch.isin(noisy, torch.tensor([0.0, 5.0])).all())
    True
    """

    def __init__(self, fraction: float = 0.1) -> None:
        self.fraction = fraction

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the batch with extremes in some places."""
        check_real(self, "fraction", "[0, 1]")
        uniform = _uniform(x, generator)
        extreme = torch.where(uniform < 0.5 * self.fraction, x.amin(0), x.amax(0))
        return torch.where(uniform < self.fraction, extreme, x)


class SwapNoise(Corruption):
    """Replace entries by the same feature's entry of another row of the batch [1]_.

    Each replaced entry has a row of its own, drawn uniformly, so features keep their marginal
    distributions, of whatever kind, and lose their dependence. A batch of one row stays as it is.

    Parameters
    ----------
    fraction : float, default=0.15
        Probability with which an entry is replaced.

    References
    ----------
    .. [1] Jahrer, winning solution of the Kaggle competition "Porto Seguro's Safe Driver
       Prediction", 2017.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import SwapNoise
    >>> x = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    >>> SwapNoise(fraction=1.0)(x, torch.Generator().manual_seed(0))
    tensor([[ 2., 20.],
            [ 1., 10.]])
    """

    def __init__(self, fraction: float = 0.15) -> None:
        self.fraction = fraction

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the batch with other rows' entries in some places."""
        check_real(self, "fraction", "[0, 1]")
        uniform = _uniform(x, generator)
        return torch.where(uniform < self.fraction, x.gather(0, _other_rows(x, generator)), x)


def _uniform(x: Tensor, generator: Generator) -> Tensor:
    """Draw a number in [0, 1) for each entry of `x`."""
    return torch.rand(x.shape, generator=generator, device="cpu", dtype=torch.float32).to(x.device)


def _other_rows(x: Tensor, generator: Generator) -> Tensor:
    """Draw the index of another row for each entry of `x`; of two rows at least."""
    n_rows = len(x)
    steps = torch.randint(1, max(n_rows, 2), x.shape, generator=generator, device="cpu")
    own_rows = torch.arange(n_rows, device="cpu")[:, None]
    return ((own_rows + steps) % n_rows).to(x.device)


class _WithoutLast(Corruption):
    """Hide the last coordinate of rows, see `Loss.in_coordinates`, from the encoder."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the batch, the last column zero."""
        x[:, -1] = 0.0
        return x
