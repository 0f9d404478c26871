"""AutoencoderTransformer: the autoencoder in PCA's place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Generator

from ._base import BaseAutoencoder
from ._basis import PrincipalAxes
from ._batches import Rows
from ._input import Scaling
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

    Parameters
    ----------
    n_components : int, default=None
        Number of codes per row. None is ``min(n_samples, n_features)``.
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

    Attributes
    ----------
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

    _code_mean: np.ndarray
    _code_covariance: np.ndarray

    def __init__(
        self,
        n_components: int | None = None,
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

    def _publish(self, X: Any, n_before: int) -> None:
        before = (n_before, self._code_mean, self._code_covariance) if n_before else None
        self._code_mean, self._code_covariance = fit_gaussian(self._encode(X), before)

    def _draw(self, n_samples: int, generator: Generator) -> np.ndarray:
        codes = draw_gaussian(n_samples, self._code_mean, self._code_covariance, generator)
        return self._decode(codes)
