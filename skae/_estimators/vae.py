"""VAETransformer: a variational autoencoder scored in nats, like PCA and GaussianMixture."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from .._data.batches import StreamedRows
from .._data.centred import CentredRows
from .._data.rows import ColumnSummary, check_whole_numbers, summarize
from .._data.scaling import Scaling
from .._inference.elbo import importance_weighted, lower_bounds, with_prior
from .._inference.jacobian import loadings
from .._init.pca import PrincipalAxes
from .._init.probabilistic_pca import gain_of_noise_per_feature, start_probabilistic
from .._init.robust_pca import without_outliers
from .._latent.basis import signs_of, sorted_basis
from .._latent.density import (
    Fitted,
    Learned,
    MixtureOnDemand,
    completed,
    density_of,
    draw_from_density,
    fit_gaussian,
    log_ratio_to_normal,
    whitened_normals,
)
from .._latent.moments import divergence_per_code
from .._latent.noise import scattered
from .._runtime.device import evaluation_device
from .._runtime.distributed import agreed
from .._runtime.random import draw_seed, make_generator, normal
from .._sklearn.params import (
    SCHEDULE,
    Constraints,
    check_n_samples,
    integer,
    real,
    real_beside_integers,
)
from .._training.defaults import share_of_warmup
from ..modules import VAE, Core
from ..objectives import Gaussian, KLDivergence, Likelihood, LinearWarmup, Schedule
from ..objectives._losses import for_scaled_rows
from .activity import LEAST_ACTIVITY, warn_of_inactive
from .fitting import Encoding
from .hints import (
    ActivationName,
    Auto,
    CodeDensity,
    CustomNet,
    Encoder,
    Init,
    LikelihoodName,
    Precision,
    Scale,
    Seed,
    Widths,
)
from .linear_view import LinearView
from .pca_attributes import directions_of
from .recipe import Recipe
from .slots import CODE_DENSITY_CONSTRAINTS, LIKELIHOOD_CONSTRAINTS, LIKELIHOODS, resolve

_SCORING_POINTS = 64
# `lower_bound_` is estimated from as many rows as this many decoded codes allow.
_CODES_BOUNDED = 2**14
# Where the codes of the start tell less than this, in nats on average, training begins with a
# divergence of little weight: it would switch codes off before a nonlinear net has a use for them.
_LITTLE_TOLD, _FIRST_BETA = 0.5, 0.1
# Noise of each feature's own that costs the linear model so many nats per row is not tried: where a
# feature hardly varies among some rows, it makes others all but impossible.
_LARGE_LOSS = 1.0


class VAETransformer(LinearView):
    """Variational autoencoder: codes with a distribution, and a likelihood of the data.

    It is trained as the model :math:`z \\sim N(0, I)` with a likelihood of rows given their codes,
    by default :math:`x | z \\sim N(\\hat x(z), s^2)` with learned noise variance, on the evidence
    lower bound ([1]_, equation 3). Its score is that bound, in nats per row of the original X: the
    unit of ``PCA.score``, ``FactorAnalysis.score`` and ``GaussianMixture.score``. With
    ``init="pca"`` and Gaussian noise training starts at the maximum-likelihood solution of
    probabilistic PCA ([2]_, equations 7 and 8), where the bound is exact (unless noise is a
    millionth of the rows' size or less: see `noise_variance_`).

    Where codes of training rows are far from N(0, I) the model's prior is a mixture instead,
    learned after training (see `prior`): scores are of that model, and `sample` draws from it,
    noise included, so that draws have the data's spread.

    Of 1024 features or more, and of more features than rows, `fit` trains built-in networks in the
    rows' leading principal coordinates, see `AutoencoderTransformer`: for Gaussian noise of one
    variance, and unless ``scale="standard"``.

    Parameters
    ----------
    n_components : int or float, default=None
        Number of codes per row. None is ``min(n_samples, n_features)``; a float in (0, 1) is as
        many as PCA needs to explain that fraction of the variance.
    hidden_layer_sizes : sequence of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder has them in reverse order. Empty for
        linear maps. "auto" is two layers: the power of two next to twice the number of features,
        between 64 and 512, and half of it, and beside an `encoder` no dense hidden layer.
    activation : {"relu", "tanh", "logistic", "identity", "silu", "gelu"}, default="relu"
        Activation of the hidden layers.
    encoder : skae.architectures.Architecture, callable, torch.nn.Module or None, default=None
        An architecture, such as `skae.architectures.Convolutional` for images, which makes encoder
        and decoder, both with a linear path that starts at PCA. Or a network of your own: a
        callable ``(n_in, n_out) -> torch.nn.Module``, such as the class ``torch.nn.Linear``, or a
        module, which is copied. It returns ``2 * n_components`` columns: the posterior's means, and
        then ``h`` in [-100, 100] for its variances ``1 / (1 + exp(h) / noise_variance)``, in the
        network's units. It is used as it is: without a linear path and without a PCA start.
    decoder : callable, torch.nn.Module or None, default=None
        A network of your own, as for `encoder`.
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
        between 64 and 512.
    max_iter : int or "auto", default="auto"
        Largest number of epochs. 0 keeps the start. "auto" is 200, or as many as make 8000 steps.
    learning_rate : float, Schedule or "auto", default="auto"
        Step size of schedule-free Adam, which averages weights and needs no decay; fixed, or on a
        schedule such as `skae.objectives.CosineDecay`, whose progress is counted in epochs of
        `max_iter`. "auto" is 0.02 for hidden layers of 64 units or fewer, and a quarter of that for
        each eightfold width; 0.005 for another architecture, 0.0025 with networks of your own.
    dropout : float or Schedule, default=0.0
        Probability in [0, 1) that a hidden unit is switched off for a row and step of training; the
        linear path has no dropout. Networks of your own bring their own.
    weight_decay : float or Schedule, default=0.1
        Decoupled weight decay (AdamW) of the hidden layers' weight matrices, relative to the
        learning rate. Linear paths beside hidden layers have none.
    max_grad_norm : float or Schedule, default=None
        Gradients of a larger norm are scaled down to it. None leaves them alone.
    early_stopping : bool or "auto", default="auto"
        Whether rows are held out to decide when to stop and which epoch to keep. "auto" does so
        when 5 rows are at most half of X; with fewer rows the PCA start is kept, if noise is
        Gaussian or Laplace's. Of fewer than 2000 rows "auto" holds out a fifth at a time: folds
        decide how many epochs to train for, and then a network is trained on all rows. False trains
        for `max_iter` epochs and keeps the last, unless what it started from, PCA or the last fit,
        serves training rows as well.
    validation_fraction : float, default=0.1
        Fraction of X to hold out where it is not cross-fitted; "auto" holds out at least 5 rows.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without an improvement of the held-out loss after which training stops. "auto" is 5,
        or as many as make 200 steps, but no more than 40.
    tol : float, default=1e-3
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
        `skae.objectives.LinearWarmup`. 1 is the evidence lower bound; scores always use 1. With 1
        and a PCA start whose codes tell next to nothing (less than half a nat on average) it rises
        from 0.1 within about 2000 steps, so that codes are not switched off at once. With more,
        codes tell less about a row and fewer are in use ([5]_, equation 4), which the PCA start
        does not undo.
    free_bits : float, default=0.0
        Nats that each code may tell about a row at no cost in training, which keeps codes from
        being switched off; scores always use 0.
    likelihood : {"auto", "gaussian", "laplace", "bernoulli", "poisson", "negative_binomial"} or \
Likelihood, default="auto"
        How rows are distributed around what the decoder returns. "auto" is Gaussian noise, shared
        or of each feature's own: that of the linear model which makes held-out rows likelier,
        unless networks with the other, of at most 2000 rows, make them likelier still, by a
        standard error; shared beyond 1024 features, below 100 rows, and where the linear model
        loses a nat. Where no rows are held out the linear model decides. "gaussian" has a learned
        noise variance, shared by all; ``skae.objectives.Gaussian("per_feature")`` has one of each,
        as in factor analysis, and
        ``Gaussian(0.1)`` a fixed one. "laplace" has heavier tails, and leaves outliers out of
        scaling, start and held-out losses. "bernoulli" is for zeros and ones, "poisson" and
        "negative_binomial" for counts: with these `scale` acts on the encoder's input alone, and
        rows outside of their support raise ValueError. Or a `skae.objectives.Likelihood` of your
        own.
    n_importance_samples : int, default=1
        Codes drawn for each row in training. With more than 1 the importance-weighted bound is
        trained ([3]_, equation 8), which is tighter; `beta` has to be 1 then, and `free_bits` 0.
    whiten : bool, default=False
        Whether codes are divided by the standard deviations that posterior means have on the
        training rows; codes that do not vary stay zero. Without, their unit is the prior's.
    prior : {"auto", "normal", "mixture"} or estimator, default="auto"
        The distribution of codes, which scores and draws are of. "normal" is N(0, I), with which
        every network is trained. "mixture" is a Gaussian mixture of draws from the training rows'
        posteriors, learned after training ([4]_, section 4), so that draws follow data that are
        curved or fall into groups: its number of components, up to 64, is doubled for as long as
        held-out codes become more probable, beyond a standard error; N(0, I) is one more, with
        the weight of one row, so that outliers stay possible. "auto" is such a mixture
        where held-out codes are more probable than under N(0, I), by as much, and N(0, I)
        otherwise and after `partial_fit`. Both mixtures are learned at the first score or draw, in
        a second or less. Or a scikit-learn estimator with ``fit``, ``sample`` and
        ``score_samples``, such as `sklearn.neighbors.KernelDensity`, which is cloned and fitted to
        such draws, in the unit of N(0, I). It and "mixture" learn after `partial_fit` from the
        last call's rows.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features_in_)
        Directions, of length 1, in which decoded rows move with each code: rows of the
        least-squares map from codes of the training rows to these. Principal axes for a linear net
        with shared Gaussian noise. After `partial_fit`, of the rows of the last call.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of rows along each component under the linear model: the squared length of the
        map's row, since codes have variance 1 under the prior, plus the noise variance, or its mean
        over features, where there is one. PCA's for such a net, but for the divisor n_samples.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Fraction of variance explained by the decoded codes of the training rows, or 0 if it is
        negative, shared out in proportion to `explained_variance_`; after `partial_fit`, of the
        rows of the last call.
    singular_values_ : ndarray of shape (n_components_,)
        Root of `explained_variance_` times ``n_samples_ - 1``.
    noise_variance_ : float or ndarray of shape (n_features_in_,)
        Variance of Gaussian or Laplace noise in X's squared units; one number unless the
        likelihood or ``scale="standard"`` makes it differ by feature. At least 1e-12 of the mean
        square of the rows, centred if `scale` does so: what lies below is lost in float32. A
        constant feature with a variance of its own has the least, and scores accordingly. One
        that is fixed is as it was given.
    likelihood_ : Likelihood
        The likelihood in use; of "auto" the one that was chosen.
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
        Mean evidence lower bound in nats per training row, with codes distributed as N(0, I), as
        in training; estimated from some of the rows of the last `fit` or `partial_fit`.
    prior_ : estimator
        The fitted prior: what `prior` is, or a `sklearn.mixture.GaussianMixture`, which "auto"
        learns when it is first asked for. In the unit of N(0, I) whatever `whiten`; set where the
        prior is not N(0, I).
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
    .. [4] Ghosh, Sajjadi, Vergari, Black and Schoelkopf, "From Variational to Deterministic
       Autoencoders", 2020.
    .. [5] Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
       Framework", 2017.

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

    kl_per_component_: np.ndarray
    active_components_: np.ndarray
    lower_bound_: float
    likelihood_: Likelihood
    noise_variance_: float | np.ndarray
    dispersion_: float | np.ndarray
    _density: Learned
    _deviations: np.ndarray | None = None

    _parameter_constraints: ClassVar[Constraints] = {
        **LinearView._parameter_constraints,
        "beta": [real("[0, inf)"), SCHEDULE],
        "free_bits": [real("[0, inf)")],
        "likelihood": LIKELIHOOD_CONSTRAINTS,
        "n_importance_samples": [integer("[1, inf)")],
        "n_components": [integer("[1, inf)"), real_beside_integers("(0, 1)"), None],
        "whiten": ["boolean"],
        "prior": CODE_DENSITY_CONSTRAINTS,
    }

    _loss_slot = "likelihood"
    _architecture = (*LinearView._architecture, "likelihood", "n_importance_samples")

    def __init__(
        self,
        n_components: int | float | None = None,
        *,
        hidden_layer_sizes: Widths = "auto",
        activation: ActivationName = "relu",
        encoder: Encoder = None,
        decoder: CustomNet = None,
        init: Init = "pca",
        n_init: int = 1,
        scale: Scale = "global",
        batch_size: int | Auto = "auto",
        max_iter: int | Auto = "auto",
        learning_rate: float | Schedule | Auto = "auto",
        dropout: float | Schedule = 0.0,
        weight_decay: float | Schedule = 0.1,
        max_grad_norm: float | Schedule | None = None,
        early_stopping: bool | Auto = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | Auto = "auto",
        tol: float = 1e-3,
        warm_start: bool = False,
        device: str = "auto",
        precision: Precision = "float32",
        random_state: Seed = None,
        verbose: int = 0,
        beta: float | Schedule = 1.0,
        free_bits: float = 0.0,
        likelihood: LikelihoodName | Likelihood = "auto",
        n_importance_samples: int = 1,
        whiten: bool = False,
        prior: CodeDensity = "auto",
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
        self.whiten = whiten
        self.prior = prior

    def _n_encoded(self) -> int:
        return 2 * self.n_components_

    def _make_core(self, rows: StreamedRows | None) -> Callable[..., Core]:
        likelihood = deepcopy(self._recipe.loss)
        fixed = likelihood.fixed_dispersion(1.0) is not None
        per_feature = likelihood.per_feature or (fixed and self.scale == "standard")
        return partial(
            VAE,
            likelihood=likelihood,
            n_components=self.n_components_,
            n_dispersions=self.n_features_in_ if per_feature else None,
            n_draws=self.n_importance_samples,
        )

    def _make_recipe(self) -> Recipe:
        likelihood = deepcopy(resolve(self.likelihood, LIKELIHOODS))
        if likelihood.weight != 1:
            raise ValueError(
                f"likelihood={self.likelihood!r} has another weight than 1, with which it is not "
                "a likelihood. Leave it at 1, and weigh the divergence with beta."
            )
        weighted = self.n_importance_samples > 1
        if weighted and (self.beta != 1 or self.free_bits):
            raise ValueError(
                f"n_importance_samples={self.n_importance_samples} trains the importance-weighted "
                "bound, in which the divergence has no weight of its own. Leave beta at 1 and "
                f"free_bits at 0 (got {self.beta!r} and {self.free_bits!r}), or set "
                "n_importance_samples=1."
            )
        known = not likelihood.raw_target or likelihood.rough_variance(np.ones(1)) is not None
        recipe = Recipe(
            likelihood,
            () if weighted else (KLDivergence(self.beta, self.free_bits),),
            starts_at_pca=known and self._asks_for_pca(),
            importance_weighted=weighted,
        )
        return recipe.check()

    def _candidates(self, X: Any) -> list[Recipe]:
        """Return the recipe; two where trained networks have to say whose noise it is."""
        if self.likelihood != "auto" or self.__sklearn_is_fitted__():
            return [self._recipe]
        k, _ = self._wanted_components(X)
        gain = gain_of_noise_per_feature(X, self.scale, k)
        own = replace(self._recipe, loss=Gaussian("per_feature"))
        if gain < -_LARGE_LOSS:
            return [self._recipe]
        return [own, self._recipe] if gain > 0 else [self._recipe, own]

    def _start(
        self,
        core: Any,
        axes: PrincipalAxes | None,
        scaling: Scaling,
        rows: StreamedRows,
        generator: Generator,
    ) -> None:
        centred = CentredRows(rows.X, scaling)
        if axes is not None and self._recipe.loss.is_robust:
            centred = without_outliers(rows.X, scaling, axes)
        told = start_probabilistic(core, axes, scaling, centred)
        warms_up = self.beta == 1 and self.n_importance_samples == 1
        if told is not None and warms_up and told.mean() < _LITTLE_TOLD:
            n_rows = rows.X.shape[0]
            share = share_of_warmup(self._most_epochs(rows.X), self.batch_size, n_rows)
            beta = LinearWarmup(share, start=_FIRST_BETA)
            self._recipe = replace(self._recipe, terms=(KLDivergence(beta, self.free_bits),))

    def _check_values(self, X: Any, scaling: Scaling, summary: ColumnSummary) -> None:
        super()._check_values(X, scaling, summary)
        if (likelihood := self._recipe.loss).discrete:
            check_whole_numbers(X, type(likelihood).__name__)

    @property
    def _fitted_likelihood(self) -> Any:
        return self._net.loss

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean evidence lower bound, in nats per row of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored; present by convention.

        Returns
        -------
        float
            Mean of `score_samples`.
        """
        return super().score(X)

    def _score(self, X: Any) -> float:
        return float(self._lower_bounds(X).mean())

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the evidence lower bound of each row, in nats, at beta 1.

        It is :math:`E_q[\\log p(x|z) + \\log p(z) - \\log q(z|x)]`, with p(z) the density of
        `prior_` where there is one, and of N(0, I) otherwise.

        The expectation over the posterior is an average over fixed antithetic points with
        identity covariance, shared by all rows: exact where the decoder is linear and the prior
        N(0, I), else an estimate, and the same at every call. There are 64 points, or twice the
        number of components if that is more.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Lower bounds of log p(x), or estimates of these, float64.
        """
        return self._lower_bounds(self._known_rows(X))

    def log_likelihood(self, X: Any, n_samples: int = 128, random_state: Any = None) -> np.ndarray:
        """Return estimates of log p(x) of each row, in nats, by importance sampling.

        Codes are drawn from each row's posterior ([1]_, equation 8). On average over draws the
        estimate is too low, by less the more codes are drawn, and by no more than the evidence
        lower bound. A row's draws depend on its position in X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_rows, n_features)
            Rows.
        n_samples : int, default=128
            Number of codes drawn for each row.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.

        Returns
        -------
        ndarray of shape (n_rows,)
            Log-likelihoods in the units of X, float64.

        Raises
        ------
        ValueError
            If `n_samples` is not a positive integer.

        References
        ----------
        .. [1] Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016.
        """
        X, n_draws = self._known_rows(X), check_n_samples(n_samples)
        generator = make_generator(random_state)
        bound = partial(importance_weighted, n_draws=n_draws, generator=generator)
        return self._in_nats(bound, X, in_order=True)

    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of each row's posterior, a diagonal Gaussian.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_components_)
            What `transform` returns, in X's floating dtype.
        std : ndarray of shape (n_samples, n_components_)
            Standard deviations; those of the prior are 1.
        """
        mean, std = self._posterior(self._known_rows(X))
        return self._whitened(mean), self._whitened(std)

    def sample_like(self, X: Any, random_state: Any = None, *, mean: bool = False) -> np.ndarray:
        """Draw a row around each row of X: a code from its posterior, a row from the likelihood.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.
        mean : bool, default=False
            Whether rows are the likelihood's means, without its noise.

        Returns
        -------
        X_drawn : ndarray of shape (n_samples, n_features_in_)
            Float64 rows, in the units of the training data.
        """
        means, deviations = self._posterior(self._known_rows(X))
        generator = make_generator(random_state)
        codes = means + deviations * normal(means.shape, generator).numpy()
        return self._rows_like(codes, generator, mean)

    def _lower_bounds(self, X: Any) -> np.ndarray:
        points = whitened_normals(_SCORING_POINTS, self.n_components_)
        return self._in_nats(partial(lower_bounds, points=points), X)

    def _in_nats(
        self, bound: Callable[..., Tensor], X: Any, *, in_order: bool = False
    ) -> np.ndarray:
        """Return ``bound(core, x, likelihood=...)`` of each row in the units of X."""
        # In float64 whatever X is: errors are divided by a noise variance that can be small.
        likelihood, scaling = self._fitted_likelihood, self._net.scaling
        if likelihood.raw_target:
            likelihood.check_support(*summarize(X)[1:])
        if likelihood.discrete:
            check_whole_numbers(X, type(likelihood).__name__)
        device = evaluation_device(self.device)
        term: Any = for_scaled_rows(likelihood, scaling.center, scaling.scale, device)
        if hasattr(self, "prior_"):
            term = partial(with_prior, term, self._log_prior_ratio)
        rows_bound = partial(bound, likelihood=term)
        how = {"known": False, "in_order": in_order}
        bounds = self._net.map_rows(rows_bound, X, device, np.float64, **how)
        if self._wide:
            scaling = self._wide.coordinates.scaling
        return bounds if likelihood.raw_target else bounds - scaling.log_volume

    def _log_prior_ratio(self, raw: Tensor) -> Tensor:
        """Return log p(z) - log N(z; 0, I) of codes as the network has them, shape (n_codes,)."""
        basis = self._net.basis
        codes = (raw if basis is None else basis.enter(raw)).cpu().numpy()
        return torch.from_numpy(log_ratio_to_normal(self.prior_, codes)).to(raw)

    def _posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        net: Any = self._net
        basis = net.basis

        def posterior(core: Any, x: Tensor) -> Tensor:
            mean, log_variance = core.posterior(x)
            if basis is not None:
                mean, log_variance = basis.enter(mean), basis.of_each(log_variance)
            return torch.cat([mean, log_variance], 1)

        both = net.map_rows(posterior, X, evaluation_device(self.device))
        mean, log_variance = np.split(both, 2, axis=1)
        return mean, np.exp(0.5 * log_variance)

    def _encode(self, X: Any) -> np.ndarray:
        return self._whitened(super()._encode(X))

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        if self._deviations is not None:
            codes = codes * self._deviations.astype(codes.dtype)
        return super()._decode(codes)

    def _whitened(self, codes: np.ndarray) -> np.ndarray:
        """Return codes in the prior's unit, whitened if they are to be."""
        if self._deviations is None:
            return codes
        deviations = self._deviations.astype(codes.dtype)
        return np.divide(codes, deviations, out=np.zeros_like(codes), where=deviations > 0)

    def _signal_variance(self) -> np.ndarray:
        return self.explained_variance_ - np.mean(self._noise())

    def _noise(self) -> Any:
        if not hasattr(self, "noise_variance_"):
            raise ValueError(
                "get_covariance and get_precision need noise whose variance does not depend on the "
                f"mean, which likelihood={self.likelihood!r} does not have. Use 'gaussian' or "
                "'laplace'."
            )
        return self.noise_variance_

    def _draw(self, n_samples: int, generator: Generator, mean: bool) -> np.ndarray:
        if hasattr(self, "prior_"):
            codes = draw_from_density(n_samples, self.prior_, generator)
        else:
            codes = normal((n_samples, self.n_components_), generator).numpy()
        return self._rows_like(codes, generator, mean)

    def _rows_like(self, codes: np.ndarray, generator: Generator, mean: bool) -> np.ndarray:
        rows = super()._decode(codes.astype(np.float64))
        if mean:
            return rows
        likelihood, scaling = self._fitted_likelihood, self._net.scaling
        return scattered(rows, likelihood, self._dispersion(), scaling, generator)

    def _dispersion(self) -> np.ndarray:
        """Return what the likelihood has beside the network, in its units."""
        likelihood, scaling = self._fitted_likelihood, self._net.scaling
        fixed = likelihood.fixed_dispersion(1.0 if likelihood.raw_target else scaling.scale)
        if fixed is not None:
            return np.asarray(fixed)
        core: Any = self._net.core(torch.float64, torch.device("cpu"))
        return core.dispersion.detach().numpy()

    def _encoding(self, X: Any) -> Encoding:
        return Encoding(X, *self._posterior(X))

    def _describe(self, X: Any, held_out: Any) -> Encoding:
        """Sort the codes by their divergence from the prior, with PCA's rule for signs."""
        self._net.basis, self._deviations = None, None
        means, deviations = self._posterior(X)
        divergences = divergence_per_code(means, deviations)
        origin, device = np.zeros(self.n_components_), evaluation_device(self.device)
        directions = loadings(self._net, origin, device) / self._net.scaling.scale
        signs = signs_of(self._wide.by_feature(directions) if self._wide else directions)
        order = np.argsort(-divergences, kind="stable")
        self._net.basis = sorted_basis(order, signs[order])
        means = means[:, order] * signs[order].astype(means.dtype)
        return Encoding(X, means, deviations[:, order])

    def _publish(self, encoding: Encoding, n_before: int) -> None:
        X, means, deviations = encoding.rows, encoding.codes, encoding.deviations
        assert deviations is not None
        self._publish_dispersion()
        self._density = None
        n_rows = max(1, _CODES_BOUNDED // max(_SCORING_POINTS, 2 * self.n_components_))
        some = X[:: -(-X.shape[0] // n_rows)]
        self.lower_bound_ = float(self._lower_bounds(some).mean())
        self._publish_prior(means, deviations, chooses=not (n_before or self._is_streamed))
        divergences = divergence_per_code(means, deviations)
        before = None
        if n_before:
            before = (n_before, self._code_mean, self._code_variances)
            share = n_before / (n_before + len(means))
            divergences = share * self.kl_per_component_ + (1 - share) * divergences
        self.kl_per_component_ = divergences
        self._code_mean, self._code_variances = fit_gaussian(means, before, jointly=False)
        self.active_components_ = self._code_variances > LEAST_ACTIVITY
        self._publish_components(X, means)
        if not n_before:
            if self.whiten:
                self._deviations = np.sqrt(self._code_variances)
            n_varying = int((~self._net.scaling.constant).sum())
            warn_of_inactive(self, min(self.n_components_, n_varying, X.shape[0] - 1))

    def _publish_by_feature(self, encoding: Encoding, n_before: int) -> None:
        self.likelihood_ = self._fitted_likelihood

    def _publish_prior(self, means: np.ndarray, deviations: np.ndarray, *, chooses: bool) -> None:
        """Learn the prior from draws of the posteriors; "auto" is N(0, I) unless it `chooses`."""
        if self.prior == "normal" or (self.prior == "auto" and not chooses):
            return
        seed = agreed(draw_seed(self.random_state))
        noise = np.random.default_rng(seed).normal(size=means.shape)
        codes = means + deviations * noise
        if not isinstance(self.prior, str):
            self._density = Fitted(completed(self.prior, self.random_state).fit(codes))
        else:
            least = int(self.prior == "mixture")
            self._density = MixtureOnDemand(codes, seed, beside_normal=True, least=least)

    @property
    def prior_(self) -> Any:
        """What codes are drawn from, where that is not N(0, I)."""
        check_is_fitted(self)
        return density_of(self._density, "prior_")

    def _publish_components(self, X: Any, means: np.ndarray) -> None:
        """Set PCA's attributes, of the rows of this call."""
        moments = self._moments(X, means)
        directions = directions_of(moments)
        lengths = np.linalg.norm(directions, axis=1)
        noise = np.mean(self.noise_variance_) if hasattr(self, "noise_variance_") else 0.0
        self._publish_variances(np.square(lengths) + noise, moments)
        directions /= (lengths + (lengths == 0))[:, None]
        self._directions = directions.astype(X.dtype)

    def _publish_dispersion(self) -> None:
        for name in ("noise_variance_", "dispersion_"):
            self.__dict__.pop(name, None)
        likelihood, dispersion = self._fitted_likelihood, self._dispersion()
        fixed = likelihood.fixed_dispersion(1.0)
        variance = likelihood.variance_at(dispersion if fixed is None else fixed)
        if variance is not None and not likelihood.raw_target:
            scaling = self._net.scaling
            unit = scaling.scale[0] if scaling.is_uniform else scaling.scale
            self.noise_variance_ = _plain(variance * unit**2 if fixed is None else variance)
        elif fixed is not None or likelihood.learns_dispersion:
            self.dispersion_ = _plain(dispersion if fixed is None else fixed)


def _plain(values: Any) -> float | np.ndarray:
    """Return an array, or a float where it is one number."""
    return float(values) if np.ndim(values) == 0 else values
