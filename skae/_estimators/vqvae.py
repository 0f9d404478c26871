"""VQVAETransformer: a vector-quantised autoencoder, several discrete codes per row."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from torch import Generator

from .._data.batches import Rows, StreamedRows
from .._data.centred import CentredRows
from .._data.codes import (
    check_container,
    check_integer_codes,
    codes_of_one_hot,
    count_codes,
    one_hot,
)
from .._data.rows import dense
from .._data.scaling import Scaling
from .._inference.integer_codes import decode_integers, look_up
from .._init.pca import PrincipalAxes, patch_axes, start_at_axes
from .._init.robust_pca import robust_axes, without_outliers
from .._latent.basis import sorted_basis
from .._latent.density import completed, draw_from_density, fit_gaussian
from .._latent.noise import ResidualNoise
from .._runtime.device import evaluation_device
from .._sklearn.inputs import check_codes
from .._sklearn.params import Constraints, Kind, OneOf, integer, real, real_beside_integers
from .._training.defaults import rows_per_batch
from .._training.learner import Run
from .._training.loop import History
from .._training.trainer import Trainer
from ..modules import Core, perplexity
from ..modules._vqvae import assembled
from ..objectives import Loss, Schedule
from ..priors import CodePrior
from ..quantization import Quantization
from .beginning import kept, same
from .codebooks import (
    count_parts,
    refine_codebooks,
    restart_dead_codes,
    size_of_codebooks,
    start_codebooks,
    warn_of_unused,
)
from .cross_fit import training_gain
from .fitting import Encoding
from .hints import (
    ActivationName,
    Auto,
    CustomNet,
    Encoder,
    Init,
    LossName,
    Precision,
    Prior,
    QuantizerName,
    Scale,
    Seed,
    Widths,
)
from .linear_view import LinearView
from .pca_attributes import directions_of
from .recipe import Recipe
from .slots import LOSSES, PRIORS, QUANTIZER_CONSTRAINTS, QUANTIZERS, SLOT_CONSTRAINTS, resolve

_CODEBOOK_SIZE = 256
_PRIOR = Kind(
    "an object with fit, sample and log_prob",
    lambda value: (
        not isinstance(value, type)
        and all(hasattr(value, name) for name in ("fit", "sample", "log_prob"))
    ),
)
# So many training rows, and values, at most are decoded to measure the noise.
_MOST_ROWS_MEASURED, _MOST_VALUES_MEASURED = 10_000, 2**22


class VQVAETransformer(LinearView):
    """Vector-quantised autoencoder: each row becomes a few discrete codes.

    The encoder's output is cut into `n_codes` vectors and each is replaced by the nearest vector
    of its own codebook before it is decoded [1]_. Codebooks start at k-means of the encodings,
    follow them as exponential moving averages, and codes that fall out of use are moved onto
    encodings of training rows after each epoch, so that codebooks stay alive. Once the codes are
    found, a prior over them is learned, from which `sample` draws.

    Of 1024 features or more, and of more features than rows, `fit` trains built-in networks in the
    rows' leading principal coordinates, see `AutoencoderTransformer`: for the squared
    error, and unless ``scale="standard"``.

    Parameters
    ----------
    n_components : int or float, default=None
        Width of a row's code vectors together. None is ``min(n_samples, n_features)``; a float in
        (0, 1) is as many as PCA needs to explain that fraction of the variance, and as `n_codes`
        divides.
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
        module, which is copied. It is used as it is: without a linear path and without a PCA start.
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
        when 5 rows are at most half of X; with fewer rows the PCA start is kept. Of fewer than 2000
        rows "auto" holds out a fifth at a time: folds decide how many epochs to train for, and then
        a network is trained on all rows (for an int `n_components`). False trains for
        `max_iter` epochs and keeps the last, unless what it started from, PCA with k-means or the
        last fit, serves training rows as well.
    validation_fraction : float, default=0.1
        Fraction of X to hold out where it is not cross-fitted; "auto" holds out at least 5 rows.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without an improvement of the held-out loss after which training stops. "auto" is 5,
        or as many as make 200 steps, but no more than 40.
    tol : float, default=1e-3
        Smallest improvement of the held-out loss that counts, also as a sum, as a fraction of the
        total variance: the unit of `score`.
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
    n_codes : int or "auto", default="auto"
        Number of vectors that an encoding is cut into, a divisor of `n_components`. "auto" is the
        divisor that makes vectors of about 4 components; for a prime number of components that may
        be one.
    codebook_size : int or "auto", default="auto"
        Number of vectors in each codebook; in `fit` never more than there are distinct training
        rows, with a warning where a number was given. "auto" is 256.
    codebook_update : {"ema", "gradient"}, default="ema"
        How codebooks follow the encodings: as moving averages, or by gradients of the codebook
        loss.
    decay : float, default=0.99
        Decay of the codebooks' moving averages, per batch. Of no effect on gradients.
    commitment_weight : float, default=1.0
        Weight of the commitment loss. With less, the encoder stretches until the square of its
        scale makes up for it, and codebooks follow late.
    dead_code_threshold : float, default=0.05
        A code is restarted when it is used less than this fraction of its codebook's mean use, and
        its rows are not far from all other codes; 0 restarts none.
    quantizer : {"vector", "residual", "finite_scalar"} or Quantization, default="vector"
        How vectors become integers: the nearest code; the nearest code and that of what it leaves
        over (two stages); each component rounded to a few levels; or an object of
        `skae.quantization`, which sets the number of stages or levels, or shares codebooks.
    encode : {"vectors", "codes", "onehot"}, default="vectors"
        What `transform` returns and `inverse_transform` takes: codebook vectors, `n_components`
        columns; integer codes, ``n_codes_`` columns; or these as zeros and ones, a CSR matrix.
    loss : {"squared_error", "absolute_error", "huber", "bernoulli", "poisson"} or Loss, \
