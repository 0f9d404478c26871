"""Quantization: how code vectors become integers (vector, residual, finite scalar), for a slot."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from ._sklearn.params import allows, integer
from .modules import FiniteScalarQuantizer, Quantizer, VectorQuantizer
from .objectives import CodebookLoss, Commitment, Term

__all__ = ["FiniteScalarQuantization", "Quantization", "VectorQuantization"]


class Quantization(ABC, BaseEstimator):
    """How the vectors that an encoding is cut into become integers.

    For one of your own, write `build`, and `terms` where training needs other ones.

    Attributes
    ----------
    learned : bool
        Whether codebooks are learned. They then have at most as many vectors as there are
        distinct training rows, and codes that fall out of use are restarted.
    """

    learned: ClassVar[bool] = True

    @abstractmethod
    def build(
        self, n_parts: int, codebook_size: int, code_dim: int, decay: float | None
    ) -> Quantizer:
        """Return the quantizer as part of a network.

        Parameters
        ----------
        n_parts : int
            Number of vectors that an encoding is cut into.
        codebook_size : int
            Number of vectors per codebook.
        code_dim : int
            Length of a vector.
        decay : float or None
            Decay of the codebooks' moving averages; None for codebooks trained by gradients.

        Returns
        -------
        skae.modules.Quantizer
        """

    def check(self, codebook_size: int, code_dim: int | None) -> None:
        """Check the parameters, before rows are touched.

        Parameters
        ----------
        codebook_size : int
            Largest number of vectors per codebook.
        code_dim : int or None
            Length of a vector; None where the rows decide it.

        Raises
        ------
        ValueError
            If one is not valid, or does not go with these.
        """

    def terms(self, commitment_weight: float, by_gradient: bool) -> list[Term]:
        """Return what the objective holds beside the reconstruction.

        Parameters
        ----------
        commitment_weight : float
            Weight of the commitment loss.
        by_gradient : bool
            Whether codebooks are trained by gradients.

        Returns
        -------
        list of skae.objectives.Term
        """
        commitment: list[Term] = [Commitment(commitment_weight)]
        return [CodebookLoss(), *commitment] if by_gradient else commitment


class VectorQuantization(Quantization):
    """Each vector becomes its nearest code, in one stage or in several that add up.

    Parameters
    ----------
    n_stages : int, default=1
        Number of codes for each vector: each stage's code stands for what those before have left
        over ([1]_, equation 2).
    shared : bool, default=False
        Whether the vectors of a row share one codebook (per stage), as in [2]_, or have one each.

    References
    ----------
    .. [1] Lee, Kim, Kim, Cho and Han, "Autoregressive Image Generation using Residual
       Quantization", 2022.
    .. [2] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import VQVAETransformer
    >>> from skae.quantization import VectorQuantization
    >>> X, _ = load_digits(return_X_y=True)
    >>> vqvae = VQVAETransformer(
    ...     8, codebook_size=32, quantizer=VectorQuantization(n_stages=2), max_iter=0
    ... )
    >>> vqvae.fit(X[:500]).codebook_.shape  # two stages of two vectors
    (4, 32, 4)
    """

    def __init__(self, n_stages: int = 1, shared: bool = False) -> None:
        self.n_stages = n_stages
        self.shared = shared

    def check(self, codebook_size: int, code_dim: int | None) -> None:
        """Check `n_stages` and `shared`.

        Parameters
        ----------
        codebook_size : int
            Ignored: any number of vectors will do.
        code_dim : int or None
            Length of a vector; None where the rows decide it.

        Raises
        ------
        ValueError
            If one is not valid.
        """
        if not allows(["boolean"], self.shared):
            raise ValueError(f"shared of {self!r} must be a bool. Got {self.shared!r}.")
        if not integer("[1, inf)").is_satisfied_by(self.n_stages):
            raise ValueError(
                f"n_stages of {self!r} must be an int in the range [1, inf). Got {self.n_stages!r}."
            )

    def build(
        self, n_parts: int, codebook_size: int, code_dim: int, decay: float | None
    ) -> Quantizer:
        """Return codebooks.

        Parameters
        ----------
        n_parts : int
            Number of vectors that an encoding is cut into.
        codebook_size : int
            Number of vectors per codebook.
        code_dim : int
            Length of a vector.
        decay : float or None
            Decay of the codebooks' moving averages; None for codebooks trained by gradients.

        Returns
        -------
        skae.modules.VectorQuantizer
        """
        return VectorQuantizer(
            n_parts,
            codebook_size,
            code_dim,
            n_stages=self.n_stages,
            shared=self.shared,
            decay=decay,
        )


class FiniteScalarQuantization(Quantization):
    """Each component of a vector is bounded and rounded to one of a few levels [1]_.

    There is no codebook to be learned and no commitment loss: a vector's code is its place in a
    grid. `codebook_update`, `decay`, `commitment_weight` and `dead_code_threshold` of the
    transformer have no effect.

    Parameters
    ----------
    levels : sequence of int or "auto", default="auto"
        Number of levels of each component of a vector, 2 or more; the number of codes is their
        product. "auto" is about as many for each, with at most `codebook_size` codes, or a
        ValueError if there are not two for each.

    References
    ----------
    .. [1] Mentzer, Minnen, Agustsson and Tschannen, "Finite Scalar Quantization: VQ-VAE Made
       Simple", 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import VQVAETransformer
    >>> from skae.quantization import FiniteScalarQuantization
    >>> X, _ = load_digits(return_X_y=True)
    >>> quantizer = FiniteScalarQuantization(levels=(8, 5))
    >>> vqvae = VQVAETransformer(8, n_codes=4, quantizer=quantizer, max_iter=0).fit(X[:500])
    >>> vqvae.codebook_.shape
    (4, 40, 2)
    """

    learned = False

    def __init__(self, levels: Sequence[int] | str = "auto") -> None:
        self.levels = levels

    def build(
        self, n_parts: int, codebook_size: int, code_dim: int, decay: float | None
    ) -> Quantizer:
        """Return a grid.

        Parameters
        ----------
        n_parts : int
            Number of vectors that an encoding is cut into.
        codebook_size : int
            Number of points of the grid at most, where `levels` is "auto".
        code_dim : int
            Length of a vector.
        decay : float or None
            Ignored: a grid is not learned.

        Returns
        -------
        skae.modules.FiniteScalarQuantizer
        """
        return FiniteScalarQuantizer(n_parts, self._levels(codebook_size, code_dim))

    def check(self, codebook_size: int, code_dim: int | None) -> None:
        """Check that `levels` go with the other sizes.

        Parameters
        ----------
        codebook_size : int
            Largest number of codes.
        code_dim : int or None
            Length of a vector; None where the rows decide it.

        Raises
        ------
        ValueError
            If they do not.
        """
        self._levels(codebook_size, np.size(self.levels) or 1 if code_dim is None else code_dim)

    def terms(self, commitment_weight: float, by_gradient: bool) -> list[Term]:
        """Return nothing: the bound keeps encodings where the grid is.

        Parameters
        ----------
        commitment_weight : float
            Ignored.
        by_gradient : bool
            Ignored.

        Returns
        -------
        list of skae.objectives.Term
            Empty.
        """
        return []

    def _levels(self, codebook_size: int, code_dim: int) -> list[int]:
        if isinstance(self.levels, str) and self.levels == "auto":
            even = _even_levels(codebook_size, code_dim)
            if min(even) == 1:
                raise ValueError(
                    f"codebook_size={codebook_size} is too small for two levels of each of "
                    f"{code_dim} components. Use more n_codes, which divide n_components into "
                    "shorter vectors, or a larger codebook_size."
                )
            return even
        levels: list[Any] = []
        if isinstance(self.levels, Sequence | np.ndarray):
            levels = list(self.levels)
        numbers = all(integer("[2, inf)").is_satisfied_by(each) for each in levels)
        if isinstance(self.levels, str) or not numbers or len(levels) != code_dim:
            raise ValueError(
                f"levels={self.levels!r} must be 'auto' or {code_dim} ints of at least 2, one for "
                f"each component of a code's vector: n_components / n_codes = {code_dim}. Change "
                "one of them."
            )
        return levels


def _even_levels(codebook_size: int, code_dim: int) -> list[int]:
    """Return numbers of levels that differ by at most 1, with a product up to `codebook_size`."""
    levels = [1] * code_dim
    while True:
        smallest = levels.index(min(levels))
        if math.prod(levels) // levels[smallest] * (levels[smallest] + 1) > codebook_size:
            return levels
        levels[smallest] += 1
