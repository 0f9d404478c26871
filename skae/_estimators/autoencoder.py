"""AutoencoderTransformer: the autoencoder in PCA's place."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Generator

from .._data.batches import Rows, StreamedRows
from .._data.rows import dense
from .._data.scaling import Scaling
from .._init.incremental import scaled_rows
from .._init.pca import PrincipalAxes, start_at_axes
from .._latent.basis import Basis, axes_basis, permuted_basis, rotated_basis, untouched_basis
from .._latent.density import (
    Fitted,
    Learned,
    MixtureOnDemand,
    completed,
    density_of,
    draw_from_density,
    draw_gaussian,
    fit_gaussian,
)
from .._latent.moments import CodeMoments
from .._latent.noise import NoiseNearCodes, most_near
from .._runtime.device import evaluation_device
from .._runtime.distributed import agreed
from .._runtime.random import draw_seed
from .._sklearn.params import Constraints, OneOf, integer, real_beside_integers
from .._training.defaults import most_epochs, rows_per_batch
from .._training.pretraining import pretrain_greedily
from .._training.trainer import Trainer
from .._training.validation import BestState
from ..modules import Autoencoder, Core
from ..modules._building import check_tied_weights
from ..objectives import CodeActivation, Loss, Schedule
from .base import BaseAutoencoder
from .cross_fit import Compared, gain
from .fitting import Encoding
from .hints import (
    ActivationName,
    Auto,
    CodeActivationName,
    CustomNet,
    Density,
    Encoder,
    Init,
    LossName,
    Noising,
    Penalties,
    Precision,
    Scale,
    Seed,
    Widths,
)
from .linear_view import LinearView
from .pca_attributes import Description
from .recipe import Recipe
from .slots import (
    CORRUPTIONS,
    LOSSES,
    SLOT_CONSTRAINTS,
    check_penalties,
    resolve,
    resolve_code_activation,
    resolve_penalties,
)
from .stream import Stream


class AutoencoderTransformer(LinearView):
    """Autoencoder: nonlinear dimensionality reduction that starts at PCA.

    Encoder and decoder are multilayer perceptrons trained to reproduce their input through
    `n_components` numbers. With ``init="pca"`` each has a linear path that starts at the
    principal axes of the training rows, beside a nonlinear path that starts at zero: before the
    first epoch the model is PCA, and it is left only for an epoch that reconstructs held-out rows
    better, by more than one standard error of the paired gain (two of 25 rows). Tables of fewer
    than 2000 rows are cross-fitted for that, and trained on all rows in the end.

    Codes are as tidy as PCA's: over the training rows they have mean zero and are uncorrelated, in
    the units of X, in descending order of variance, with the signs of the principal axes that they
    are nearest to. The attributes that PCA has mean the same here, and equal PCA's for a linear
    net. They, and this basis, describe the last `fit`. With `partial_fit` the linear path, the
    basis and the attributes follow all rows so far, as in IncrementalPCA; what the nonlinear path
    adds to the attributes is an average over about ten calls, measured on the rows of each before
    it is trained on them. Where codes are not rotated, or with ``scale="standard"``, they stay as
    they were at the start.

    `sample` draws codes from `latent_density` and adds to what they stand for the residual of the
    training row with the nearest code, of up to 4096 rows that are kept with the fit, or draws
    from the loss where that is a likelihood.

    Of 1024 features or more, `fit` trains built-in networks in the rows' leading principal
    coordinates: 1024, or twice `n_components` if that is more, which is all there are up to 1025
    rows. What the others hold of a row counts in losses and scores, but is not learned. It is done
    where there are at least twice as many features as coordinates, and distances are all that
    matters: for the squared error, without corruption, and unless ``scale="standard"``.

    Parameters
    ----------
    n_components : int or float, default=None
        Number of codes per row. None is ``min(n_samples, n_features)``. A float in (0, 1) asks for
        the fewest that reach this score on held-out rows: as many as PCA needs for it are trained,
        and the last ones are then dropped.
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
        `max_iter` epochs and keeps the last, unless what it started from, PCA or the last fit,
        serves training rows as well.
    validation_fraction : float, default=0.1
        Fraction of X to hold out where it is not cross-fitted; "auto" holds out at least 5 rows.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without an improvement of the held-out loss after which training stops. "auto" is 5,
        or as many as make 200 steps, but no more than 40.
    tol : float, default=1e-3
        Smallest improvement of the held-out loss that counts, also as a sum, as a fraction of the
        total variance as in `score`; with losses other than "squared_error" and "huber", of loss
        per feature.
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
    tied_weights : bool, default=False
        Whether the decoder uses the encoder's weight matrices, transposed; not for own networks.
    loss : {"squared_error", "absolute_error", "huber", "bernoulli", "poisson"} or Loss, \