default="squared_error"
        What is minimised beside the distances between encodings and codes, as in
        `AutoencoderTransformer`.
    prior : {"autoregressive", "independent", "uniform"} or object, default="independent"
        How the codes of a row go together, which is learned after they are found, for `sample` and
        `bits_per_row`. "independent", the codes' frequencies, costs nothing. "autoregressive" is
        for draws that are like the rows: a small network learns each code's probability given those
        before
        it, which takes time. "uniform" learns nothing. Or an object of `skae.priors`, or of your
        own with ``fit(codes)``, ``sample(n_samples)`` and ``log_prob(codes)`` in nats per row.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features_in_)
        What a unit of each component of the code vectors adds to reconstructions on average: rows
        of the least-squares map from vectors of the training rows to these; after `partial_fit`, of
        the rows of the last call.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each component of the code vectors over the training rows, divided by
        ``n_samples_ - 1``, in squared units of X unless ``scale="standard"``; not sorted.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Fraction of variance explained of the training rows, or 0 if it is negative, shared out in
        proportion to `explained_variance_`; after `partial_fit`, of the rows of the last call.
    singular_values_ : ndarray of shape (n_components_,)
        Root of `explained_variance_` times ``n_samples_ - 1``.
    codebook_ : ndarray of shape (n_codebooks, codebook_size, code_dim)
        The codebook vectors, in X's units unless ``scale="standard"``. There is one codebook per
        code, in the order of codes, or one per stage if they are shared.
    codebook_usage_ : ndarray of shape (n_codes_, codebook_size)
        Fraction of the training rows that use each code.
    n_codes_ : int
        Number of integers per row: `n_codes`, for each stage. The first stage's come first.
    perplexity_ : ndarray of shape (n_codes_,)
        Exponential of the entropy of the codes' use: how many are in even use.
    prior_ : object
        The fitted prior.
    noise_variance_ : ndarray of shape (n_features_in_,)
        Mean squared error of the reconstruction per feature, over up to 10,000 training rows, in
        squared units of X. The noise in `sample` has the distribution of these errors by feature,
        or is that of `loss` where it is a likelihood.
    n_components_ : int
        Number of columns of `transform`, with ``encode="vectors"``.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training rows, over all `partial_fit` calls.
    n_samples_ : int
        Number of training rows, over all `partial_fit` calls; one that comes twice counts twice.
    n_iter_ : int
        Number of epochs run.
    loss_curve_ : list of float
        Mean of the objective per row, in the network's units, per epoch.
    validation_loss_curve_ : list of float
        Mean of `loss` per held-out row, without the distances between encodings and codes.
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
    sklearn.cluster.KMeans : Vector quantization of the rows themselves.
    AutoencoderTransformer : Continuous codes.
    VAETransformer : Continuous codes with a distribution.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import VQVAETransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> vqvae = VQVAETransformer(n_components=8, codebook_size=64, max_iter=0, random_state=0)
    >>> vqvae.fit_transform(X[:1000]).shape
    (1000, 8)
    >>> vqvae.codebook_.shape
    (2, 64, 4)
    """

    codebook_: np.ndarray
    codebook_usage_: np.ndarray
    n_codes_: int
    perplexity_: np.ndarray
    noise_variance_: np.ndarray
    _residual_noise: ResidualNoise
    prior_: Any
    _prior_asked: Any
    _encoded_as: str

    _parameter_constraints: ClassVar[Constraints] = {
        **LinearView._parameter_constraints,
        "n_components": [integer("[1, inf)"), real_beside_integers("(0, 1)"), None],
        "n_codes": [integer("[1, inf)"), OneOf("auto")],
        "codebook_size": [integer("[1, inf)"), OneOf("auto")],
        "codebook_update": [OneOf("ema", "gradient")],
        "decay": [real("[0, 1)")],
        "commitment_weight": [real("[0, inf)")],
        "dead_code_threshold": [real("[0, 1)")],
        "encode": [OneOf("vectors", "codes", "onehot")],
        "loss": SLOT_CONSTRAINTS["loss"],
        "quantizer": QUANTIZER_CONSTRAINTS,
        "prior": [OneOf(*PRIORS), _PRIOR],
    }

    _architecture = (
        *LinearView._architecture,
        "n_codes",
        "codebook_size",
        "codebook_update",
        "decay",
        "quantizer",
        "loss",
    )

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
        n_codes: int | Auto = "auto",
        codebook_size: int | Auto = "auto",
        codebook_update: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        commitment_weight: float = 1.0,
        dead_code_threshold: float = 0.05,
        quantizer: QuantizerName | Quantization = "vector",
        encode: Literal["vectors", "codes", "onehot"] = "vectors",
        loss: LossName | Loss = "squared_error",
        prior: Prior = "independent",
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
        self.n_codes = n_codes
        self.codebook_size = codebook_size
        self.codebook_update = codebook_update
        self.decay = decay
        self.commitment_weight = commitment_weight
        self.dead_code_threshold = dead_code_threshold
        self.quantizer = quantizer
        self.encode = encode
        self.loss = loss
        self.prior = prior

    def _make_core(self, rows: StreamedRows | None) -> Callable[..., Core]:
        n_parts = self._count_parts(self.n_components_)
        build = partial(
            deepcopy(self._quantization).build,
            n_parts,
            self._size_of_codebooks(rows),
            self.n_components_ // n_parts,
            None if self.codebook_update == "gradient" else self.decay,
        )
        return partial(assembled, build=build)

    def _count_parts(self, k: int) -> int:
        """Return the number of vectors that a row of k components is cut into."""
        n_places = len(self._patches) if self._patches else None
        return count_parts(self.n_codes, k, n_places)

    def _check_patches(self) -> None:
        if self._patches is None:
            return
        if self._score_to_reach() is not None:
            raise ValueError(
                "n_components must be a number with a code for each position, so many for each of "
                f"them. Got {self.n_components!r}."
            )
        if len(self._hidden_widths(self.n_features_in_)):
            raise ValueError(
                "hidden_layer_sizes are dense layers, which a code for each position does without. "
                f"Got {self.hidden_layer_sizes!r}; use 'auto'."
            )

    def _principal_axes(self, X: Any, scaling: Scaling) -> PrincipalAxes | None:
        if self._patches is None:
            return super()._principal_axes(X, scaling)
        self.n_components_, _ = self._wanted_components(X)
        n_each = self.n_components_ // self._count_parts(self.n_components_)
        if not self._recipe.starts_at_pca:
            return None
        rows = CentredRows(X, scaling)
        if self._recipe.loss.is_robust:
            rows = without_outliers(X, scaling, robust_axes(X, scaling, min(n_each, *X.shape)))
        return patch_axes(rows, self._patches, n_each)

    def _divisible(self, k: int, most: int) -> int:
        n = len(self._patches) if self._patches else self.n_codes
        n = 1 if isinstance(n, str) else int(n)
        return min(-(-k // n), max(most // n, 1)) * n

    def _size_of_codebooks(self, rows: StreamedRows | None) -> int:
        """Return the number of vectors per codebook."""
        wanted = self._largest_codebook()
        if rows is None or not self._quantization.learned:
            return wanted
        return size_of_codebooks(wanted, rows, asked=self.codebook_size != "auto")

    def _make_recipe(self) -> Recipe:
        quantization = resolve(self.quantizer, QUANTIZERS)
        prior = resolve(self.prior, PRIORS)
        if isinstance(prior, CodePrior):
            prior.check()
        self._check_codes(quantization)
        by_gradient = self.codebook_update == "gradient"
        recipe = Recipe(
            deepcopy(resolve(self.loss, LOSSES)),
            tuple(quantization.terms(self.commitment_weight, by_gradient)),
            starts_at_pca=self._asks_for_pca(),
            quantization=quantization,
        )
        return recipe.check()

    def _check_codes(self, quantization: Quantization) -> None:
        k = self.n_components
        code_dim = None if k is None or k < 1 else int(k) // self._count_parts(int(k))
        quantization.check(self._largest_codebook(), code_dim)

    @property
    def _quantization(self) -> Quantization:
        quantization = self._recipe.quantization
        assert quantization is not None
        return quantization

    def _largest_codebook(self) -> int:
        return _CODEBOOK_SIZE if isinstance(self.codebook_size, str) else int(self.codebook_size)

    def _start(
        self,
        core: Any,
        axes: PrincipalAxes | None,
        scaling: Scaling,
        rows: StreamedRows,
        generator: Generator,
    ) -> None:
        if axes is not None and self._patches is None:
            axes = axes.shared_out(self._count_parts(len(axes.variances)))
        start_at_axes(core, axes, self._recipe.loss, scaling)

    def _start_codes(self, core: Any, rows: StreamedRows, generator: Generator) -> None:
        batch_size = rows_per_batch(self.batch_size, rows.n_rows)
        start_codebooks(core, rows, batch_size, generator)

    def _after_epoch(self, trainer: Trainer, rows: Rows) -> None:
        threshold = self.dead_code_threshold
        if threshold > 0 and self._quantization.learned:
            restart_dead_codes(trainer.core, rows, threshold, trainer.generator)

    def _refine(self, trainer: Trainer, rows_in: Any) -> None:
        if self._quantization.learned:
            refine_codebooks(trainer, trainer.rows(rows_in))

    def _confirm(self, run: Run, history: History) -> None:
        best = history.best
        if best is not None and training_gain(run, best) < 0:
            run.step.restore(best.start.snapshot[0])
            history.best_loss = best.start.loss

    def transform(self, X: Any) -> Any:
        """Return the codes of X, in the form that `encode` says.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        Z : ndarray or CSR matrix
            "vectors": the codes' vectors side by side, ``(n_samples, n_components_)``, in X's
            floating dtype. "codes": int64 of shape ``(n_samples, n_codes_)``. "onehot": zeros and
            ones in CSR, float64 of shape ``(n_samples, n_codes_ * codebook_size)``. A row's code
            does not depend on the rows beside it.

        Raises
        ------
        ValueError
            If output as a data frame is asked for with ``encode="onehot"``.
        """
        X = self._known_rows(X)
        if self._encoded_as == "onehot":
            check_container(self)
        codes = self._integer_codes(X)
        if self._encoded_as == "vectors":
            return self._vectors(codes).astype(X.dtype)
        return codes if self._encoded_as == "codes" else one_hot(codes, self._codebook_size)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the rows that codes stand for.

        Parameters
        ----------
        X : array-like or sparse matrix
            Codes as `transform` returns them.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features_in_)
            Reconstructed rows, in the units of the training data: of vectors in their dtype, of
            codes in float64.

        Raises
        ------
        ValueError
            If X has another number of columns than `transform` returns, or holds what is not a
            code.
        """
        check_is_fitted(self)
        if self._encoded_as == "onehot":
            return self._decode_integers(codes_of_one_hot(X, self.n_codes_, self._codebook_size))
        X = check_codes(self, X, self._n_features_out)
        if self._encoded_as == "vectors":
            return self._decode(X)
        return self._decode_integers(check_integer_codes(X, self._codebook_size))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the columns of `transform`.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against the names seen in `fit`.

        Returns
        -------
        ndarray of str objects
            The class and the column's number, ``vqvaetransformer0``; with ``encode="onehot"`` the
            code's number and its value, ``vqvaetransformer0_17``.
        """
        names = super().get_feature_names_out(input_features)
        if self._encoded_as != "onehot":
            return names
        prefix = type(self).__name__.lower()
        pairs = np.ndindex(self.n_codes_, self._codebook_size)
        return np.asarray([f"{prefix}{i}_{value}" for i, value in pairs], dtype=object)

    def bits_per_row(self, X: Any) -> float:
        r"""Return the mean code length of rows under the prior, :math:`-\log_2 p(codes)`.

        It is what a lossless code of the rows' integers needs; `score` says what is lost.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        float
            Bits; infinity if the prior rules a row out.

        Raises
        ------
        ValueError
            If the prior's `log_prob` does not return a number for each row.
        """
        codes = self._integer_codes(self._known_rows(X))
        lengths = np.asarray(self.prior_.log_prob(codes), dtype=np.float64)
        if lengths.shape != (len(codes),) or np.isnan(lengths).any():
            raise ValueError(
                f"log_prob of a prior must return one number for each of {len(codes)} rows, but "
                f"that of {self.prior_!r} returned shape {lengths.shape}"
                + (" with NaN." if np.isnan(lengths).any() else ".")
            )
        return float(-lengths.mean() / math.log(2))

    @property
    def _n_features_out(self) -> int:
        widths = {"vectors": self.n_components_, "codes": self.n_codes_}
        return widths.get(self._encoded_as, self.codebook_usage_.size)

    @property
    def _codebook_size(self) -> int:
        return self.codebook_usage_.shape[1]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if self.encode != "vectors":
            tags.transformer_tags.preserves_dtype = []
        return tags

    def _integer_codes(self, X: Any) -> np.ndarray:
        return self._net.map_rows(lambda core, x: core.codes(x), X, evaluation_device(self.device))

    def _vectors(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors of integer codes side by side, (n_rows, n_components_)."""
        return look_up(self._net, codes, evaluation_device(self.device))

    def _decode_integers(self, codes: np.ndarray) -> np.ndarray:
        return decode_integers(self._net, codes, evaluation_device(self.device))

    def _quantizer(self) -> Any:
        core: Any = self._net.core(torch.float64, torch.device("cpu"))
        return core.quantizer

    def _encoding(self, X: Any) -> Encoding:
        return Encoding(X, self._integer_codes(X))

    def _publish(self, encoding: Encoding, n_before: int) -> None:
        codes = encoding.codes
        unit = self._net.scaling.unit
        self._net.basis = sorted_basis(np.arange(self.n_components_), unit)
        self._encoded_as = self.encode
        quantizer = self._quantizer()
        self.codebook_ = quantizer.codebook.detach().numpy().copy() * unit
        self.n_codes_ = quantizer.n_codes
        counts = count_codes(codes, self.codebook_.shape[1])
        if n_before:
            counts = counts + n_before * self.codebook_usage_
        self.codebook_usage_ = counts / (n_before + len(codes))
        self.perplexity_ = perplexity(torch.from_numpy(self.codebook_usage_)).numpy()
        if not n_before:
            owner, threshold = quantizer.owner.numpy(), self.dead_code_threshold
            usage = self.codebook_usage_
            warn_of_unused(usage, owner, len(codes), self._quantization, threshold)
        self._learn_prior(codes, n_before)
        self._publish_components(encoding, n_before)

    def _publish_components(self, encoding: Encoding, n_before: int) -> None:
        """Set PCA's attributes."""
        X, vectors = encoding.rows, self._vectors(encoding.codes)
        before = (n_before, self._code_mean, self._code_variances) if n_before else None
        self._code_mean, self._code_variances = fit_gaussian(vectors, before, jointly=False)
        moments = self._moments(X, vectors)
        self._directions = directions_of(moments).astype(X.dtype)
        variance = self._code_variances * self.n_samples_ / max(self.n_samples_ - 1, 1)
        self._publish_variances(variance, moments)

    def _publish_by_feature(self, encoding: Encoding, n_before: int) -> None:
        """Measure what reconstructions miss, by feature."""
        X, codes = encoding.rows, encoding.codes
        n_rows = max(1, min(_MOST_ROWS_MEASURED, _MOST_VALUES_MEASURED // X.shape[1]))
        step = -(-X.shape[0] // n_rows)
        noise = ResidualNoise.of(dense(X[::step]) - self._decode_integers(codes[::step]))
        if n_before:
            noise = noise.mixed(self._residual_noise, n_before / (n_before + X.shape[0]))
        self._residual_noise, self.noise_variance_ = noise, noise.variance

    def _learn_prior(self, codes: np.ndarray, n_before: int) -> None:
        goes_on = n_before and same(self.prior, self._prior_asked)
        if goes_on and hasattr(self.prior_, "partial_fit"):
            prior = deepcopy(self.prior_)
            prior.partial_fit(codes)
        else:
            known: dict[str, Any] = {"codebook_size": self._codebook_size, "device": self.device}
            prior = completed(resolve(self.prior, PRIORS), self.random_state, **known)
            known = {"vectors": self.codebook_[self._quantizer().owner.numpy()]}
            prior.fit(codes, **(known if has_fit_parameter(prior, "vectors") else {}))
        self.prior_, self._prior_asked = prior, kept(self.prior)

    def _draw(self, n_samples: int, generator: Generator, mean: bool) -> np.ndarray:
        drawn = draw_from_density(n_samples, self.prior_, generator)
        if drawn.shape != (n_samples, self.n_codes_):
            raise ValueError(
                f"sample of a prior must return {n_samples} rows of {self.n_codes_} codes, but "
                f"that of {self.prior_!r} returned shape {drawn.shape}."
            )
        source = f"What {self.prior_!r} drew", "sample must return"
        codes = check_integer_codes(drawn, self._codebook_size, *source)
        rows = self._decode_integers(codes)
        if mean:
            return rows
        noise = partial(self._residual_noise.draw, n_samples, generator)
        return self._with_noise(rows, noise, generator)
