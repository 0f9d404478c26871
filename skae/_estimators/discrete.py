"""What a model with discrete codes offers: codes out and in, their use, their prior, draws."""

from __future__ import annotations

import math
import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from torch import Generator

from .._data.codes import (
    check_container,
    check_integer_codes,
    codes_of_one_hot,
    count_codes,
    one_hot,
)
from .._data.rows import dense
from .._latent.basis import basis_with_unit
from .._latent.density import completed, draw_from_density
from .._latent.noise import draw_from_quantiles, quantiles_of, scattered
from .._runtime.device import evaluation_device
from .._sklearn.inputs import check_codes
from ..modules import perplexity
from ..objectives import Likelihood, Loss
from ..priors import AutoregressivePrior, CodePrior, IndependentPrior, UniformPrior
from ..quantization import Quantization
from .base import GenerativeAutoencoder
from .fitting import kept, same
from .slots import LOSSES, QUANTIZERS, resolve

PRIORS: dict[str, type[CodePrior]] = {
    "autoregressive": AutoregressivePrior,
    "independent": IndependentPrior,
    "uniform": UniformPrior,
}

# A warning is given where a smaller fraction of the codes is in use.
_LEAST_USE = 0.1
# So many training rows, and values, at most are decoded to measure the noise.
_MOST_ROWS_MEASURED, _MOST_VALUES_MEASURED = 10_000, 2**24


class DiscreteModel(GenerativeAutoencoder):
    """An autoencoder with several integers per row: forms of the codes, their use, their prior."""

    encode: str
    loss: str | Loss
    prior: Any
    quantizer: str | Quantization
    dead_code_threshold: float
    codebook_usage_: np.ndarray
    noise_variance_: np.ndarray
    _noise_quantiles: np.ndarray  # in root mean squared errors
    prior_: Any
    _prior_asked: Any
    _encoded_as: str

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

    def _loss(self) -> Loss:
        return resolve(self.loss, LOSSES)

    def _integer_codes(self, X: Any) -> np.ndarray:
        return self._net.map_rows(lambda core, x: core.codes(x), X, evaluation_device(self.device))

    def _vectors(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors of integer codes side by side, (n_rows, n_components_)."""
        return self._net.lookup(codes, evaluation_device(self.device))

    def _decode_integers(self, codes: np.ndarray) -> np.ndarray:
        return self._decode(self._vectors(codes))

    def _quantizer(self) -> Any:
        core: Any = self._net.core(torch.float64, torch.device("cpu"))
        return core.quantizer

    def _owner(self) -> np.ndarray:
        """Return the number of each code's codebook."""
        return self._quantizer().owner.numpy()

    def _publish(self, X: Any, n_before: int, known: Any = None) -> None:
        unit = self._net.scaling.unit
        self._net.basis = basis_with_unit(self.n_components_, unit)
        self._encoded_as = self.encode
        quantizer = self._quantizer()
        self.codebook_ = quantizer.codebook.detach().numpy().copy() * unit
        self.n_codes_ = quantizer.n_codes
        codes = self._integer_codes(X)
        counts = count_codes(codes, self.codebook_.shape[1])
        if n_before:
            counts = counts + n_before * self.codebook_usage_
        self.codebook_usage_ = counts / (n_before + len(codes))
        self.perplexity_ = perplexity(torch.from_numpy(self.codebook_usage_)).numpy()
        if not n_before:
            self._warn_of_unused(len(codes))
        self._publish_noise(X, codes, n_before)
        self._learn_prior(codes, n_before)

    def _publish_noise(self, X: Any, codes: np.ndarray, n_before: int) -> None:
        """Measure what reconstructions miss, by feature."""
        n_rows = max(1, min(_MOST_ROWS_MEASURED, _MOST_VALUES_MEASURED // X.shape[1]))
        step = -(-X.shape[0] // n_rows)
        residuals = dense(X[::step]) - self._decode_integers(codes[::step])
        variance = np.square(residuals).mean(0)
        quantiles = quantiles_of(residuals) / np.sqrt(variance + (variance == 0))
        if n_before:
            share = n_before / (n_before + X.shape[0])
            variance = share * self.noise_variance_ + (1 - share) * variance
            quantiles = share * self._noise_quantiles + (1 - share) * quantiles
        self.noise_variance_, self._noise_quantiles = variance, quantiles.astype(np.float32)

    def _learn_prior(self, codes: np.ndarray, n_before: int) -> None:
        goes_on = n_before and same(self.prior, self._prior_asked)
        if goes_on and hasattr(self.prior_, "partial_fit"):
            prior = deepcopy(self.prior_)
            prior.partial_fit(codes)
        else:
            known = {"codebook_size": self._codebook_size, "device": self.device}
            prior = completed(resolve(self.prior, PRIORS), self.random_state, **known)
            takes_vectors = has_fit_parameter(prior, "vectors")
            vectors = {"vectors": self.codebook_[self._owner()]} if takes_vectors else {}
            prior.fit(codes, **vectors)
        self.prior_, self._prior_asked = prior, kept(self.prior)

    def _warn_of_unused(self, n_rows: int) -> None:
        """Warn if few of the codes that can be used are."""
        used, owner = np.zeros(self.codebook_.shape[:2], dtype=bool), self._owner()
        np.logical_or.at(used, owner, self.codebook_usage_ > 0)
        n_used, n_possible = int(used.sum()), len(used) * min(self._codebook_size, n_rows)
        if n_used >= _LEAST_USE * n_possible:
            return
        learned = resolve(self.quantizer, QUANTIZERS).learned
        remedies = ["Lower codebook_size or n_codes" if learned else "Use fewer levels or n_codes"]
        if learned and self.dead_code_threshold == 0:
            remedies.append("set dead_code_threshold=0.05, which restarts codes that are not used")
        warnings.warn(
            f"{n_used} of {n_possible} codes are used by the training rows. "
            f"{', or '.join(remedies)}.",
            UserWarning,
            stacklevel=6,
        )

    def _draw(self, n_samples: int, generator: Generator, mean: bool = False) -> np.ndarray:
        drawn = draw_from_density(n_samples, self.prior_, generator)
        if drawn.shape != (n_samples, self.n_codes_):
            raise ValueError(
                f"sample of a prior must return {n_samples} rows of {self.n_codes_} codes, but "
                f"that of {self.prior_!r} returned shape {drawn.shape}."
            )
        source = f"What {self.prior_!r} drew", "sample must return"
        codes = check_integer_codes(drawn, self._codebook_size, *source)
        rows = self._decode_integers(codes)
        return rows if mean else self._with_noise(rows, generator)

    def _with_noise(self, rows: np.ndarray, generator: Generator) -> np.ndarray:
        loss = self._net.link
        if isinstance(loss, Likelihood):
            return scattered(rows, loss, np.asarray(1.0), self._net.scaling, generator)
        noise = draw_from_quantiles(len(rows), self._noise_quantiles, generator)
        return rows + noise * np.sqrt(self.noise_variance_)
