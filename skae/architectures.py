"""Architectures: networks other than perceptrons, for images and for series, in a slot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from torch import Generator

from ._sklearn.params import WIDTHS, Constraints, Kind, OneOf, check_parameters, integer
from .modules._convolutional import N_GROUPS, Grid, Stack, convolutional_pair
from .modules._network import Network

__all__ = ["Architecture", "Convolutional", "Convolutional1d"]


class Architecture(ABC, BaseEstimator):
    """What encoder and decoder of a built-in network are like, for the slot ``encoder``.

    Such networks can start at PCA, beside which they are never worse on held-out rows. For an
    architecture of your own, write `check` and `build`; the networks derive from
    `skae.modules.Network`.
    """

    @abstractmethod
    def check(self, n_features: int | None = None) -> None:
        """Check the parameters, against the width of rows where it is known.

        Parameters
        ----------
        n_features : int or None, default=None
            Number of features; None before rows are looked at.

        Raises
        ------
        ValueError
            If they do not go together.
        """

    @abstractmethod
    def build(
        self,
        *,
        n_features: int,
        n_encoded: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        skip: bool,
        generator: Generator,
    ) -> tuple[Network, Network]:
        """Build an encoder and a decoder.

        Parameters
        ----------
        n_features, n_encoded, n_components : int
            Widths of a row, of the encoder's output and of a code.
        hidden_layer_sizes : sequence of int
            Widths of the encoder's dense hidden layers; the decoder's are these in reverse order.
        activation : str
            Activation between layers.
        skip : bool
            Whether a linear path runs beside the layers, whose output then starts at zero.
        generator : torch.Generator
            Source of the weights.

        Returns
        -------
        encoder, decoder : skae.modules.Network
            In float32 on the CPU.
        """

    def patches(self) -> list[np.ndarray] | None:
        """Return which features belong to each part of the code, if parts have a place.

        Returns
        -------
        list of ndarray of int, or None
            The features of each part; None where codes are of whole rows.
        """
        return None


class _Convolutions(Architecture):
    """Abstract base of convolutional architectures."""

    _parameter_constraints: ClassVar[Constraints] = {
        "channels": [WIDTHS],
        "kernel_size": [integer("[1, inf)")],
        "n_residual_blocks": [integer("[0, inf)")],
        "grid": ["boolean"],
        "normalization": [OneOf("group"), None],
    }

    channels: Sequence[int]
    kernel_size: int
    n_residual_blocks: int
    normalization: str | None
    grid: bool

    # Name of the parameter that says how rows are laid out.
    _shape_name: ClassVar[str]

    @abstractmethod
    def _grid(self) -> Grid:
        """Return how rows are laid out."""

    @property
    def _is_causal(self) -> bool:
        return bool(getattr(self, "causal", False))

    def check(self, n_features: int | None = None) -> None:
        """Check the parameters, against the width of rows where it is known.

        Parameters
        ----------
        n_features : int or None, default=None
            Number of features; None before rows are looked at.

        Raises
        ------
        ValueError
            If rows do not have the shape's number of values, a kernel is wider than the shape or of
            even width, or channels cannot be normalised in groups.
        """
        check_parameters(self, self._parameter_constraints)
        name, shape = self._shape_name, getattr(self, self._shape_name)
        if len(self.channels) == 0:
            raise ValueError("channels must have at least one number. Got none.")
        if n_features not in (None, prod(shape)):
            raise ValueError(
                f"X has {n_features} features, but {name}={tuple(shape)!r} is of {prod(shape)} "
                f"values. Set encoder__{name} to the shape of a row."
            )
        smallest = min(self._grid().sizes)
        if self.kernel_size > smallest:
            raise ValueError(
                f"kernel_size={self.kernel_size} is wider than {name}={tuple(shape)!r}, of which a "
                f"side has {smallest}. Use a smaller kernel."
            )
        if self.kernel_size % 2 == 0 and not self._is_causal:
            raise ValueError(
                f"kernel_size must be odd, so that kernels have a middle. Got {self.kernel_size}."
            )
        if self.normalization is not None:
            self._check_groups()

    def _check_groups(self) -> None:
        for i, n_channels in enumerate(self.channels, start=1):
            if n_channels % N_GROUPS:
                raise ValueError(
                    f"normalization='group' makes {N_GROUPS} groups, which do not divide "
                    f"{n_channels} of channels={tuple(self.channels)!r}. Use multiples of "
                    f"{N_GROUPS}, or normalization=None."
                )
            n_positions = prod(-(-size // 2**i) for size in self._grid().sizes)
            if n_positions * n_channels == N_GROUPS:
                raise ValueError(
                    f"normalization='group' makes groups of one value of the {n_channels} channels "
                    f"at the one position of convolution {i}, which would all be zero. Use more "
                    "channels there, fewer convolutions, or normalization=None."
                )

    def build(
        self,
        *,
        n_features: int,
        n_encoded: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        skip: bool,
        generator: Generator,
    ) -> tuple[Network, Network]:
        """Build an encoder and a decoder that mirrors it, see `Architecture.build`.

        Parameters
        ----------
        n_features, n_encoded, n_components : int
            Widths of a row, of the encoder's output and of a code.
        hidden_layer_sizes : sequence of int
            Widths of the dense hidden layers between convolutions and codes.
        activation : str
            Activation between layers.
        skip : bool
            Whether there are linear paths.
        generator : torch.Generator
            Source of the weights.

        Returns
        -------
        encoder, decoder : skae.modules.Network
            In float32 on the CPU.
        """
        stack = Stack(
            tuple(self.channels),
            self.kernel_size,
            self.n_residual_blocks,
            self.normalization == "group",
            self._is_causal,
            activation,
        )
        return convolutional_pair(
            self._grid(),
            stack,
            n_encoded=n_encoded,
            n_components=n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            by_position=self.grid,
            skip=skip,
            generator=generator,
        )

    def patches(self) -> list[np.ndarray] | None:
        """Return the features of each position of the grid, see `Architecture.patches`.

        Returns
        -------
        list of ndarray of int, or None
            The features of each position, in the order of codes; None without `grid`.
        """
        if not self.grid:
            return None
        layout, step = self._grid(), 2 ** len(self.channels)
        shape = (*layout.sizes, layout.n_channels)
        if not layout.channels_last:
            shape = (layout.n_channels, *layout.sizes)
        features = np.arange(prod(shape)).reshape(shape)
        features = features if layout.channels_last else np.moveaxis(features, 0, -1)
        counts = [-(-size // step) for size in layout.sizes]
        return [
            features[tuple(slice(step * i, step * (i + 1)) for i in place)].ravel()
            for place in np.ndindex(*counts)
        ]


def _shape_of(description: str, *lengths: int) -> Kind:
    return Kind(
        f"a tuple of positive ints, {description}",
        lambda value: WIDTHS.is_satisfied_by(value) and len(value) in lengths,
    )


class Convolutional(_Convolutions):
    """Convolutions over images, for the slot ``encoder`` of the three estimators.

    The encoder's convolutions halve height and width, one after the other; dense layers lead from
    there to codes. The decoder mirrors it: before each convolution positions are repeated, which
    leaves no pattern of its own in images ([1]_). A linear path runs beside both, which starts at
    PCA and makes ``components_`` images, too. Rows of X are images that have been flattened, as
    scikit-learn has them.

    Parameters
    ----------
    image_shape : tuple of int, (height, width) or with a number of channels
        The shape of a row: (height, width) for one channel, (height, width, channels) or, with
        ``data_format="channels_first"``, (channels, height, width).
    channels : sequence of int, default=(32, 64)
        Number of channels after each of the encoder's convolutions.
    kernel_size : int, default=3
        Height and width of kernels, odd.
    n_residual_blocks : int, default=0
        Number of residual blocks after each convolution ([2]_, section 4.1): a convolution and one
        of width 1 that starts at zero, added to what they are given.
    normalization : {"group"} or None, default=None
        "group" normalises channels in 8 groups ([3]_), row by row. `dropout` of the estimator is
        of dense hidden layers alone.
    data_format : {"channels_last", "channels_first"}, default="channels_last"
        Whether the channels of a pixel, or the pixels of a channel, are next to each other in a
        row.
    grid : bool, default=False
        Whether each position of the last convolution has a code of its own, as in [2]_, which is
        for `VQVAETransformer`: ``n_components`` are then so many for each position, ``n_codes`` is
        the number of positions, row by row of the image, and training starts at principal
        components of patches.

    See Also
    --------
    Convolutional1d : For windows of series.

    References
    ----------
    .. [1] Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", 2016.
    .. [2] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017.
    .. [3] Wu and He, "Group Normalization", 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae import AutoencoderTransformer
    >>> from skae.architectures import Convolutional
    >>> X = load_digits().data
    >>> images = Convolutional(image_shape=(8, 8), channels=(16, 32))
    >>> settings = dict(max_iter=5, early_stopping=False, random_state=0)
    >>> model = AutoencoderTransformer(8, encoder=images, **settings).fit(X[:1500])
    >>> pca = PCA(8).fit(X[:1500])
    >>> left = ((X[1500:] - pca.inverse_transform(pca.transform(X[1500:]))) ** 2).sum()
    >>> bool(model.score(X[1500:]) > 1 - left / ((X[1500:] - pca.mean_) ** 2).sum())
    True
    >>> model.components_.reshape(-1, 8, 8).shape
    (8, 8, 8)
    """

    _shape_name = "image_shape"
    _parameter_constraints: ClassVar[Constraints] = {
        **_Convolutions._parameter_constraints,
        "image_shape": [_shape_of("(height, width) or with a number of channels", 2, 3)],
        "data_format": [OneOf("channels_last", "channels_first")],
    }

    def __init__(
        self,
        image_shape: tuple[int, ...],
        channels: Sequence[int] = (32, 64),
        *,
        kernel_size: int = 3,
        n_residual_blocks: int = 0,
        normalization: str | None = None,
        data_format: str = "channels_last",
        grid: bool = False,
    ) -> None:
        self.image_shape = image_shape
        self.channels = channels
        self.kernel_size = kernel_size
        self.n_residual_blocks = n_residual_blocks
        self.normalization = normalization
        self.data_format = data_format
        self.grid = grid

    def _grid(self) -> Grid:
        shape, last = tuple(self.image_shape), self.data_format == "channels_last"
        if len(shape) == 2:
            return Grid(shape, 1, last)
        return Grid(shape[:2], shape[2], last) if last else Grid(shape[1:], shape[0], last)


class Convolutional1d(_Convolutions):
    """Convolutions over windows of series, for the slot ``encoder`` of the three estimators.

    As `Convolutional`, along time. Rows of X are windows that have been flattened, the channels of
    a time point next to each other.

    Parameters
    ----------
    series_shape : tuple of int, (n_timepoints, n_channels) or (n_timepoints,)
        The shape of a row.
    channels : sequence of int, default=(32, 64)
        Number of channels after each of the encoder's convolutions, which halve the number of time
        points.
    kernel_size : int, default=3
        Number of time points that a kernel sees, odd unless `causal`.
    causal : bool, default=False
        Whether convolutions at a time see no later one. Dense layers see the whole window.
    n_residual_blocks : int, default=0
        Number of residual blocks after each convolution, see `Convolutional`.
    normalization : {"group"} or None, default=None
        "group" normalises channels in 8 groups, over all time points of a row.
    grid : bool, default=False
        Whether each time point of the last convolution has a code of its own, see `Convolutional`.

    See Also
    --------
    Convolutional : For images.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderTransformer
    >>> from skae.architectures import Convolutional1d
    >>> rng = np.random.default_rng(0)
    >>> time, phases = np.linspace(0, 6, 64), rng.uniform(0, 6, size=(400, 1))
    >>> X = np.sin(time + phases) ** 3 + 0.1 * rng.normal(size=(400, 64))
    >>> series = Convolutional1d(series_shape=(64,), channels=(8, 16))
    >>> settings = dict(max_iter=5, early_stopping=False, random_state=0)
    >>> model = AutoencoderTransformer(2, encoder=series, **settings).fit(X)
    >>> model.transform(X).shape
    (400, 2)
    """

    _shape_name = "series_shape"
    _parameter_constraints: ClassVar[Constraints] = {
        **_Convolutions._parameter_constraints,
        "series_shape": [_shape_of("(n_timepoints, n_channels) or (n_timepoints,)", 1, 2)],
        "causal": ["boolean"],
    }

    def __init__(
        self,
        series_shape: tuple[int, ...],
        channels: Sequence[int] = (32, 64),
        *,
        kernel_size: int = 3,
        causal: bool = False,
        n_residual_blocks: int = 0,
        normalization: str | None = None,
        grid: bool = False,
    ) -> None:
        self.series_shape = series_shape
        self.channels = channels
        self.kernel_size = kernel_size
        self.causal = causal
        self.n_residual_blocks = n_residual_blocks
        self.normalization = normalization
        self.grid = grid

    def _grid(self) -> Grid:
        n_timepoints, *channels = self.series_shape
        return Grid((n_timepoints,), channels[0] if channels else 1, True)
