"""Priors: how codes go together, learned after they are found (autoregressive, independent)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted
from torch import Generator

from ._data.batches import ResidentRows, Rows
from ._data.codes import check_integer_codes, count_codes
from ._data.scaling import Scaling
from ._inference.fitted import FittedNet
from ._runtime.device import evaluation_device, resolve_device
from ._runtime.modes import own_modes
from ._runtime.random import make_generator
from ._runtime.threads import threads_for
from ._sklearn.params import (
    DEVICE,
    SHARED_CONSTRAINTS,
    Constraints,
    OneOf,
    check_n_samples,
    check_parameters,
    integer,
    real,
)
from ._sklearn.state import GuardedState
from ._training.defaults import (
    count_held_out,
    epochs_of_prior,
    hidden_width_of_prior,
    rows_per_batch,
)
from ._training.loop import train
from ._training.trainer import Trainer, make_shared_generator
from ._training.validation import ValidationPlan
from .modules import CausalAutoencoder
from .objectives import CodeLength, CosineDecay, Objective

__all__ = ["AutoregressivePrior", "CodePrior", "IndependentPrior", "UniformPrior"]

_VALIDATION_FRACTION = 0.1
# Wide networks would know training rows by heart sooner.
_WEIGHT_DECAY = 0.1
# Nats per code that count as an improvement.
_TOL = 1e-4
_ROWS_AT_ONCE = 2048


class CodePrior(GuardedState, ABC):
    """A distribution of rows of integer codes, which a `VQVAETransformer` learns and draws from.

    One of your own needs `fit`, `sample` and `log_prob` only, and no base class. The transformer
    sets its parameters ``codebook_size``, ``random_state`` and ``device``, if it has them and they
    are None, gives `fit` the codes' ``vectors`` if it takes them, and calls `partial_fit` in its
    own, if there is one. For draws to follow a seed, let `sample` take ``random_state``.

    Attributes
    ----------
    codebook_size_ : int
        Number of values of each code.
    """

    _parameter_constraints: ClassVar[Constraints] = {"codebook_size": [integer("[1, inf)"), None]}

    codebook_size: int | None

    def fit(self, codes: Any, y: Any = None, *, vectors: Any = None) -> Self:
        """Learn the distribution of codes.

        Parameters
        ----------
        codes : array-like of int of shape (n_samples, n_codes)
            Codes, from 0 to ``codebook_size - 1``.
        y : None
            Ignored; present by convention.
        vectors : array-like of shape (n_codes, codebook_size, dim), default=None
            What codes stand for, which helps a prior that knows how to use it.

        Returns
        -------
        self : object
            The fitted prior.

        Raises
        ------
        ValueError
            If a code is not in this range.
        """
        self.check()
        codes = check_array(codes, input_name="codes", estimator=self)
        size = self.codebook_size or max(int(codes.max()) + 1, 1)
        with self._draft() as draft:
            draft.codebook_size_, draft.n_codes_ = size, codes.shape[1]
            draft._learn(draft._checked(codes), vectors, first=True)
        return self

    def partial_fit(self, codes: Any, y: Any = None) -> Self:
        """Learn from more codes, going on from where the last call left off.

        An `AutoregressivePrior` is trained for an epoch, on all of them.

        Parameters
        ----------
        codes : array-like of int of shape (n_samples, n_codes)
            Codes.
        y : None
            Ignored; present by convention.

        Returns
        -------
        self : object
            The prior.
        """
        if not hasattr(self, "codebook_size_"):
            return self.fit(codes)
        with self._draft() as draft:
            draft._learn(draft._checked(codes), None, first=False)
        return self

    def log_prob(self, codes: Any) -> np.ndarray:
        """Return the log-probability of each row of codes.

        Parameters
        ----------
        codes : array-like of int of shape (n_samples, n_codes)
            Codes.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats.
        """
        check_is_fitted(self)
        return self._log_prob(self._checked(codes))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw rows of codes.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.

        Returns
        -------
        ndarray of int64 of shape (n_samples, n_codes)
        """
        check_is_fitted(self)
        return self._draw(check_n_samples(n_samples), make_generator(random_state))

    def check(self) -> None:
        """Check the parameters; ValueError names the one that is not valid."""
        check_parameters(self, self._parameter_constraints)

    def _checked(self, codes: Any) -> np.ndarray:
        codes = check_array(codes, input_name="codes", estimator=self)
        if codes.shape[1] != self.n_codes_:
            raise ValueError(
                f"codes has {codes.shape[1]} columns, but {type(self).__name__} was fitted to "
                f"{self.n_codes_}."
            )
        advice = f"With codebook_size={self.codebook_size_} they are"
        return check_integer_codes(codes, self.codebook_size_, "codes", advice)

    @abstractmethod
    def _learn(self, codes: np.ndarray, vectors: Any, *, first: bool) -> None:
        """Learn from codes, going on unless this is the `first` time."""

    @abstractmethod
    def _log_prob(self, codes: np.ndarray) -> np.ndarray:
        """Return the log-probabilities of codes, shape (n_samples,)."""

    @abstractmethod
    def _draw(self, n_samples: int, generator: Generator) -> np.ndarray:
        """Draw codes, int64 of shape (n_samples, n_codes)."""


