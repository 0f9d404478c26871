"""Codebooks in a fit: how many and how large they are, where they start, how codes stay alive."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .._data.batches import Rows, StreamedRows
from .._data.rows import count_distinct
from .._runtime.isolation import isolated_for
from .._runtime.threads import threads_for
from .._runtime.warnings import warn
from .._training.trainer import Trainer
from .._training.validation import ValidationSet
from ..modules import Core
from ..objectives._objective import bound_by
from ..quantization import Quantization

_CODE_DIM = 4
# k-means sees all training rows, or as many as make so many matches with codes; at least these.
_KMEANS_MATCHES, _KMEANS_ROWS_PER_CODE = 2**25, 40
_RESTART_ROWS_PER_CODE = 4
# k-means is made of pieces, each of about this share of an iteration's work.
_KMEANS_PIECES = 10
# A quantizer of the user's with one of these of its own is refined as it says, or not at all.
_STARTING = "start", "nearest", "lookup"
# A warning is given where a smaller fraction of the codes is in use.
_LEAST_USE = 0.1


def count_parts(n_codes: int | str, k: int, n_places: int | None = None) -> int:
    """Return the number of vectors that a row of k components is cut into, a divisor of k.

    Where codes have places, it is the number of these.

    Raises
    ------
    ValueError
        If `n_codes` is not one, or is not that of places.
    """
    if n_places is not None:
        if n_codes not in ("auto", n_places) or k % n_places:
            raise ValueError(
                f"The encoder has {n_places} positions with a code each, so n_codes must be "
                f"{n_places} or 'auto', and n_components a multiple of it. Got n_codes={n_codes!r} "
                f"and n_components={k}."
            )
        return n_places
    if not isinstance(n_codes, str):
        if k % n_codes:
            raise ValueError(
                f"n_codes={n_codes} does not divide n_components={k}: the code vectors "
                "would differ in length. Change one of them, or use n_codes='auto'."
            )
        return int(n_codes)
    divisors = [n for n in range(1, k + 1) if k % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n * _CODE_DIM / k)))


def size_of_codebooks(wanted: int, rows: StreamedRows, *, asked: bool) -> int:
    """Return the number of vectors per codebook: at most that of distinct training rows.

    Where so many were asked for, a smaller number comes with a warning.
    """
    n_distinct = count_distinct(rows.X, rows.index, wanted)
    if n_distinct < wanted and asked:
        warn(
            f"codebook_size={wanted} is larger than the number of distinct training rows: "
            f"codebooks have {n_distinct} vectors. Lower it, or use codebook_size='auto'.",
            UserWarning,
        )
    return n_distinct


def start_codebooks(core: Any, rows: Rows, batch_size: int, generator: Generator) -> None:
    """Start codebooks at k-means of encodings of training rows."""
    z = encodings(core, rows, _rows_for_kmeans(core.quantizer), generator)
    with threads_for(z.numel() * core.quantizer.codebook.shape[1] // _KMEANS_PIECES):
        core.quantizer.start(z, batch_size, generator)


def refine_codebooks(trainer: Trainer, rows: Rows) -> None:
    """Let k-means of the encodings of all rows go on, if that lowers the loss.

    Rows that were held out are among them, and so are codes that were too rare for their averages.
    """
    core, step, generator = trainer.core, trainer.step, trainer.generator
    validation = ValidationSet(core, step.objective, rows, generator)
    before, kept = validation.losses().mean(), step.snapshot()
    z = encodings(core, rows, _rows_for_kmeans(core.quantizer), generator)
    with threads_for(z.numel() * core.quantizer.codebook.shape[1] // _KMEANS_PIECES):
        bound_by(core.quantizer, _STARTING, "refine")(z, generator)
    if validation.losses().mean() > before:
        step.restore(kept)


def _rows_for_kmeans(quantizer: Any) -> int:
    size, n_parts = quantizer.codebook.shape[1], quantizer.n_codes // quantizer.n_stages
    return max(_KMEANS_ROWS_PER_CODE * size, _KMEANS_MATCHES // (n_parts * size))


def restart_dead_codes(core: Any, rows: Rows, threshold: float, generator: Generator) -> None:
    """Move codes that have fallen out of use onto encodings of training rows."""
    if core.quantizer.has_dead(threshold):
        n_rows = _RESTART_ROWS_PER_CODE * core.quantizer.codebook.shape[1]
        z = encodings(core, rows, n_rows, generator)
        core.quantizer.restart_dead(z, threshold, generator)


@torch.no_grad()
def encodings(core: Core, rows: Rows, n_rows: int, generator: Generator) -> Tensor:
    """Return what the encoder makes of some training rows, (n_rows, n_components)."""
    core.eval()
    found = []
    for x in rows.sample(n_rows, generator):
        with isolated_for(core, x):
            found.append(core.encoder(x))
    core.train()
    return torch.cat(found)


def warn_of_unused(
    usage: np.ndarray, owner: np.ndarray, n_rows: int, kind: Quantization, threshold: float
) -> None:
    """Warn if few of the codes that can be used are.

    Parameters
    ----------
    usage : ndarray of shape (n_codes, codebook_size)
        How many of the training rows use each code.
    owner : ndarray of int of shape (n_codes,)
        Which codebook each of a row's codes belongs to.
    n_rows : int
        Number of training rows.
    kind : Quantization
        How codes were found.
    threshold : float
        Below which use they were restarted.
    """
    used = np.zeros((owner.max() + 1, usage.shape[1]), dtype=bool)
    np.logical_or.at(used, owner, usage > 0)
    n_used, n_possible = int(used.sum()), len(used) * min(usage.shape[1], n_rows)
    if n_used >= _LEAST_USE * n_possible:
        return
    learned = kind.learned
    remedies = ["Lower codebook_size or n_codes" if learned else "Use fewer levels or n_codes"]
    if learned and threshold == 0:
        remedies.append("set dead_code_threshold=0.05, which restarts codes that are not used")
    warn(
        f"{n_used} of {n_possible} codes are used by the training rows. {', or '.join(remedies)}.",
        UserWarning,
    )
