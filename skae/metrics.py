"""Metrics: reconstruction quality as scorers, and whether codes tell factors apart; PCA's too."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import entr
from scipy.stats import rankdata
from sklearn.metrics import mean_absolute_error, mean_squared_error
from sklearn.utils import check_array, check_consistent_length

__all__ = [
    "code_correlation",
    "explained_variance_scorer",
    "mutual_information_gap",
    "neg_mean_absolute_error_scorer",
    "neg_mean_squared_error_scorer",
]


def _original_and_reconstruction(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    reconstruction = estimator.inverse_transform(estimator.transform(X))
    return _dense(X), _dense(reconstruction)


def _dense(X: Any) -> np.ndarray:
    return X.toarray() if sparse.issparse(X) else np.asarray(X, dtype=float)


def mutual_information_gap(
    codes: Any,
    factors: Any,
    *,
    n_bins: int = 20,
    strategy: str = "quantile",
    multioutput: str = "uniform_average",
) -> float | np.ndarray:
    r"""Return the mutual information gap: by how much one code tells more than any other.

    For each factor :math:`v_k` it is the information that the most informative code has about it,
    less that of the second one, as a fraction of the factor's entropy ([1]_, equation 6):

    .. math:: \frac{I(z_{j_k}; v_k) - \max_{j \neq j_k} I(z_j; v_k)}{H(v_k)},
              \quad j_k = \arg\max_j I(z_j; v_k)

    It is 1 for a factor that one code determines and no other code says anything of, and 0 for one
    that two codes, or none, tell equally well. Each code is put into bins, as in [2]_, and the
    information is that of the counts. Counts of n rows give unrelated codes and factors about
    ``(n_bins - 1) * (n_levels - 1) / (2 * n)`` nats, of which most cancels in the difference.

    Bins know no scale: a code that varies by a billionth is as good as any other. Of a variational
    model pass draws, ``mean + std * noise`` of `VAETransformer.posterior`, in which codes that are
    switched off are noise; [1]_ is about these too.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_components)
        Codes of rows.
    factors : array-like of shape (n_samples, n_factors)
        What the rows were made from; each distinct value in a column is a level of that factor.
    n_bins : int, default=20
        Number of bins of each code.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins with as many rows each, where no values are tied, so that increasing functions of a
        code change nothing; or bins of one width between a code's least and largest value.
    multioutput : {"uniform_average", "raw_values"}, default="uniform_average"
        Whether to return the mean over factors or the gap of each.

    Returns
    -------
    float or ndarray of shape (n_factors,)
        In [0, 1], without unit.

    Raises
    ------
    ValueError
        If numbers of rows differ, values are missing or infinite, a factor has one level only, or a
        parameter is not one of the above.

    References
    ----------
    .. [1] Chen, Li, Grosse and Duvenaud, "Isolating Sources of Disentanglement in Variational
       Autoencoders", 2018, section 4.1.
    .. [2] Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of
       Disentangled Representations", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skae.metrics import mutual_information_gap
    >>> x, y = np.divmod(np.arange(9), 3)
    >>> factors = np.column_stack([x, y])
    >>> mutual_information_gap(factors, factors)
    1.0
    >>> mutual_information_gap(np.column_stack([x, y, -y]), factors)
    0.5
    """
    if n_bins != int(n_bins) or n_bins < 1:
        raise ValueError(f"n_bins must be an int in the range [1, inf). Got {n_bins!r}.")
    if multioutput not in ("uniform_average", "raw_values"):
        raise ValueError(
            f"multioutput must be 'uniform_average' or 'raw_values'. Got {multioutput!r}."
        )
    bins = _binned(check_array(codes, dtype=np.float64), int(n_bins), strategy)
    levels = check_array(factors, dtype=None)
    check_consistent_length(bins, levels)
    gaps = np.array([_gap(bins, factor) for factor in levels.T])
    return gaps if multioutput == "raw_values" else float(gaps.mean())


def _binned(codes: np.ndarray, n_bins: int, strategy: str) -> np.ndarray:
    """Return the number of each code's bin."""
    if strategy == "quantile":
        shares = (rankdata(codes, axis=0) - 0.5) / len(codes)
    elif strategy == "uniform":
        low = codes.min(0)
        width = codes.max(0) - low
        shares = np.divide(codes - low, width, out=np.zeros_like(codes), where=width > 0)
    else:
        raise ValueError(f"strategy must be 'quantile' or 'uniform'. Got {strategy!r}.")
    return np.minimum((shares * n_bins).astype(int), n_bins - 1)


