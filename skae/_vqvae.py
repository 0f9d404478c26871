"""VQVAETransformer: a vector-quantised autoencoder, several discrete codes per row."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from ._auto import rows_per_batch
from ._axes import PrincipalAxes
from ._base import BaseAutoencoder
from ._basis import basis_with_unit
from ._batches import Rows, StreamedRows
from ._device import evaluation_device
from ._encoding import check_container, check_integer_codes, codes_of_one_hot, one_hot
from ._input import Scaling, check_codes
from ._parameters import Constraint, OneOf, integer, real
from ._sampling import draw_codes
from ._session import Session
from .modules import VQVAE, Core, perplexity
from .modules._building import lent_to
from .objectives import Commitment, Objective, Schedule, SquaredError

_CODE_DIM = 4
_KMEANS_ROWS_PER_CODE = 40
_RESTART_ROWS_PER_CODE = 4


class VQVAETransformer(BaseAutoencoder):
    r"""Vector-quantised autoencoder: each row becomes a few discrete codes.

    The encoder's output is cut into `n_codes` vectors and each is replaced by the nearest vector
    of its own codebook before it is decoded [1]_. Codebooks start at k-means of the encodings,
    follow them as exponential moving averages, and codes that fall out of use are moved onto
    encodings of training rows after each epoch, so that codebooks stay alive.

    Parameters
    ----------
    n_components : int, default=None
        Width of a row's code vectors together. None is ``min(n_samples, n_features)``.
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
        when 5 rows are at most half of X; with fewer rows the PCA start is kept. False trains for
        `max_iter` epochs and keeps the last, unless what it started from, PCA or the last fit,
        serves training rows as well.
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
    n_codes : int or "auto", default="auto"
        Number of discrete codes per row, a divisor of `n_components`. "auto" is the divisor that
        makes vectors of about 4 components; for a prime number of components that may be one.
    codebook_size : int, default=256
        Number of vectors in each codebook; in `fit` never more than there are training rows.
    decay : float, default=0.99
        Decay of the codebooks' moving averages, per batch.
    commitment_weight : float, default=0.25
        Weight of the commitment loss.
    dead_code_threshold : float, default=0.05
        A code is restarted when it is used less than this fraction of its codebook's mean use; 0
        restarts none.
    encode : {"vectors", "codes", "onehot"}, default="vectors"
        What `transform` returns and `inverse_transform` takes: codebook vectors, `n_components`
        columns; integer codes, `n_codes` columns; or these as zeros and ones, a CSR matrix.

    Attributes
    ----------
    codebook_ : ndarray of shape (n_codes_, codebook_size, code_dim)
        The codebook vectors.
    codebook_usage_ : ndarray of shape (n_codes_, codebook_size)
        Fraction of the training rows that use each code.
    n_codes_ : int
        Number of codes per row.
    perplexity_ : ndarray of shape (n_codes_,)
        Exponential of the entropy of the codes' use: how many are in even use.
    n_components_ : int
        Number of columns of `transform`.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training rows, over all `partial_fit` calls.
    n_samples_ : int
        Number of training rows, over all `partial_fit` calls; one that comes twice counts twice.
    n_iter_ : int
        Number of epochs run.
    loss_curve_ : list of float
        Mean of the objective per row, in the network's units, per epoch.
    validation_loss_curve_ : list of float
        The same on the held-out rows.
    best_loss_ : float
        Held-out loss of the epoch that was kept; if nothing was held out, training loss of the
        last epoch or of the start that was kept, infinity if there was neither.
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

    _constraints: ClassVar[dict[str, list[Constraint]]] = {
        **BaseAutoencoder._constraints,
        "n_codes": [integer("[1, inf)"), OneOf("auto")],
        "codebook_size": [integer("[1, inf)")],
        "decay": [real("[0, 1)")],
        "commitment_weight": [real("[0, inf)")],
        "dead_code_threshold": [real("[0, 1)")],
        "encode": [OneOf("vectors", "codes", "onehot")],
    }

    codebook_usage_: np.ndarray
    _encoded_as: str

    _architecture = (*BaseAutoencoder._architecture, "n_codes", "codebook_size", "decay")

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
        random_state: Any = None,
        verbose: int = 0,
        n_codes: int | str = "auto",
        codebook_size: int = 256,
        decay: float = 0.99,
        commitment_weight: float = 0.25,
        dead_code_threshold: float = 0.05,
        encode: str = "vectors",
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
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.n_codes = n_codes
        self.codebook_size = codebook_size
        self.decay = decay
        self.commitment_weight = commitment_weight
        self.dead_code_threshold = dead_code_threshold
        self.encode = encode

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
        if self._encoded_as == "vectors":
            return self._encode(X)
        codes = self._integer_codes(X)
        if self._encoded_as == "codes":
            return codes
        check_container(self)
        return one_hot(codes, self.codebook_.shape[1])

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the rows that codes stand for.

        Parameters
        ----------
        X : array-like or sparse matrix
            Codes as `transform` returns them.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features_in_)
            Reconstructed rows, in the units of the training data.

        Raises
        ------
        ValueError
            If X has another number of columns than `transform` returns, or holds what is not a
            code.
        """
        check_is_fitted(self)
        size = self.codebook_.shape[1]
        if self._encoded_as == "onehot":
            codes = codes_of_one_hot(X, self.n_codes_, size)
        else:
            X = check_codes(self, X, self._n_features_out)
            if self._encoded_as == "vectors":
                return self._decode(X)
            codes = check_integer_codes(X, size)
        return self._decode(self._vectors(codes))

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
        pairs = np.ndindex(self.n_codes_, self.codebook_.shape[1])
        return np.asarray([f"{prefix}{i}_{value}" for i, value in pairs], dtype=object)

    @property
    def _n_features_out(self) -> int:
        widths = {"vectors": self.n_components_, "codes": self.n_codes_}
        return widths.get(self._encoded_as, self.codebook_usage_.size)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if self.encode != "vectors":
            tags.transformer_tags.preserves_dtype = []
        return tags

    def _integer_codes(self, X: Any) -> np.ndarray:
        return self._net.map_rows(lambda core, x: core.codes(x), X, evaluation_device(self.device))

    def _vectors(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors of integer codes side by side, (n_rows, n_components_)."""
        return self.codebook_[np.arange(self.n_codes_), codes].reshape(len(codes), -1)

    def _make_core(self, n_samples: int | None) -> Callable[..., Core]:
        self.n_codes_ = self._count_codes()
        return partial(
            VQVAE.with_codebooks,
            n_codes=self.n_codes_,
            codebook_size=min(self.codebook_size, n_samples or self.codebook_size),
            code_dim=self.n_components_ // self.n_codes_,
            decay=self.decay,
        )

    def _count_codes(self) -> int:
        """Return the number of codes per row, a divisor of the number of components."""
        k = self.n_components_
        if not isinstance(self.n_codes, str):
            if k % self.n_codes:
                raise ValueError(
                    f"n_codes={self.n_codes} does not divide n_components={k}: the code vectors "
                    "would differ in length. Change one of them, or use n_codes='auto'."
                )
            return int(self.n_codes)
        divisors = [n for n in range(1, k + 1) if k % n == 0]
        return min(divisors, key=lambda n: abs(math.log(n * _CODE_DIM / k)))

    def _objective(self, scaling: Scaling, device: torch.device) -> Objective:
        return Objective(SquaredError(), Commitment(self.commitment_weight))

    def _start(
        self,
        core: Any,
        axes: PrincipalAxes | None,
        scaling: Scaling,
        rows: StreamedRows,
        generator: Generator,
    ) -> None:
        if axes is not None:
            components = axes.components[self._allocate(axes.variances)]
            core.start_linear(components, components.T, scaling.to_net(scaling.mean))
        _, size, _ = core.quantizer.codebook.shape
        z = self._encodings(core, rows, _KMEANS_ROWS_PER_CODE * size, generator)
        core.quantizer.start_kmeans(z, rows_per_batch(self.batch_size, rows.n_rows), generator)

    @torch.no_grad()
    def _encodings(self, core: Any, rows: Rows, n_rows: int, generator: Generator) -> Tensor:
        """Return what the encoder makes of some training rows, (n_rows, n_components)."""
        core.eval()
        encodings = []
        for x in rows.sample(n_rows, generator):
            with lent_to(core, x):
                encodings.append(core.encoder(x))
        core.train()
        return torch.cat(encodings)

    def _allocate(self, variances: np.ndarray) -> np.ndarray:
        """Return the order that shares axes out so that codes carry about equal information.

        Each axis, in descending order of variance, goes to the code vector whose product of
        variances is smallest so far (Ge et al., "Optimized Product Quantization", 2013, 3.2).
        """
        logs = np.log(np.maximum(variances, np.finfo(np.float64).tiny))
        logs -= logs.min()
        groups: list[list[int]] = [[] for _ in range(self.n_codes_)]
        for axis in range(len(logs)):
            room = [group for group in groups if len(group) < len(logs) // self.n_codes_]
            min(room, key=lambda group: logs[group].sum()).append(axis)
        return np.concatenate(groups)

    def _after_epoch(self, session: Session, rows: Rows) -> None:
        if self.dead_code_threshold == 0:
            return
        quantizer = session.core.quantizer
        n_rows = _RESTART_ROWS_PER_CODE * quantizer.codebook.shape[1]
        z = self._encodings(session.core, rows, n_rows, session.generator)
        quantizer.restart_dead(z, self.dead_code_threshold, session.generator)

    def _publish(self, X: Any, n_before: int) -> None:
        unit = self._net.scaling.unit
        self._net.basis = basis_with_unit(self.n_components_, unit)
        self.codebook_ = self._net.arrays["quantizer.codebook"].astype(np.float64) * unit
        self._encoded_as = self.encode
        codes = self._integer_codes(X)
        size = self.codebook_.shape[1]
        counts = np.stack([np.bincount(column, minlength=size) for column in codes.T])
        if n_before:
            counts = counts + n_before * self.codebook_usage_
        self.codebook_usage_ = counts / (n_before + len(codes))
        self.perplexity_ = perplexity(torch.from_numpy(self.codebook_usage_)).numpy()

    def _draw(self, n_samples: int, generator: Generator) -> np.ndarray:
        codes = draw_codes(n_samples, self.codebook_usage_, generator)
        return self._decode(self._vectors(codes))
