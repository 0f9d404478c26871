"""AutoencoderTransformer: the autoencoder in PCA's place."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import pinvh
from sklearn.utils.validation import check_is_fitted
from torch import Generator

from ._axes import PrincipalAxes
from ._base import BaseAutoencoder
from ._basis import code_moments, errors_of_the_first, explained_ratios, rotated_basis
from ._batches import Rows
from ._device import evaluation_device
from ._inference import FittedNet
from ._input import Scaling
from ._parameters import BOOLEAN, NONE, Constraint, integer, real
from ._sampling import draw_gaussian, fit_gaussian
from .modules import Autoencoder, Core
from .objectives import Objective, SquaredError


class AutoencoderTransformer(BaseAutoencoder):
    """Autoencoder: nonlinear dimensionality reduction that starts at PCA.

    Encoder and decoder are multilayer perceptrons trained to reproduce their input through
    `n_components` numbers. With ``init="pca"`` each has a linear path that starts at the
    principal axes of the training rows, beside a nonlinear path that starts at zero: before the
    first epoch the model is PCA, and it is left only for an epoch that reconstructs held-out rows
    better, by more than one standard error of the paired gain.

    Codes are as tidy as PCA's: over the training rows they have mean zero and are uncorrelated, in
    the units of X, in descending order of variance and with PCA's rule for signs. The attributes
    that PCA has mean the same here, and equal PCA's for a linear net; they, and this basis,
    describe the last `fit`, or the start where there was only `partial_fit`.

    Parameters
    ----------
    n_components : int or float, default=None
        Number of codes per row. None is ``min(n_samples, n_features)``. A float in (0, 1) asks for
        the fewest that reach this score on held-out rows: as many as PCA needs for it are trained,
        and the last ones are then dropped.
    hidden_layer_sizes : sequence of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder has them in reverse order. Empty for
        linear maps. "auto" is two layers: the power of two next to twice the number of features,
        between 64 and 512, and half of it.
    activation : {"relu", "tanh", "logistic", "identity", "silu", "gelu"}, default="relu"
        Activation of the hidden layers.
    encoder, decoder : callable, torch.nn.Module or None, default=None
        Networks of your own: a callable ``(n_in, n_out) -> torch.nn.Module``, such as the class
        ``torch.nn.Linear``, or a module, which is copied. They are used as they are: without a
        linear path and without a PCA start.
    init : {"pca", "random"}, default="pca"
        Where training starts: at PCA, or at random weights without a linear path.
    scale : {"global", "standard"} or None, default="global"
        How rows are brought to the network's units, undone in `inverse_transform`: centred and
        divided by one number, which keeps PCA's geometry; divided per feature; or left alone.
    batch_size : int or "auto", default="auto"
        Rows per optimisation step. "auto" is the power of two next to ``n_samples / 200``,
        between 32 and 512.
    max_iter : int, default=200
        Largest number of epochs. 0 keeps the start.
    learning_rate : float, default=1e-3
        Step size of Adam.
    weight_decay : float, default=0.0
        Decoupled weight decay (AdamW) of the weight matrices, relative to the learning rate.
    early_stopping : bool or "auto", default="auto"
        Whether rows are held out to decide when to stop and which epoch to keep. "auto" does so
        when 5 rows are at most half of X; with fewer rows the PCA start is kept. False trains for
        `max_iter` epochs and keeps the last.
    validation_fraction : float, default=0.1
        Fraction of X to hold out; "auto" holds out at least 5 rows.
    n_iter_no_change : int, default=10
        Epochs without an improvement of the held-out loss after which training stops.
    tol : float, default=1e-4
        Smallest improvement of the held-out loss that counts, as a fraction of the total
        variance: the unit of `score`.
    warm_start : bool, default=False
        Whether `fit` goes on from the last fit, with its scaling and network.
    device : str, default="auto"
        Where to compute: "cpu", "cuda", "cuda:1", ...; "auto" is CUDA where there is one.
    random_state : int, RandomState instance or None, default=None
        Source of initial weights, batches and the held-out rows. An int makes fits repeatable.
    verbose : int, default=0
        If positive, prints a line per epoch.
    whiten : bool, default=False
        Whether codes are divided by their standard deviations on the training rows; codes that do
        not vary stay zero.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features_in_)
        What a unit of each code, before whitening, adds to a row: the Jacobian of the decoder at
        the mean code. The principal axes for a linear net.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each code over the training rows before whitening, divided by
        ``n_samples - 1``, in squared units of X and descending order.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Score of the training rows when only the first code is let through and the others are left
        at their means, and then the gain as each next one is let through. Sums to their score. For
        a nonlinear net a gain can be larger than the one before it, or negative. Of large data
        (more than 2**17 codes) the gains are estimates, from part of the rows.
    singular_values_ : ndarray of shape (n_components_,)
        Root of the sum of squares of each code over the training rows, before whitening.
    noise_variance_ : float
        What the training rows' reconstructions leave unexplained, per direction left out: squared
        error divided by ``(n_samples - 1) * (min(n_samples, n_features) - n_components_)``.
    gain_over_pca_ : float
        Score of the held-out rows minus what it was at the PCA start, 0.0 where that was kept. It
        belongs to an epoch that was selected for it, and is therefore optimistic. Not set with
        ``init="random"``, own networks or ``early_stopping=False``.
    n_components_ : int
        Number of codes per row.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training rows, over all `partial_fit` calls.
    n_samples_ : int
        Number of training rows, over all `partial_fit` calls; one that comes twice counts twice.
    n_iter_ : int
        Number of epochs run.
    loss_curve_ : list of float
        Mean squared error per row, summed over features, in the network's units, per epoch.
    validation_loss_curve_ : list of float
        The same on the held-out rows.
    best_loss_ : float
        Held-out loss of the epoch that was kept; training loss of the last epoch if nothing was
        held out, infinity if there was none.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.decomposition.PCA : The linear method it starts from.
    VAETransformer : Codes with a distribution, and a likelihood.
    VQVAETransformer : Discrete codes.

    References
    ----------
    .. [1] Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks",
       2006.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae import AutoencoderTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(4, early_stopping=False, max_iter=20, random_state=0)
    >>> autoencoder.fit_transform(X[:1000]).shape
    (1000, 4)
    >>> pca = PCA(n_components=4).fit(X[:1000])
    >>> error = ((X[1000:] - pca.inverse_transform(pca.transform(X[1000:]))) ** 2).sum()
    >>> bool(-autoencoder.score_samples(X[1000:]).sum() < error)
    True
    """

    _constraints: ClassVar[dict[str, list[Constraint]]] = {
        **BaseAutoencoder._constraints,
        "n_components": [integer("[1, inf)"), real("(0, 1)"), NONE],
        "whiten": [BOOLEAN],
    }

    _code_mean: np.ndarray
    _code_covariance: np.ndarray

    def __init__(
        self,
        n_components: int | float | None = None,
        *,
        hidden_layer_sizes: Any = "auto",
        activation: str = "relu",
        encoder: Any = None,
        decoder: Any = None,
        init: str = "pca",
        scale: str | None = "global",
        batch_size: int | str = "auto",
        max_iter: int = 200,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        whiten: bool = False,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.init = init
        self.scale = scale
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.whiten = whiten

    def get_covariance(self) -> np.ndarray:
        """Return the covariance of the linear-Gaussian model that the attributes describe.

        ``components_.T @ diag(explained_variance_ - noise_variance_) @ components_ +
        noise_variance_ * identity``, negative differences taken as zero: PCA's for a linear net.

        Returns
        -------
        ndarray of shape (n_features_in_, n_features_in_)
            In squared units of X.
        """
        check_is_fitted(self, "components_")
        excess = np.maximum(self.explained_variance_ - self.noise_variance_, 0.0)
        covariance = (self.components_.T * excess) @ self.components_
        covariance[np.diag_indices_from(covariance)] += self.noise_variance_
        return covariance

    def get_precision(self) -> np.ndarray:
        """Return the inverse of `get_covariance`.

        Returns
        -------
        ndarray of shape (n_features_in_, n_features_in_)
            Its pseudo-inverse where it is singular.
        """
        return pinvh(self.get_covariance())

    def _make_core(self, n_samples: int | None) -> Callable[..., Core]:
        return Autoencoder

    def _objective(self) -> Objective:
        return Objective(SquaredError())

    def _start(
        self,
        core: Any,
        axes: PrincipalAxes | None,
        scaling: Scaling,
        rows: Rows,
        generator: Generator,
    ) -> None:
        if axes is not None:
            core.start_linear(axes.components, axes.components.T, scaling.to_net(scaling.mean))

    def _describe(self, X: Any, held_out: Any, start: FittedNet | None) -> None:
        self._net.basis, variances = rotated_basis(code_moments(X, self._encode, self._decode))
        fraction = self._wanted_score()
        if fraction is not None:
            self._truncate(fraction, X if held_out is None else held_out)
        codes = self._encode(X)
        n_samples, k = codes.shape
        unexplained = float(self._squared_errors(X).sum())
        self.components_ = self._net.loadings(evaluation_device(self.device))
        self.explained_variance_ratio_ = explained_ratios(
            X, codes, self._decode, self.components_, self.mean_, unexplained
        )
        n_free = max(n_samples - 1, 1)
        self.explained_variance_ = variances[:k] * n_samples / n_free
        self.singular_values_ = np.sqrt(self.explained_variance_ * n_free)
        n_left_out = min(X.shape) - k
        self.noise_variance_ = unexplained / (n_free * n_left_out) if n_left_out > 0 else 0.0
        if self.whiten:
            self._net.basis = self._net.basis.divided_by(np.sqrt(self.explained_variance_))
        self.__dict__.pop("gain_over_pca_", None)
        if start is not None and (held_out is not None or self.n_iter_ == 0):
            self.gain_over_pca_ = 0.0 if held_out is None else self._gain(held_out, start)

    def _truncate(self, fraction: float, rows: Any) -> None:
        """Keep the fewest codes with which `rows` score `fraction`, or all with a warning."""
        basis = self._net.basis
        assert basis is not None
        errors = errors_of_the_first(rows, self._encode(rows), self._decode)
        scores = 1 - errors / max(self._total(rows), np.finfo(np.float64).tiny)
        reached = np.flatnonzero(scores >= fraction)
        if len(reached):
            self.n_components_ = int(reached[0]) + 1
            self._net.basis = basis.first(self.n_components_)
            return
        warnings.warn(
            f"n_components={fraction}: the {len(scores)} components with which PCA "
            f"explains that fraction of X reach a score of {scores[-1]:.4f} on held-out rows. All "
            "are kept; give an integer for more.",
            UserWarning,
            stacklevel=5,
        )

    def _gain(self, rows: Any, start: FittedNet) -> float:
        """Return the score of `rows` minus what it was before training."""
        errors = start.squared_errors(rows, evaluation_device(self.device)).sum()
        total = self._total(rows)
        return float(errors - self._squared_errors(rows).sum()) / total if total else 0.0

    def _publish(self, X: Any, n_before: int) -> None:
        before = (n_before, self._code_mean, self._code_covariance) if n_before else None
        self._code_mean, self._code_covariance = fit_gaussian(self._encode(X), before)

    def _draw(self, n_samples: int, generator: Generator) -> np.ndarray:
        codes = draw_gaussian(n_samples, self._code_mean, self._code_covariance, generator)
        return self._decode(codes)