def _gap(bins: np.ndarray, factor: np.ndarray) -> float:
    """Return the gap of one factor."""
    levels = np.unique(factor, return_inverse=True)[1]
    n_levels, entropy = levels.max() + 1, _entropy(levels)
    if n_levels == 1:
        raise ValueError("A factor has one level only, which no code can tell. Leave it out.")
    information = [_entropy(code) + entropy - _entropy(code * n_levels + levels) for code in bins.T]
    second, first = np.sort([0.0, *np.maximum(information, 0.0)])[-2:]
    return float((first - second) / entropy)


def _entropy(labels: np.ndarray) -> float:
    """Return the entropy, in nats, of the counts of integers from 0."""
    return float(entr(np.bincount(labels) / len(labels)).sum())


def code_correlation(codes: Any) -> float:
    """Return the mean absolute correlation between different codes.

    It is 0 for PCA's codes of training rows. Codes that do not vary are left out; those of a
    variational model that vary by noise only can be left out with ``active_components_``.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_components)
        Codes of rows.

    Returns
    -------
    float
        Mean over pairs of the absolute value of Pearson's correlation, in [0, 1]; 0.0 where fewer
        than two codes vary.

    Raises
    ------
    ValueError
        If values are missing or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from skae.metrics import code_correlation
    >>> z = np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [3.0, 6.0, 0.0]])
    >>> round(code_correlation(z), 6)
    1.0
    """
    z = check_array(codes, dtype=np.float64)
    z = z[:, np.ptp(z, axis=0) > 0]
    if z.shape[1] < 2:
        return 0.0
    z = z - z.mean(0)
    correlations = np.corrcoef(z / np.abs(z).max(0), rowvar=False)
    return float(np.abs(correlations[np.triu_indices(z.shape[1], 1)]).mean())


def explained_variance_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score the fraction of X's variance that a reconstruction explains, 1 - SSE / SST.

    It works for everything that has ``transform`` and ``inverse_transform``: PCA, KernelPCA, NMF,
    TruncatedSVD, the estimators of skae, and pipelines of these, in the pipeline's input units.

    Parameters
    ----------
    estimator : estimator
        Fitted transformer.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows.
    y : None
        Ignored; present by convention.

    Returns
    -------
    float
        At most 1. SST is about the mean of X, which for rows other than the training rows differs
        a little from the training mean that the estimators' own ``score`` uses. Where X does not
        vary, 1.0 if it is reproduced and else 0.0.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skae.metrics import explained_variance_scorer
    >>> X, _ = load_iris(return_X_y=True)
    >>> pca = PCA(n_components=2).fit(X)
    >>> bool(abs(explained_variance_scorer(pca, X) - pca.explained_variance_ratio_.sum()) < 1e-9)
    True
    """
    original, reconstruction = _original_and_reconstruction(estimator, X)
    total = np.square(original - original.mean(0)).sum()
    unexplained = np.square(original - reconstruction).sum()
    if total == 0:
        return 1.0 if unexplained == 0 else 0.0
    return float(1 - unexplained / total)


def neg_mean_squared_error_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score minus the mean squared error of the reconstruction, per entry of X.

    Parameters
    ----------
    estimator : estimator
        Fitted transformer with ``inverse_transform``.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows.
    y : None
        Ignored; present by convention.

    Returns
    -------
    float
        At most 0, in X's units squared.
    """
    return -float(mean_squared_error(*_original_and_reconstruction(estimator, X)))


def neg_mean_absolute_error_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score minus the mean absolute error of the reconstruction, per entry of X.

    Parameters
    ----------
    estimator : estimator
        Fitted transformer with ``inverse_transform``.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Rows.
    y : None
        Ignored; present by convention.

    Returns
    -------
    float
        At most 0, in X's units.
    """
    return -float(mean_absolute_error(*_original_and_reconstruction(estimator, X)))
