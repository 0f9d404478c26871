"""Principal axes that a few outliers do not turn: PCA of rows without these."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch

from .._data.batches import StreamedRows
from .._data.centred import CentredRows
from .._data.outliers import within_reach
from .._data.scaling import Scaling
from .._runtime.isolation import isolated_for
from ..modules import Core
from .pca import PrincipalAxes, principal_axes

# Axes are found this often at most; nearly always the rows that are kept are the same before.
_MOST_ROUNDS = 4
_MOST_RECONSTRUCTED = 1000
# Distances from a plane that are a smaller share of those from the mean are rounding.
_ROUNDING = 1e-6


def robust_axes(X: Any, scaling: Scaling, n_components: int) -> PrincipalAxes:
    """Compute the principal axes of the rows that are no outliers.

    First those rows are left out that are far from the mean, which is to be a robust one, and then,
    until no more are found, those far from the plane of the axes. What is far is said by
    `within_reach`. It is the reweighting step of robust PCA ([1]_, section 2), with axes of all
    remaining rows before it. Where no row is an outlier the axes are PCA's.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_samples, n_features)
        The rows.
    scaling : Scaling
        Their scaling, a robust one.
    n_components : int
        Number of axes wanted; more than the rank are filled up with zeros.

    Returns
    -------
    PrincipalAxes
        Of the rows that are kept.

    References
    ----------
    .. [1] Hubert, Rousseeuw and Vanden Branden, "ROBPCA: A New Approach to Robust Principal
       Component Analysis", 2005.
    """
    kept = inliers(X, scaling)
    for _ in range(_MOST_ROUNDS):
        rows = CentredRows(X, scaling, None if kept.all() else kept)
        axes = principal_axes(rows, n_components, scaling.constant)
        before, kept = kept, kept & inliers(X, scaling, axes)
        if (kept == before).all():
            break
    return axes


def without_outliers(X: Any, scaling: Scaling, axes: PrincipalAxes) -> CentredRows:
    """Return centred rows of which only those count that are near the mean and the axes' plane."""
    kept = inliers(X, scaling) & inliers(X, scaling, axes)
    return CentredRows(X, scaling, None if kept.all() else kept)


def inliers(X: Any, scaling: Scaling, axes: PrincipalAxes | None = None) -> np.ndarray:
    """Return which rows are not far from the plane of axes, or without axes from the mean."""
    distances = []
    for block in CentredRows(X, scaling).blocks():
        squares = np.square(block).sum(1)
        left = squares
        if axes is not None:
            left = squares - np.square(block @ axes.components.T).sum(1)
        distances.append(np.sqrt(np.where(left > _ROUNDING**2 * squares, left, 0.0)))
    return within_reach(np.concatenate(distances))


def residuals_of(core: Core, rows: StreamedRows) -> np.ndarray:
    """Return what a network leaves of some rows in scaled units, of features that vary."""
    core = deepcopy(core).eval()  # what has run cannot always be copied
    step = -(-rows.n_rows // _MOST_RECONSTRUCTED)
    x = rows.take(torch.arange(0, rows.n_rows, step, device="cpu"))
    with torch.no_grad(), isolated_for(core, x):
        residuals: np.ndarray = (x - core(x).x_hat).numpy()
    return residuals[:, ~rows.scaling.constant]