default="squared_error"
        What the reconstruction is trained for, an object of `skae.objectives`. "bernoulli" is for
        X in [0, 1] and reconstructs probabilities, "poisson" for counts and reconstructs rates;
        with them `scale` acts on the encoder's input only, and the start is the mean of X (near it
        with tied weights) instead of PCA. With "absolute_error" and "huber" outliers among the
        training rows are left out of scaling and PCA start, and of held-out losses. `score` is of
        squared errors whatever the loss.
    corruption : {"gaussian", "masking", "salt_and_pepper", "swap"}, Corruption, callable or None, \
default=None
        What is done to rows before they are encoded in training, while the target stays clean: a
        denoising autoencoder. An object of `skae.objectives`, or a callable
        ``(x, generator) -> x`` of batches in scaled units. Held-out rows are corrupted too, and
        alike.
    code_activation : {"auto", "identity", "logistic", "soft_threshold"} or CodeActivation, \
default="auto"
        What the encoder's output goes through. "logistic" gives codes in (0, 1), and
        "soft_threshold" zeros; `skae.objectives.TopK` keeps the largest codes of each row. Only
        with the identity is the start PCA itself. "auto" is the identity, but the soft threshold
        with the penalty "l1", and "logistic" with "kl_sparsity".
    penalty : {"l1", "l2", "kl_sparsity", "contractive", "acai"}, Term, list of these or None, \
