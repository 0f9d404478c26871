"""VAETransformer: a variational autoencoder scored in nats, like PCA and GaussianMixture."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator

from .._data.batches import StreamedRows
from .._data.centred import CentredRows
from .._data.scaling import Scaling
from .._init.pca import PrincipalAxes
from .._init.probabilistic_pca import start_probabilistic
from .._sklearn.params import SCHEDULE, Constraint, integer, real
from ..modules import VAE, Core
from ..objectives import ImportanceWeightedBound, KLDivergence, Likelihood, Objective, Schedule
from ..objectives._losses import for_scaled_rows
from .slots import LIKELIHOOD_CONSTRAINTS, LIKELIHOODS, resolve
from .variational import VariationalModel


class VAETransformer(VariationalModel):
    r"""Variational autoencoder: codes with a distribution, and a likelihood of the data.

    The model is :math:`z \sim N(0, I)` with a likelihood of rows given their codes, by default
    :math:`x | z \sim N(\hat x(z), s^2)` with learned noise variance, trained on the evidence lower
    bound ([1]_, equation 3). Its score is that bound, in nats per row of the original X: the unit
    of ``PCA.score``, ``FactorAnalysis.score`` and ``GaussianMixture.score``. With ``init="pca"``
    and Gaussian noise training starts at the maximum-likelihood solution of probabilistic PCA
    ([2]_, equations 7 and 8), where the bound is exact (unless noise is a millionth of the rows'
    size or less: see `noise_variance_`).

    `sample` draws from this model, noise included, so that draws have the data's spread;
    ``inverse_transform`` of standard normal codes gives draws without it.

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
        ``torch.nn.Linear``, or a module, which is copied. The encoder returns ``2 * n_components``
        columns: the posterior's means, and then ``h`` in [-100, 100] for its variances
        ``1 / (1 + exp(h) / noise_variance)``, in the network's units. They are used as
        they are: without a linear path and without a PCA start.
    init : {"pca", "random"}, default="pca"
        Where training starts: at PCA, or at random weights without a linear path.
    n_init : int, default=1
        Number of fits from different seeds, of which `fit` keeps the one with the best `score` of
        X_val, or of X without it: each holds out rows of its own. On the CPU they run side by
        side, in processes. Where `fit` goes on from a last fit there is one.
    scale : {"global", "standard"} or None, default="global"
        How rows are brought to the network's units, undone in `inverse_transform`: centred and
        divided by one number, which keeps PCA's geometry; divided per feature; or left alone.
    batch_size : int or "auto", default="auto"
        Rows per optimisation step. "auto" is the power of two next to ``n_samples / 200``,
        between 32 and 512.
    max_iter : int, default=200
        Largest number of epochs. 0 keeps the start.
    learning_rate : float or Schedule, default=1e-3
        Step size of Adam, fixed or on a schedule such as `skae.objectives.CosineDecay`, whose
        progress is counted in epochs of `max_iter`.
    dropout : float or Schedule, default=0.0
        Odds in [0, 1) that a hidden unit is switched off for a row and step of training; the linear
        path is spared. Networks of your own bring their own dropout.
    weight_decay : float or Schedule, default=0.0
        Decoupled weight decay (AdamW) of the weight matrices, relative to the learning rate.
    max_grad_norm : float or Schedule, default=None
        Gradients of a larger norm are scaled down to it. None leaves them alone.
    early_stopping : bool or "auto", default="auto"
        Whether rows are held out to decide when to stop and which epoch to keep. "auto" does so
        when 5 rows are at most half of X; with fewer rows the PCA start is kept, if noise is
        Gaussian or Laplace's. False trains for `max_iter` epochs and keeps the last, unless what
        it started from, PCA or the last fit, serves training rows as well.
    validation_fraction : float, default=0.1
        Fraction of X to hold out; "auto" holds out at least 5 rows.
    n_iter_no_change : int, default=10
        Epochs without an improvement of the held-out loss after which training stops.
    tol : float, default=1e-4
        Smallest improvement of the held-out loss that counts, in nats per feature.
    warm_start : bool, default=False
        Whether `fit` goes on from the last fit, with its scaling and network.
    device : str, default="auto"
        Where to compute: "cpu", "cuda", "cuda:1", ...; "auto" is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        How exact large products are in training. "bfloat16" has three digits, and is faster for
        wide networks where the processor or GPU has units for it.
    random_state : int, RandomState instance or None, default=None
        Source of initial weights, batches and the held-out rows. An int makes fits repeatable.
    verbose : int, default=0
        If positive, prints a line per epoch.
    beta : float or Schedule, default=1.0
        Weight of the divergence from the prior in training, fixed or on a schedule such as
        `skae.objectives.LinearWarmup`. 1 is the evidence lower bound; scores always use 1.
    free_bits : float, default=0.0
        Nats that each code may tell about a row at no cost in training, which keeps codes from
        being switched off; scores always use 0.
    likelihood : str or Likelihood, default="gaussian"
        How rows are distributed around what the decoder returns. "gaussian" has a learned noise
        variance, shared by all features; ``skae.objectives.Gaussian("per_feature")`` has one of
        each, as in factor analysis, and ``Gaussian(0.1)`` a fixed one. "laplace" has heavier
        tails. "bernoulli" is for zeros and ones, "poisson" and "negative_binomial" for counts:
        with these `scale` acts on the encoder's input alone, and rows outside of their support
        raise ValueError. Or a `skae.objectives.Likelihood` of your own.
    n_importance_samples : int, default=1
        Codes drawn for each row in training. With more than 1 the importance-weighted bound is
        trained ([3]_, equation 8), which is tighter; `beta` has to be 1 then, and `free_bits` 0.

    Attributes
    ----------
    noise_variance_ : float or ndarray of shape (n_features_in_,)
        Variance of Gaussian or Laplace noise in X's squared units; one number unless the
        likelihood or ``scale="standard"`` makes it differ by feature. At least 1e-12 of the mean
        square of the rows, centred if `scale` does so: what lies below is lost in float32. A
        constant feature with a variance of its own has the least, and scores accordingly. One
        that is fixed is as it was given.
    dispersion_ : float or ndarray of shape (n_features_in_,)
        What another likelihood learned beside the network, if anything, in its own units: the
        dispersion of `NegativeBinomial`.
    kl_per_component_ : ndarray of shape (n_components_,)
        Mean divergence of each code's posterior from the prior over the training rows, in nats:
        the code tells at most this much about a row. In descending order after `fit`.
    active_components_ : ndarray of bool of shape (n_components_,)
        Which codes' posterior means have a variance over 0.01 on the training rows ([3]_,
        appendix C).
    lower_bound_ : float
        Mean evidence lower bound in nats per training row, as `score` has it, estimated from some
        of the rows of the last `fit` or `partial_fit`.
    n_components_ : int
        Number of codes per row.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training rows, over all `partial_fit` calls.
    n_samples_ : int
        Number of training rows, over all `partial_fit` calls; one that comes twice counts twice.
    n_iter_ : int
        Number of epochs run.
    loss_curve_ : list of float
        Mean of the objective per row, in nats in the network's units, per epoch.
    validation_loss_curve_ : list of float
        The same on the held-out rows.
    best_loss_ : float
        Held-out loss of the epoch that was kept; if nothing was held out, training loss of the
        last epoch or of the start that was kept, infinity if there was neither.
    scores_per_init_ : ndarray of shape (n_init,)
        Of several fits, the `score` of each, minus infinity if training diverged. Their
        seeds are ``check_random_state(random_state).randint(2**31 - 1, size=n_init)``.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.decomposition.PCA : The linear model with the same score.
    AutoencoderTransformer : Reconstruction alone.
    VQVAETransformer : Discrete codes.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014.
    .. [2] Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999.
    .. [3] Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae import VAETransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> vae = VAETransformer(n_components=4, early_stopping=False, max_iter=20, random_state=0)
    >>> vae = vae.fit(X[:1000])
    >>> bool(vae.score(X[1000:]) > PCA(n_components=4).fit(X[:1000]).score(X[1000:]))
    True
    >>> vae.sample(3, random_state=0).shape
    (3, 64)
    """

    _constraints: ClassVar[dict[str, list[Constraint]]] = {
        **VariationalModel._constraints,
        "beta": [real("[0, inf)"), SCHEDULE],
        "free_bits": [real("[0, inf)")],
        "likelihood": LIKELIHOOD_CONSTRAINTS,
        "n_importance_samples": [integer("[1, inf)")],
    }

    _architecture = (*VariationalModel._architecture, "likelihood", "n_importance_samples")

    def __init__(
        self,
        n_components: int | None = None,
        *,
        hidden_layer_sizes: Any = "auto",
        activation: str = "relu",
        encoder: Any = None,
        decoder: Any = None,
        init: str = "pca",
        n_init: int = 1,
        scale: str | None = "global",
        batch_size: int | str = "auto",
        max_iter: int = 200,
        learning_rate: float | Schedule = 1e-3,
        dropout: float | Schedule = 0.0,
        weight_decay: float | Schedule = 0.0,
        max_grad_norm: float | Schedule | None = None,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        device: str = "auto",
        precision: str = "float32",
        random_state: Any = None,
        verbose: int = 0,
        beta: float | Schedule = 1.0,
        free_bits: float = 0.0,
        likelihood: str | Likelihood = "gaussian",
        n_importance_samples: int = 1,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.init = init
        self.n_init = n_init
        self.scale = scale
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose
        self.beta = beta
        self.free_bits = free_bits
        self.likelihood = likelihood
        self.n_importance_samples = n_importance_samples

    def _n_encoded(self) -> int:
        return 2 * self.n_components_

    def _make_core(self, rows: StreamedRows | None) -> Callable[..., Core]:
        likelihood = self._likelihood()
        fixed = likelihood.fixed_dispersion(1.0) is not None
        per_feature = likelihood.per_feature or (fixed and self.scale == "standard")
        return partial(
            VAE,
            likelihood=likelihood,
            n_components=self.n_components_,
            n_dispersions=self.n_features_in_ if per_feature else None,
            n_draws=self.n_importance_samples,
        )

    def _objective(self, scaling: Scaling, device: torch.device) -> Objective:
        if self._likelihood().weight != 1:
            raise ValueError(
                f"likelihood={self.likelihood!r} has another weight than 1, with which it is not "
                "a likelihood. Leave it at 1, and weigh the divergence with beta."
            )
        likelihood = for_scaled_rows(self._likelihood(), scaling.center, scaling.scale, device)
        if self.n_importance_samples == 1:
            return Objective(likelihood, KLDivergence(self.beta, self.free_bits))
        if self.beta != 1 or self.free_bits:
            raise ValueError(
                f"n_importance_samples={self.n_importance_samples} trains the importance-weighted "
                "bound, in which the divergence has no weight of its own. Leave beta at 1 and "
                f"free_bits at 0 (got {self.beta!r} and {self.free_bits!r}), or set "
                "n_importance_samples=1."
            )
        return Objective(ImportanceWeightedBound(likelihood))

    def _likelihood(self) -> Likelihood:
        return deepcopy(resolve(self.likelihood, LIKELIHOODS))

    def _starts_at_pca(self) -> bool:
        likelihood = self._likelihood()
        known = not likelihood.raw_target or likelihood.rough_variance(np.ones(1)) is not None
        return known and super()._starts_at_pca()

    def _start(
        self,
        core: Any,
        axes: PrincipalAxes | None,
        scaling: Scaling,
        rows: StreamedRows,
        generator: Generator,
    ) -> None:
        start_probabilistic(core, axes, scaling, CentredRows(rows.X, scaling))