class IndependentPrior(CodePrior):
    """Codes at their frequencies in training, independent of each other.

    Parameters
    ----------
    codebook_size : int or None, default=None
        Number of values of each code; None is one more than the largest.

    Attributes
    ----------
    frequencies_ : ndarray of shape (n_codes, codebook_size_)
        Probability of each value: its frequency among the training rows and one row that is
        spread evenly over all values, so that none is impossible.

    Examples
    --------
    >>> from skae.priors import IndependentPrior
    >>> IndependentPrior().fit([[0, 1], [0, 0], [0, 1]]).frequencies_
    array([[0.875, 0.125],
           [0.375, 0.625]])
    """

    _counts: np.ndarray

    def __init__(self, codebook_size: int | None = None) -> None:
        self.codebook_size = codebook_size

    def _learn(self, codes: np.ndarray, vectors: Any, *, first: bool) -> None:
        counts = count_codes(codes, self.codebook_size_)
        self._counts = counts if first else self._counts + counts
        self.frequencies_ = _smoothed(self._counts)

    def _log_prob(self, codes: np.ndarray) -> np.ndarray:
        probabilities: np.ndarray = self.frequencies_[np.arange(self.n_codes_), codes]
        return np.log(probabilities).sum(1)

    def _draw(self, n_samples: int, generator: Generator) -> np.ndarray:
        weights = torch.tensor(self.frequencies_, device="cpu", dtype=torch.float64)
        drawn = torch.multinomial(weights, n_samples, replacement=True, generator=generator)
        return drawn.numpy().T


class UniformPrior(IndependentPrior):
    """All codes alike: a row of n codes has ``n * log2(codebook_size)`` bits.

    This is the prior that a VQ-VAE is trained with.

    Parameters
    ----------
    codebook_size : int or None, default=None
        Number of values of each code; None is one more than the largest.

    Attributes
    ----------
    frequencies_ : ndarray of shape (n_codes, codebook_size_)
        Probability of each value.

    Examples
    --------
    >>> from skae.priors import UniformPrior
    >>> prior = UniformPrior(codebook_size=4).fit([[0, 1], [0, 3]])
    >>> prior.log_prob([[2, 2]]) / -0.6931471805599453  # in bits
    array([4.])
    """

    def _learn(self, codes: np.ndarray, vectors: Any, *, first: bool) -> None:
        self.frequencies_ = np.full((self.n_codes_, self.codebook_size_), 1 / self.codebook_size_)


