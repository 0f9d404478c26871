"""The recipe of one fit: what is minimised, where it starts; checked before rows are touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Generator

from .._data.scaling import Scaling
from .._training.step import Corrupt
from ..objectives import (
    Buffers,
    CodeActivation,
    Corruption,
    ImportanceWeightedBound,
    Objective,
    Term,
)
from ..objectives._checks import is_built_in
from ..objectives._corruptions import _WithoutLast
from ..objectives._losses import for_scaled_rows
from ..objectives._objective import FORMULAS, bound_by, check_weight
from ..objectives._schedules import check_schedule
from ..quantization import Quantization


@dataclass(frozen=True)
class Recipe:
    """What one fit minimises and starts from, as objects that belong to it.

    Attributes
    ----------
    loss : Loss
        What compares rows with reconstructions, and says what the decoder's output stands for.
    terms : tuple of Term
        What is minimised beside it.
    starts_at_pca : bool
        Whether training starts at PCA, or its kin for the loss.
    code_activation : CodeActivation or None
        What the encoder's output goes through.
    corruption : callable or None
        What is done to rows before they are encoded in training.
    quantization : Quantization or None
        How codes become integers.
    importance_weighted : bool
        Whether the loss goes into the importance-weighted bound.
    tied_weights : bool
        Whether the decoder uses the encoder's weights.
    """

    loss: Any
    terms: tuple[Term, ...] = ()
    starts_at_pca: bool = False
    code_activation: CodeActivation | None = None
    corruption: Corrupt | None = None
    quantization: Quantization | None = None
    importance_weighted: bool = False
    tied_weights: bool = False

    @property
    def starts_at_a_fit(self) -> bool:
        """Whether the start already is a model of the rows."""
        return self.starts_at_pca and not self.loss.raw_target

    @property
    def start_competes(self) -> bool:
        """Whether the start is kept unless training is better: PCA, or k-means of encodings."""
        return self.starts_at_pca or bool(self.quantization and self.quantization.learned)

    def objective(self, scaling: Scaling, device: torch.device) -> Objective:
        """Return what is minimised, for rows in scaled units on a device."""
        loss = for_scaled_rows(self.loss, scaling.center, scaling.scale, device)
        if self.importance_weighted:
            return Objective(ImportanceWeightedBound(loss))
        return Objective(loss, *self.terms)

    def for_residuals(self, residuals: Callable[[], np.ndarray]) -> Recipe:
        """Return the recipe once it is known what the start leaves of rows in scaled units."""
        return replace(
            self, loss=bound_by(self.loss, FORMULAS, "for_residuals")(residuals) or self.loss
        )

    def loss_unit(self, scaling: Scaling) -> float:
        """Return what `tol` is a fraction of.

        It is the rows' total variance in scaled units, or of losses that are no squares the number
        of features.
        """
        if self.loss.is_squared:
            return float((scaling.variance / scaling.scale**2).sum())
        return float(len(scaling.mean))

    def in_coordinates(self, n_features: int) -> Recipe | None:
        """Return what is minimised where rows are given by coordinates, if that is the same.

        It is for losses that depend on distances alone, for terms of ours, which are of codes, and
        without corruption.
        """
        loss = bound_by(self.loss, FORMULAS, "in_coordinates")(n_features)
        if loss is None or self.corruption or not all(map(is_built_in, self.terms)):
            return None
        return replace(self, loss=loss, corruption=_WithoutLast())

    def check(self) -> Recipe:
        """Check the parameters of all parts and return the recipe.

        Raises
        ------
        ValueError
            If one is not valid.
        """
        for term in (self.loss, *self.terms):
            check_weight(term)
            check_schedule(term.weight)
            if is_built_in(term):
                term.bind(_one_row())
        if isinstance(self.corruption, Corruption) and is_built_in(self.corruption):
            self.corruption(torch.zeros(2, 1, device="cpu"), Generator("cpu"))
        if self.code_activation is not None and is_built_in(self.code_activation):
            self.code_activation.bind(*torch.zeros(2, 1, 1, device="cpu"))
        return self


def _one_row() -> Buffers:
    """Return buffers of one row with one feature and one code."""
    names = "x_hat", "z", "z_e", "mean", "log_variance"
    outputs = SimpleNamespace(**{name: torch.zeros(1, 1, device="cpu") for name in names})
    outputs.z_stages = torch.zeros(1, 1, 1, device="cpu")
    outputs.dispersion = torch.ones((), device="cpu")
    return Buffers(outputs.x_hat, outputs, outputs, 1.0)
