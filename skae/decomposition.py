"""PCA and IncrementalPCA with scikit-learn's names and signatures, an autoencoder inside."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA as LinearPCA
from sklearn.decomposition import IncrementalPCA as LinearIncrementalPCA
from sklearn.utils.validation import check_is_fitted

from ._data.rows import as_array, dense_blocks
from ._estimators.autoencoder import AutoencoderTransformer
from ._estimators.fitting import Encoding
from ._estimators.hints import ActivationName, Auto, Precision, Seed, Widths
from ._inference.fitted import FittedNet
from ._latent.basis import Basis
from ._latent.noise import NoiseNearCodes
from ._sklearn.params import Constraints, OneOf, integer, real_beside_integers
from ._training.defaults import rows_per_batch
from ._training.trainer import Trainer
from .objectives import Schedule

__all__ = ["PCA", "IncrementalPCA"]

# Attributes that the network has its own copy of.
_COPIED = {"components_", "mean_", "explained_variance_", "n_components_"}
_BY_COMPONENT = (
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
    "_code_mean",
    "_directions",
)
# PCA's own `tol` belongs to a solver.
_TRAINING_TOL = 1e-3

# What parameters may be that both classes have beside PCA's own.
_TRAINING: Constraints = {
    name: AutoencoderTransformer._parameter_constraints[name]
    for name in (
        "whiten",
        "hidden_layer_sizes",
        "activation",
        "max_iter",
        "learning_rate",
        "dropout",
        "weight_decay",
        "early_stopping",
        "validation_fraction",
        "n_iter_no_change",
        "device",
        "precision",
        "random_state",
        "verbose",
    )
}


class _DropIn(AutoencoderTransformer):
    """What both classes share: PCA's number of components and its likelihood; no training of all.

    What is no parameter of theirs is as `AutoencoderTransformer` has it by default.
    """

    encoder = decoder = None
    init = "pca"
    n_init = 1
    scale: Any = "global"
    max_grad_norm = None
    warm_start = False
    tied_weights = False
    loss: Any = "squared_error"
    corruption = None
    code_activation: Any = "auto"
    penalty = None
    pretraining = None
    ordered = False
    latent_density: Any = "gaussian"
    svd_solver: Any = "auto"
    random_state: Any = None

    n_components: Any
    batch_size: Any
    n_samples_: int

    @property
    def n_features_(self) -> int:
        """Number of features."""
        return self.n_features_in_

    @property
    def n_samples_seen_(self) -> int:
        """Number of training rows, over all `partial_fit` calls."""
        return self.n_samples_

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; of a fitted `components_` only its first rows, which are then kept."""
        if name in _COPIED and "_recipe" not in self.__dict__ and "_net" in self.__dict__:
            kept = self._count_kept(name, value)
            if kept is None:
                raise AttributeError(
                    f"{name} cannot be set by hand: it describes a network, which would go on as "
                    f"it was. Fit again, or keep the first components with {name}[:k]."
                )
            self._keep_first(kept)
        elif name == "components_":
            self.__dict__[name] = value  # of an estimator that is not fitted
        else:
            super().__setattr__(name, value)

    @property
    def components_(self) -> np.ndarray:
        """What a unit of each code adds to reconstructions on average."""
        if "components_" in self.__dict__ and "_net" not in self.__dict__:
            return np.asarray(self.__dict__["components_"])
        return super().components_

    def _count_kept(self, name: str, value: Any) -> int | None:
        """Return of how many first components a value for an attribute is; None if of none."""
        now, k = getattr(self, name), self.n_components_
        if name == "n_components_":
            return int(value) if isinstance(value, Integral) and 1 <= int(value) <= k else None
        if name == "mean_":
            return k if np.array_equal(value, now) else None
        n_kept = len(value) if np.ndim(value) == np.ndim(now) else 0
        return n_kept if n_kept and np.array_equal(value, now[:n_kept]) else None

    def _keep_first(self, k: int) -> None:
        """Keep the first k components, as slicing `components_` does for PCA."""
        if k == self.n_components_:
            return
        net, first, basis = self._net, slice(k), self._net.basis
        noise = self._noise_near_codes
        codes, residuals = (
            kept.astype(np.float64) * unit
            for kept, unit in zip((noise.codes, noise.residuals), noise.units, strict=True)
        )
        rows = self._decode(codes) + residuals
        assert basis is not None
        self._net = FittedNet(net.build, net.arrays, net.scaling, net.loss, basis.first(k))
        self.__dict__["_is_cut"] = True
        self.__dict__ |= {name: getattr(self, name)[first] for name in _BY_COMPONENT}
        self._code_covariance = self._code_covariance[first, first]
        self.__dict__["n_components_"] = k
        codes = codes[:, first]
        self.__dict__["_noise_near_codes"] = NoiseNearCodes.of(codes, rows - self._decode(codes))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored; present by convention.

        Returns
        -------
        float
            Nats per row. The fraction of variance that is explained, which
            `AutoencoderTransformer.score` returns, is given by
            `skae.metrics.explained_variance_scorer`.
        """
        return float(self.score_samples(X).mean())

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the log-likelihood of each row under the Gaussian model of `get_covariance`.

        It is what PCA's `score_samples` is ([1]_, section 12.2.1): a Gaussian around `mean_`
        whose covariance is made of `components_`, `explained_variance_` and `noise_variance_`: the
        linear model nearest to the codes. It knows nothing of a nonlinear path beyond that.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Nats, float64.

        References
        ----------
        .. [1] Bishop, "Pattern Recognition and Machine Learning", 2006.
        """
        X = self._known_rows(X)
        blocks = (block - self.mean_ for block in dense_blocks(X))
        if self.noise_variance_:
            return _low_rank_log_density(blocks, self._loadings(), self.noise_variance_)
        return _log_density(blocks, self.get_precision())

    def get_covariance(self) -> np.ndarray:
        """Return the covariance of the linear-Gaussian model that the attributes describe.

        Its trace is the total variance of the training rows. With ``whiten=True`` components are
        multiplied by their standard deviations once more, as in scikit-learn, so that it is then
        the covariance of nothing.

        Returns
        -------
        ndarray of shape (n_features_in_, n_features_in_)
            ``components_.T @ diag(explained_variance_ - noise_variance_) @ components_ +
            noise_variance_ * identity``, negative differences taken as zero.
        """
        return super().get_covariance()

    def _signal_variance(self) -> np.ndarray:
        variance = super()._signal_variance()
        return variance * self.explained_variance_ if self.whiten else variance

    def _loadings(self) -> np.ndarray:
        """Return what the covariance has beside noise: L, of which it is L'L."""
        return np.sqrt(self._signal_variance())[:, None] * self.components_

    def _forget(self) -> None:
        """Forget what was done by hand."""
        for name in ("components_", "_is_cut"):
            self.__dict__.pop(name, None)

    def _wanted_components(self, X: Any) -> tuple[int, float | None]:
        """Return PCA's choice: a number, or all and the share of the variance that cuts them."""
        wanted, most = self.n_components, min(X.shape)
        self._forget()
        if sparse.issparse(X) and self.svd_solver not in ("auto", "arpack", "covariance_eigh"):
            raise TypeError(
                'PCA only support sparse inputs with the "arpack" and "covariance_eigh" solvers, '
                f'while "{self.svd_solver}" was passed.'
            )
        truncated = self.svd_solver in ("arpack", "randomized")
        if wanted is None or (isinstance(wanted, float) and wanted == 1):
            return most - (self.svd_solver == "arpack"), None
        if isinstance(wanted, str):
            if truncated:
                raise ValueError(
                    f"n_components={wanted!r} cannot be a string with "
                    f"svd_solver={self.svd_solver!r}"
                )
            pca = LinearPCA("mle", svd_solver="full").fit(as_array(X))
            return int(pca.n_components_), None
        if wanted > most or (wanted < 1 and (truncated or wanted == 0)):
            solver = "full" if self.svd_solver == "auto" else self.svd_solver
            raise ValueError(
                f"n_components={wanted} must be between {int(truncated or wanted == 0)} and "
                f"min(n_samples, n_features)={most} with svd_solver={solver!r}"
                + (": an autoencoder has a code" if wanted == 0 else "")
            )
        if self.svd_solver == "arpack" and wanted == most:
            raise ValueError(
                f"n_components={wanted} must be strictly less than "
                f"min(n_samples, n_features)={most} with svd_solver='arpack'"
            )
        return (most, float(wanted)) if wanted < 1 else (int(wanted), None)

    def _follow(self, X: Any, trainer: Trainer) -> Basis | None:
        if self.__dict__.get("_is_cut"):
            raise ValueError(
                "partial_fit cannot go on: components were dropped by hand since the last fit. Fit "
                "anew with that n_components."
            )
        return super()._follow(X, trainer)

    def _publish_by_feature(self, encoding: Encoding, n_before: int) -> None:
        super()._publish_by_feature(encoding, n_before)
        self._freeze()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load the state, and guard what the network has a copy of against changes in place."""
        super().__setstate__(state)
        self._freeze()

    def _freeze(self) -> None:
        for name in _COPIED & self.__dict__.keys() - {"n_components_"}:
            self.__dict__[name] = np.array(self.__dict__[name])
            self.__dict__[name].flags.writeable = False

    def _score_to_reach(self) -> float | None:
        return None

    def _most_epochs(self, X: Any) -> int:
        return 0 if self.n_components_ >= min(X.shape) else super()._most_epochs(X)

    @property
    def _training_tol(self) -> float:
        return _TRAINING_TOL


class PCA(_DropIn):
    """Principal component analysis with an autoencoder inside: the import is all that changes.

    It takes PCA's arguments, has PCA's methods and attributes, and is an instance of
    `sklearn.decomposition.PCA` to ``isinstance``. What it fits is an `AutoencoderTransformer` that
    starts at PCA and is trained from there: `transform` is nonlinear, and better at reconstructing
    rows that training did not see, or PCA's own. Where all components are kept there is nothing to
    gain, nothing is trained, and it is PCA.

    ``(X - mean_) @ components_.T``, which is PCA's `transform`, is a linear projection here, and
    `transform` is not linear: use the method.

    Parameters
    ----------
    n_components : int, float, "mle" or None, default=None
        Number of codes per row. None and 1.0 keep all; a float in (0, 1) and "mle" are as many as
        PCA itself would choose.
    copy : bool, default=True
        Without effect: X is never written to.
    whiten : bool, default=False
        Whether codes are divided by their standard deviations on the training rows.
    svd_solver : {"auto", "full", "covariance_eigh", "arpack", "randomized"}, default="auto"
        Without effect on results; what PCA refuses for a solver is refused.
    tol : float, default=0.0
        Without effect.
    iterated_power : int or "auto", default="auto"
        Without effect.
    n_oversamples : int, default=10
        Without effect.
    power_iteration_normalizer : {"auto", "QR", "LU", "none"}, default="auto"
        Without effect.
    random_state : int, RandomState instance or None, default=None
        Source of initial weights, batches and the held-out rows. PCA hardly needs one: here an int
        makes fits repeatable.
    hidden_layer_sizes : sequence of int or "auto", default="auto"
        Widths of the encoder's hidden layers, as in `AutoencoderTransformer`, like all that
        follows. An empty sequence is for a linear model, that is PCA.
    activation : {"relu", "tanh", "logistic", "identity", "silu", "gelu"}, default="relu"
        Activation of the hidden layers.
    batch_size : int or "auto", default="auto"
        Rows per optimisation step.
    max_iter : int or "auto", default="auto"
        Largest number of epochs. 0 is PCA itself. "auto" is 200, or as many as make 8000 steps.
    learning_rate : float, Schedule or "auto", default="auto"
        Step size of schedule-free Adam; "auto" is 0.02 for layers of 64 units, less for wider ones.
    dropout : float or Schedule, default=0.0
        Probability in [0, 1) that a hidden unit is switched off in a step of training.
    weight_decay : float or Schedule, default=0.1
        Decoupled weight decay (AdamW) of the hidden layers' weight matrices.
    early_stopping : bool or "auto", default="auto"
        Whether rows are held out to decide when to stop and which epoch to keep.
    validation_fraction : float, default=0.1
        Fraction of X to hold out.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without an improvement of the held-out loss after which training stops. "auto" is 5,
        or as many as make 200 steps, but no more than 40.
    device : str, default="auto"
        Where to compute: "cpu", "cuda", ...; "auto" is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        How exact large products are in training.
    verbose : int, default=0
        If positive, prints a line per epoch.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features_in_)
        What a unit of each code, before whitening, adds to reconstructions on average: orthonormal
        rows. The principal axes at ``max_iter=0``.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each code over the training rows, descending.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Fraction of variance explained of the training rows, shared out in proportion to
        `explained_variance_`.
    singular_values_ : ndarray of shape (n_components_,)
        Root of the sum of squares of each code.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training rows.
    noise_variance_ : float
        What `explained_variance_` leaves of the total variance, per direction left out.
    gain_over_pca_ : float
        How much more of the variance of rows held out the codes explain than PCA's do; 0.0 where
        the start was kept, and this is PCA. Set by `fit` where rows were held out.
    n_iter_ : int
        Number of epochs run.
    n_components_ : int
        Number of codes per row.
    n_samples_, n_samples_seen_ : int
        Number of training rows.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had string names.

    See Also
    --------
    AutoencoderTransformer : The same model, with all its parameters.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae.decomposition import PCA
    >>> X, _ = load_digits(return_X_y=True)
    >>> pca = PCA(n_components=2, random_state=0).fit(X[:300])
    >>> pca.transform(X).shape
    (1797, 2)
    """

    _parameter_constraints: ClassVar[Constraints] = {
        **_TRAINING,
        "n_components": [integer("[0, inf)"), real_beside_integers("(0, 1]"), OneOf("mle"), None],
        "batch_size": AutoencoderTransformer._parameter_constraints["batch_size"],
        "copy": ["boolean"],
        "tol": AutoencoderTransformer._parameter_constraints["tol"],
        "svd_solver": [OneOf("auto", "full", "covariance_eigh", "arpack", "randomized")],
        "iterated_power": [integer("[0, inf)"), OneOf("auto")],
        "n_oversamples": [integer("[1, inf)")],
        "power_iteration_normalizer": [OneOf("auto", "QR", "LU", "none")],
    }

    def __init__(
        self,
        n_components: float | Literal["mle"] | None = None,
        *,
        copy: bool = True,
        whiten: bool = False,
        svd_solver: Literal["auto", "full", "covariance_eigh", "arpack", "randomized"] = "auto",
        tol: float = 0.0,
        iterated_power: int | Auto = "auto",
        n_oversamples: int = 10,
        power_iteration_normalizer: Literal["auto", "QR", "LU", "none"] = "auto",
        random_state: Seed = None,
        hidden_layer_sizes: Widths = "auto",
        activation: ActivationName = "relu",
        batch_size: int | Auto = "auto",
        max_iter: int | Auto = "auto",
        learning_rate: float | Schedule | Auto = "auto",
        dropout: float | Schedule = 0.0,
        weight_decay: float | Schedule = 0.1,
        early_stopping: bool | Auto = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | Auto = "auto",
        device: str = "auto",
        precision: Precision = "float32",
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.copy = copy
        self.whiten = whiten
        self.svd_solver = svd_solver
        self.tol = tol
        self.iterated_power = iterated_power
        self.n_oversamples = n_oversamples
        self.power_iteration_normalizer = power_iteration_normalizer
        self.random_state = random_state
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.precision = precision
        self.verbose = verbose


class IncrementalPCA(_DropIn):
    """Incremental PCA with an autoencoder inside: the import is all that changes.

    Rows may come in batches, by `partial_fit`: the linear path follows all rows seen, as
    scikit-learn's IncrementalPCA does, and the nonlinear path is trained on each batch. `fit` is
    that of `PCA`: it streams rows from where they are, so that it needs no batches.

    Parameters
    ----------
    n_components : int or None, default=None
        Number of codes per row. None is ``min(n_samples, n_features)`` of the first batch.
    whiten : bool, default=False
        Whether codes are divided by their standard deviations on the training rows.
    copy : bool, default=True
        Without effect: X is never written to.
    batch_size : int or None, default=None
        Rows per optimisation step. None is the power of two next to ``n_samples / 200``, between
        32 and 512.
    hidden_layer_sizes : sequence of int or "auto", default="auto"
        Widths of the encoder's hidden layers, as in `AutoencoderTransformer`, like all that
        follows. An empty sequence is for a linear model, that is PCA.
    activation : {"relu", "tanh", "logistic", "identity", "silu", "gelu"}, default="relu"
        Activation of the hidden layers.
    max_iter : int or "auto", default="auto"
        Largest number of epochs. 0 is PCA itself. "auto" is 200, or as many as make 8000 steps.
    learning_rate : float, Schedule or "auto", default="auto"
        Step size of schedule-free Adam; "auto" is 0.02 for layers of 64 units, less for wider ones.
    dropout : float or Schedule, default=0.0
        Probability in [0, 1) that a hidden unit is switched off in a step of training.
    weight_decay : float or Schedule, default=0.1
        Decoupled weight decay (AdamW) of the hidden layers' weight matrices.
    early_stopping : bool or "auto", default="auto"
        Whether rows are held out to decide when to stop and which epoch to keep.
    validation_fraction : float, default=0.1
        Fraction of X to hold out.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without an improvement of the held-out loss after which training stops. "auto" is 5,
        or as many as make 200 steps, but no more than 40.
    device : str, default="auto"
        Where to compute: "cpu", "cuda", ...; "auto" is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        How exact large products are in training.
    random_state : int, RandomState instance or None, default=None
        Source of initial weights, batches and the held-out rows. An int makes fits
        repeatable.
    verbose : int, default=0
        If positive, prints a line per epoch.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features_in_)
        What a unit of each code, before whitening, adds to reconstructions on average: orthonormal
        rows. The principal axes at ``max_iter=0``.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each code over the training rows, descending.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Fraction of variance explained of the training rows, shared out in proportion to
        `explained_variance_`.
    singular_values_ : ndarray of shape (n_components_,)
        Root of the sum of squares of each code.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training rows.
    noise_variance_ : float
        What `explained_variance_` leaves of the total variance, per direction left out.
    gain_over_pca_ : float
        How much more of the variance of rows held out the codes explain than PCA's do; 0.0 where
        the start was kept, and this is PCA. Set by `fit` where rows were held out.
    n_iter_ : int
        Number of epochs run.
    n_components_ : int
        Number of codes per row.
    n_samples_, n_samples_seen_ : int
        Number of training rows.
    var_ : ndarray of shape (n_features_in_,)
        Variance of each feature over the training rows, divided by their number.
    batch_size_ : int
        Rows per optimisation step.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had string names.

    See Also
    --------
    PCA : For rows that are all there.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae.decomposition import IncrementalPCA
    >>> X, _ = load_digits(return_X_y=True)
    >>> pca = IncrementalPCA(n_components=2, random_state=0)
    >>> for batch in range(0, 1800, 300):
    ...     pca = pca.partial_fit(X[batch : batch + 300])
    >>> pca.n_samples_seen_
    1797
    """

    tol: float = 0.0

    @property
    def batch_size_(self) -> int:
        """Rows per optimisation step."""
        return rows_per_batch(self.batch_size, self.n_samples_)

    @property
    def var_(self) -> np.ndarray:
        """Variance of each feature over the training rows, divided by their number."""
        check_is_fitted(self)
        return self._stream.variance

    _parameter_constraints: ClassVar[Constraints] = {
        **_TRAINING,
        "n_components": [integer("[1, inf)"), None],
        "copy": ["boolean"],
        "batch_size": [integer("[1, inf)"), None],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        whiten: bool = False,
        copy: bool = True,
        batch_size: int | None = None,
        hidden_layer_sizes: Widths = "auto",
        activation: ActivationName = "relu",
        max_iter: int | Auto = "auto",
        learning_rate: float | Schedule | Auto = "auto",
        dropout: float | Schedule = 0.0,
        weight_decay: float | Schedule = 0.1,
        early_stopping: bool | Auto = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | Auto = "auto",
        device: str = "auto",
        precision: Precision = "float32",
        random_state: Seed = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.copy = copy
        self.batch_size = batch_size
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def _most_epochs(self, X: Any) -> int:
        return 0 if self.n_components_ >= X.shape[1] else super(_DropIn, self)._most_epochs(X)

    def _wanted_components(self, X: Any) -> tuple[int, float | None]:
        wanted, (n_samples, n_features) = self.n_components, X.shape
        self._forget()
        if wanted is not None and wanted > n_features:
            raise ValueError(
                f"n_components={wanted} invalid for n_features={n_features}, need more rows than "
                "columns for IncrementalPCA processing"
            )
        if wanted is not None and wanted > n_samples:
            raise ValueError(
                f"n_components={wanted} must be less or equal to the batch number of samples "
                f"{n_samples} for the first partial_fit call."
            )
        return min(X.shape) if wanted is None else int(wanted), None

    def partial_fit(self, X: Any, y: Any = None, check_input: bool = True) -> Self:
        """Let the linear path follow the rows, and train on them.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Training rows.
        y : None
            Ignored; present by convention.
        check_input : bool, default=True
            Without effect: X is always checked.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter or X is not valid, or the first call has fewer rows than
            `n_components`.
        """
        return super().partial_fit(X)


def _low_rank_log_density(
    blocks: Iterable[np.ndarray], loadings: np.ndarray, noise: float
) -> np.ndarray:
    """Return log N(x; 0, loadings' loadings + noise I) of the rows of blocks, by Woodbury."""
    k, n_features = loadings.shape
    inner = loadings @ loadings.T + noise * np.eye(k)
    log_determinant = (n_features - k) * np.log(noise) + np.linalg.slogdet(inner)[1]
    distances = []
    for block in blocks:
        codes = block @ loadings.T
        within = np.einsum("ij,ij->i", codes, np.linalg.solve(inner, codes.T).T)
        distances.append((np.einsum("ij,ij->i", block, block) - within) / noise)
    log_volume = n_features * np.log(2 * np.pi) + log_determinant
    return -0.5 * (log_volume + np.concatenate(distances))


def _log_density(blocks: Iterable[np.ndarray], precision: np.ndarray) -> np.ndarray:
    """Return log N(x; 0, inverse of precision) of the rows of blocks."""
    log_volume = len(precision) * np.log(2 * np.pi) - np.linalg.slogdet(precision)[1]
    distances = [np.einsum("ij,ij->i", block @ precision, block) for block in blocks]
    return -0.5 * (log_volume + np.concatenate(distances))


LinearPCA.register(PCA)
LinearIncrementalPCA.register(IncrementalPCA)