class AutoregressivePrior(CodePrior):
    r"""Each code's probability given the codes before it, from a small causal network [1]_.

    .. math:: p(c_1 \dots c_n) = \prod_i p(c_i | c_1 \dots c_{i-1})

    It starts as `IndependentPrior` and is trained by the same loop as the transformers. A tenth of
    the rows are held out: training stops when they are not predicted better any more, and the
    start is kept unless they are predicted better beyond one standard error.

    Parameters
    ----------
    codebook_size : int or None, default=None
        Number of values of each code; None is one more than the largest.
    n_hidden : int or "auto", default="auto"
        Width of the network. "auto" is the power of two next to half the root of the number of
        codes in all training rows, between 32 and 512.
    max_iter : int or "auto", default="auto"
        Largest number of epochs. "auto" is about 1500 steps, in 5 to 50 epochs.
    n_iter_no_change : int, default=5
        Epochs without an improvement after which training stops.
    learning_rate : float, default=2e-3
        Step size of Adam in the first epoch; it falls to 0 along a cosine. `partial_fit` takes it
        as it is.
    device : str or None, default=None
        Where to compute; None is "auto", CUDA where there is one.
    random_state : int, RandomState instance or None, default=None
        Source of initial weights, batches and the held-out rows.

    Attributes
    ----------
    n_iter_ : int
        Number of epochs run.
    validation_loss_curve_ : list of float
        Nats per held-out row, per epoch.

    References
    ----------
    .. [1] Larochelle and Murray, "The Neural Autoregressive Distribution Estimator", 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from skae.priors import AutoregressivePrior, IndependentPrior
    >>> first = np.random.default_rng(0).integers(4, size=(2000, 1))
    >>> codes = np.hstack([first, first])  # the second code is the first again
    >>> prior = AutoregressivePrior(random_state=0).fit(codes)
    >>> independent = IndependentPrior().fit(codes)
    >>> bool(prior.log_prob(codes).mean() > independent.log_prob(codes).mean() + 1)
    True
    """

    _parameter_constraints: ClassVar[Constraints] = {
        **CodePrior._parameter_constraints,
        "n_hidden": [integer("[1, inf)"), OneOf("auto")],
        "max_iter": [integer("[0, inf)"), OneOf("auto")],
        "n_iter_no_change": [integer("[1, inf)")],
        "learning_rate": [real("(0, inf)")],
        "device": [DEVICE, None],
        "random_state": SHARED_CONSTRAINTS["random_state"],
    }

    n_iter_: int
    validation_loss_curve_: list[float]
    _net: FittedNet

    def __init__(
        self,
        codebook_size: int | None = None,
        *,
        n_hidden: int | str = "auto",
        max_iter: int | str = "auto",
        n_iter_no_change: int = 5,
        learning_rate: float = 2e-3,
        device: str | None = None,
        random_state: Any = None,
    ) -> None:
        self.codebook_size = codebook_size
        self.n_hidden = n_hidden
        self.max_iter = max_iter
        self.n_iter_no_change = n_iter_no_change
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state

    def _learn(self, codes: np.ndarray, vectors: Any, *, first: bool) -> None:
        generator = make_shared_generator(self.random_state)
        if first:
            build: partial[Any] = partial(
                CausalAutoencoder,
                n_codes=self.n_codes_,
                codebook_size=self.codebook_size_,
                n_hidden=hidden_width_of_prior(self.n_hidden, codes.size),
                vector_dim=None if vectors is None else np.shape(vectors)[2],
            )
            core = build(generator=generator)
            if vectors is not None:
                core.start_vectors(torch.tensor(vectors, device="cpu"))
            independent = IndependentPrior(self.codebook_size_).fit(codes)
            core.start_frequencies(torch.tensor(independent.frequencies_, device="cpu"))
            self.n_iter_, self.validation_loss_curve_ = 0, []
        else:
            build, core = self._net.build, self._net.make_core()
        trainer = Trainer(
            build,
            core,
            self._scaling(),
            resolve_device(self.device or "auto"),
            Objective(CodeLength()),
            generator,
            loss=None,
            learning_rate=CosineDecay(self.learning_rate) if first else self.learning_rate,
            weight_decay=_WEIGHT_DECAY,
        )
        max_epochs = epochs_of_prior(self.max_iter, len(codes)) if first else 1
        self._train(trainer, codes, max_epochs=max_epochs, first=first)
        self._net = trainer.fitted_net()

    def _train(self, trainer: Trainer, codes: np.ndarray, *, max_epochs: int, first: bool) -> None:
        n_samples = len(codes)
        n_held_out = count_held_out("auto", _VALIDATION_FRACTION, n_samples) if first else 0
        order = torch.randperm(n_samples, generator=trainer.generator, device="cpu")
        rows, held_out = (
            _resident(codes[part.numpy()], trainer.device)
            for part in (order[n_held_out:], order[:n_held_out])
        )
        plan = ValidationPlan(
            stops_training=n_held_out > 0,
            start_competes=True,
            n_iter_no_change=self.n_iter_no_change,
            tol=_TOL * self.n_codes_,
        )
        batch_size = rows_per_batch("auto", rows.n_rows)
        history = train(
            [trainer.run(rows, batch_size, held_out if n_held_out else None)],
            plan,
            max_epochs=max_epochs if n_held_out or not first else 0,
            progress=lambda epoch: epoch / max_epochs,
        )
        self.n_iter_ += history.n_epochs
        self.validation_loss_curve_ = self.validation_loss_curve_ + history.validation_loss_curve

    def _scaling(self) -> Scaling:
        """Return the scaling that leaves codes as they are."""
        zeros, ones = np.zeros(self.n_codes_), np.ones(self.n_codes_)
        return Scaling(zeros, ones, zeros, ones, zeros, (self.codebook_size_ - 1) * ones)

    def _log_prob(self, codes: np.ndarray) -> np.ndarray:
        device = evaluation_device(self.device or "auto")
        return self._net.map_rows(
            lambda core, x: core.log_prob(x), codes, device, np.float64, known=False
        )

    def _draw(self, n_samples: int, generator: Generator) -> np.ndarray:
        core: Any = self._net.core(torch.float64, evaluation_device(self.device or "auto"))
        with own_modes(gradients=False), threads_for(_ROWS_AT_ONCE * core.largest_product):
            sizes = [
                len(part) for part in torch.arange(n_samples, device="cpu").split(_ROWS_AT_ONCE)
            ]
            drawn = [core.sample(size, generator).cpu() for size in sizes]
        return torch.cat(drawn).numpy()


def _resident(codes: np.ndarray, device: torch.device) -> Rows:
    return ResidentRows(torch.tensor(codes, device=device, dtype=torch.float32))


def _smoothed(counts: np.ndarray) -> np.ndarray:
    """Return the frequencies of counts (n_codes, codebook_size) and of one row spread evenly."""
    size = counts.shape[1]
    return (counts + 1 / size) / (counts.sum(1, keepdims=True) + 1)