default=None
        What is added to the loss, objects of `skae.objectives`. "kl_sparsity" needs
        codes in (0, 1).
    pretraining : {"greedy"} or None, default=None
        "greedy" lets `fit` train the layers one after the other, each as an autoencoder of what
        the layers before it return, for a tenth of `max_iter` epochs each, and then all together.
        Needs ``init="random"`` and built-in networks with hidden layers.
    ordered : bool, default=False
        Whether codes are trained in order: each row may use a random number of the first codes
        only (nested dropout), so that others can be set to zero and the first still serve alone.
        Codes are then given as they are, without rotation.
    latent_density : {"auto", "gaussian"} or estimator, default="auto"
        Where `sample` draws codes from. "gaussian" has the moments of the training rows' codes
        (each code by itself where they are sparse, top-k, logistic or ordered). "auto" is a
        Gaussian mixture where held-out codes say so: its number of components, up to 64, is
        doubled for as long as held-out codes become more probable, beyond a standard error. It is
        the Gaussian where one component is enough, where codes are taken by themselves, and after
        `partial_fit`. Or a scikit-learn estimator with ``fit`` and ``sample``, such as
        `sklearn.mixture.GaussianMixture` or `sklearn.neighbors.KernelDensity`, which is cloned and
        fitted to codes (after `partial_fit`, to those of the last call).
    whiten : bool, default=False
        Whether codes are divided by their standard deviations on the training rows; codes that do
        not vary stay zero. With `partial_fit` alone, only from a PCA start.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features_in_)
        What a unit of each code, before whitening, adds to reconstructions on average: rows of the
        least-squares map from codes to these, which are orthonormal, and the principal axes for a
        linear net; after `partial_fit` those of all rows. Where codes are not rotated, the Jacobian
        of the decoder at the mean code. For nonlinear nets ``Z @ components_ + mean_`` is not
        ``inverse_transform(Z)``.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each code over the training rows before whitening, divided by
        ``n_samples - 1``, in squared units of X. In descending order, unless codes are only sorted
        (sparse, logistic and top-k ones, by what they explain) or left alone (``ordered=True``).
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Score of the training rows, or 0 if it is negative, shared out in proportion to
        `explained_variance_`. PCA's for a linear net, unless ``scale="standard"``; zeros where X
        does not vary.
    singular_values_ : ndarray of shape (n_components_,)
        Root of the sum of squares of each code about its mean, before whitening.
    noise_variance_ : float
        Variance per direction left out by the linear-Gaussian model of `get_covariance`: what
        `explained_variance_` leaves of the total variance, divided by
        ``min(n_samples, n_features) - n_components_``. PCA's for a linear net. Where codes are not
        rotated, that which reconstructions leave.
    gain_over_pca_ : float
        Score of held-out rows, with all codes trained, minus what it was at the PCA start; 0.0
        where that was kept. Each half of these rows, or each fold of a small table, is scored at
        the epoch that the others choose: new rows gain about as much, and those of a small table,
        of which all rows are trained on in the end, rather more. Of a few dozen rows it is rarely
        above 0.0 where there is nothing to gain, but then by chance, and too high. It is not
        negative, unless another loss than the squared error, a penalty, ``scale="standard"``, a
        corruption or ``ordered=True`` made the choice. Set where the start was PCA and rows were
        held out from a first fit.
    latent_density_ : estimator
        What `sample` draws codes from, in the codes' units: the fitted `latent_density`, or the
        `sklearn.mixture.GaussianMixture` that "auto" chooses when it is first asked for. Set where
        that is not the Gaussian.
    n_components_ : int
        Number of codes per row.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training rows, over all `partial_fit` calls.
    n_samples_ : int
        Number of training rows, over all `partial_fit` calls; one that comes twice counts twice.
    n_iter_ : int
        Number of epochs run.
    loss_curve_ : list of float
        Mean of what is minimised, per row and epoch: the loss, summed over features (squared errors
        in the network's units, or nats), and penalties. Of a table that was cross-fitted these are
        means over the folds, as are `n_iter_` epochs.
    validation_loss_curve_ : list of float
        The same on the held-out rows, for robust losses without outliers.
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

    _parameter_constraints: ClassVar[Constraints] = {
        **BaseAutoencoder._parameter_constraints,
        "n_components": [integer("[1, inf)"), real_beside_integers("(0, 1)"), None],
        **SLOT_CONSTRAINTS,
        "tied_weights": ["boolean"],
        "pretraining": [OneOf("greedy"), None],
        "ordered": ["boolean"],
        "whiten": ["boolean"],
    }

    _architecture = (
        *BaseAutoencoder._architecture,
        "tied_weights",
        "loss",
        "code_activation",
        "ordered",
    )

    noise_variance_: float
    gain_over_pca_: float
    _density: Learned
    _noise_near_codes: NoiseNearCodes
    _is_white: bool
    _stream: Stream
    _code_covariance: np.ndarray

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
        tied_weights: bool = False,
        loss: LossName | Loss = "squared_error",
        corruption: Noising = None,
        code_activation: CodeActivationName | CodeActivation = "auto",
        penalty: Penalties = None,
        pretraining: Literal["greedy"] | None = None,
        ordered: bool = False,
        latent_density: Density = "auto",
        whiten: bool = False,
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
        self.tied_weights = tied_weights
        self.loss = loss
        self.corruption = corruption
        self.code_activation = code_activation
        self.penalty = penalty
        self.pretraining = pretraining
        self.ordered = ordered
        self.latent_density = latent_density
        self.whiten = whiten

    def _derivatives(self) -> np.ndarray:
        found = super()._derivatives()
        if not self._is_white:
            return found
        deviations = np.sqrt(self.explained_variance_)[:, None].astype(found.dtype)
        return np.divide(found, deviations, out=0 * found, where=deviations > 0)

    def _signal_variance(self) -> np.ndarray:
        return np.maximum(self.explained_variance_ - self.noise_variance_, 0.0)

    def _make_recipe(self) -> Recipe:
        loss = deepcopy(resolve(self.loss, LOSSES))
        penalties = resolve_penalties(self.penalty)
        activation = deepcopy(resolve_code_activation(self.code_activation, penalties))
        check_penalties(penalties, activation, loss)
        check_tied_weights(self.tied_weights, self.encoder, self.decoder)
        built_in = self.encoder is None and self.decoder is None
        hidden = built_in and self.init == "random" and len(self.hidden_layer_sizes) > 0
        if self.pretraining == "greedy" and not hidden:
            raise ValueError(
                "pretraining='greedy' needs built-in networks with hidden layers and without a PCA "
                "start, which it replaces. Set init='random', hidden_layer_sizes to one width or "
                "more, and encoder and decoder to None; or leave pretraining at None."
            )
        recipe = Recipe(
            loss,
            tuple(penalties),
            starts_at_pca=self._asks_for_pca(),
            code_activation=activation,
            corruption=resolve(self.corruption, CORRUPTIONS),
            tied_weights=self.tied_weights,
        )
        return recipe.check()

    def _make_core(self, rows: StreamedRows | None) -> Callable[..., Core]:
        return partial(
            Autoencoder,
            code_activation=deepcopy(self._recipe.code_activation),
            ordered=self.ordered,
            n_components=self.n_components_,
            measures_gains=any(term.needs_gains for term in self._recipe.terms),
        )

    def _start(
        self,
        core: Any,
        axes: PrincipalAxes | None,
        scaling: Scaling,
        rows: StreamedRows,
        generator: Generator,
    ) -> None:
        self.__dict__.pop("_stream", None)
        if axes is not None and self._follows_rows(scaling, axes):
            self._stream = Stream.of_all(rows.X.shape[0], axes, scaling)
        unit_codes, tied = self._activation.gives_unit_codes, self.tied_weights
        start_at_axes(core, axes, self._recipe.loss, scaling, unit_codes=unit_codes, tied=tied)

    def _follows_rows(self, scaling: Scaling, axes: PrincipalAxes) -> bool:
        """Return whether the linear path, and what is published, may follow rows by batches."""
        n_axes, n_features = axes.components.shape
        rotates = not self._keeps_axes and self._score_to_reach() is None
        robust = self._recipe.loss.is_robust  # the mean of a stream, and its axes, are not
        fits = self._recipe.starts_at_a_fit and scaling.is_uniform and not robust
        return rotates and fits and n_axes <= n_features

    def _follow(self, X: Any, trainer: Trainer) -> Basis | None:
        """Let the linear path, the basis and what is known of the codes follow all rows so far."""
        before = self.__dict__.get("_stream")
        if before is None:
            return self._net.basis
        rows = scaled_rows(X, trainer.scaling)
        stream = self._stream = before.with_batch(rows, self.whiten)
        stream.move(trainer.core, before)
        moments = self._code_mean, self._code_covariance
        self._code_mean, self._code_covariance = stream.moved_moments(before, *moments)
        if self.n_iter_:  # measured before the network is trained on these rows
            errors = trainer.fitted_net().squared_errors(X, evaluation_device(self.device))
            self._stream = stream = stream.with_errors(float(errors.sum()), stream.missed(rows))
        return stream.basis_given_out

    @property
    def _activation(self) -> CodeActivation:
        activation = self._recipe.code_activation
        assert activation is not None
        return activation

    def _pretrain(self, core: Any, scaling: Scaling, rows: Rows, generator: Generator) -> None:
        if self.pretraining == "greedy":
            max_iter = most_epochs(self.max_iter, self.batch_size, rows.n_rows)
            batch_size = rows_per_batch(self.batch_size, rows.n_rows)
            settings = max_iter, batch_size, self._step_size(len(scaling.mean))
            loss = self._recipe.objective(scaling, torch.device("cpu")).terms[0]
            pretrain_greedily(core, rows, generator, *settings, loss)

    def _encoding(self, X: Any) -> Encoding:
        return Encoding(X, self._encode(X))

    def _note_gain(self, networks: list[Compared], best: BestState | None) -> None:
        """Set what training has gained on rows that did not choose the epoch."""
        if best is not None and self._begins_at_pca:
            self.gain_over_pca_ = gain(networks, best, evaluation_device(self.device))

    @property
    def _begins_at_pca(self) -> bool:
        return self._recipe.starts_at_a_fit and not self._activation.keeps_axes

    def _describe(self, X: Any, held_out: Any) -> Encoding:
        """Choose the basis, and set PCA's attributes."""
        device = evaluation_device(self.device)
        if self.n_iter_ == 0 and self._begins_at_pca:
            self.gain_over_pca_ = 0.0
        n_directions = X.shape[0] if self._wide else min(X.shape)  # wide rows are fewer
        by_feature = self._wide.moments_by_feature if self._wide else None
        how: dict[str, Any] = {"n_directions": n_directions, "by_feature": by_feature}
        how["jointly"] = not self._keeps_axes
        description = Description(self._net, X, self.mean_, self._basis_of, device, **how)
        if (fraction := self._score_to_reach()) is not None:
            description.truncate(fraction, X if held_out is None else held_out)
        self.__dict__.update(description.attributes())
        self._is_white = self.whiten
        if "_stream" in self.__dict__:
            basis: Any = description.basis
            self._stream = replace(self._stream, basis=basis, white=self.whiten)
        if self.whiten:
            description.whiten(np.sqrt(self.explained_variance_))
        return Encoding(X, description.codes())

    def _basis_of(self, moments: CodeMoments) -> tuple[Basis, np.ndarray]:
        """Return the basis that fits the meaning of the codes, and their variances."""
        unit = 1.0 if self._activation.gives_unit_codes else self._net.scaling.unit
        if self.ordered:
            return untouched_basis(moments, unit)
        if self._keeps_axes:
            return permuted_basis(moments, unit)
        if "_stream" not in self.__dict__:
            return rotated_basis(moments)
        if not self.n_iter_:  # it is PCA
            return axes_basis(moments, unit)
        return rotated_basis(moments, self._stream.seen.axes)

    @property
    def _keeps_axes(self) -> bool:
        """Whether each code has a meaning of its own, so that codes are not rotated."""
        aligned = any(term.axis_aligned for term in self._recipe.terms)
        return self.ordered or self._activation.keeps_axes or aligned

    def _publish(self, encoding: Encoding, n_before: int) -> None:
        codes = encoding.codes
        before = (n_before, self._code_mean, self._code_covariance) if n_before else None
        jointly = not self._keeps_axes
        self._code_mean, self._code_covariance = fit_gaussian(codes, before, jointly=jointly)
        self._dtype = codes.dtype

    def _publish_by_feature(self, encoding: Encoding, n_before: int) -> None:
        codes: np.ndarray = encoding.codes
        follows = n_before or self._is_streamed or not self.n_iter_
        if follows and "_stream" in self.__dict__:
            stream = self._stream
            self.__dict__.update(stream.attributes())
            if self.n_iter_:
                codes = codes / self._fit_scale_of_codes()
            self._directions = stream.seen.axes.astype(self._dtype)
            self._is_white = stream.white
        self._publish_density(codes, chooses=not (n_before or self._is_streamed))
        self._publish_noise(encoding.rows, codes, n_before)

    def _publish_density(self, codes: np.ndarray, *, chooses: bool) -> None:
        """Fit what codes are drawn from; "auto" is the Gaussian unless it `chooses`."""
        self._density = None
        if not isinstance(self.latent_density, str):
            self._density = Fitted(completed(self.latent_density, self.random_state).fit(codes))
        elif self.latent_density == "auto" and chooses and not self._keeps_axes:
            self._density = MixtureOnDemand(codes, agreed(draw_seed(self.random_state)))

    @property
    def latent_density_(self) -> Any:
        """What `sample` draws codes from, where that is not the Gaussian."""
        check_is_fitted(self)
        return density_of(self._density, "latent_density_")

    def _publish_noise(self, X: Any, codes: np.ndarray, n_before: int) -> None:
        """Keep what reconstructions of some rows miss, unless the loss knows how rows scatter."""
        before = self.__dict__.pop("_noise_near_codes", None)
        if hasattr(self._net.loss, "sample"):
            return
        step = -(-X.shape[0] // most_near(X.shape[1] + codes.shape[1]))
        some = codes[::step].astype(np.float64)
        noise = NoiseNearCodes.of(some, dense(X[::step]) - self._decode(some))
        if n_before and before is not None:
            noise = noise.joined(before, n_before / (n_before + X.shape[0]))
        self._noise_near_codes = noise

    def _fit_scale_of_codes(self) -> np.ndarray:
        """Give codes of a stream the variances that are published, or 1 if they are whitened.

        Return what they are divided by.
        """
        stream, found = self._stream, np.sqrt(np.diag(self._code_covariance))
        wanted = np.ones(len(found)) if stream.white else stream.deviations
        varies = (found > 0) & (wanted > 0) & (stream.seen.n_samples > len(found))
        divisor = np.divide(found, wanted, out=np.ones_like(found), where=varies)
        assert stream.basis is not None
        self._stream = stream = replace(stream, basis=stream.basis.divided_by(divisor))
        self._net.basis = stream.basis_given_out
        self._code_mean = self._code_mean / divisor
        self._code_covariance = self._code_covariance / np.outer(divisor, divisor)
        return divisor

    def _draw(self, n_samples: int, generator: Generator, mean: bool) -> np.ndarray:
        if hasattr(self, "latent_density_"):
            codes = draw_from_density(n_samples, self.latent_density_, generator)
        else:
            codes = draw_gaussian(n_samples, self._code_mean, self._code_covariance, generator)
        rows = self._decode(codes)
        if mean:
            return rows
        return self._with_noise(rows, lambda: self._noise_near_codes.near(codes), generator)
