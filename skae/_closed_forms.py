"""Which networks and objectives have gradients in closed form, and what these are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._gradients import Signal, Tape, multiplied, network, width_of
from ._slopes import (
    CODE_ACTIVATIONS,
    LIKELIHOODS,
    LOSSES,
    PENALTIES,
    write_likelihood,
    write_log_noise,
    write_loss,
)
from .modules import MLP, VAE, VQVAE, Autoencoder, Core, MirroredMLP, VectorQuantizer
from .modules._building import Foreign, with_networks
from .modules._kmeans import find_largest
from .modules._quantizers import LEAST_COUNT
from .modules._vae import LOG_INFORMATION_RANGE
from .objectives import Commitment, KLDivergence, Objective, Term
from .objectives._objective import OnRawRows

_aten = torch.ops.aten

# Vectors times codes that are compared at once on a fixed buffer; more are taken in pieces.
_MOST_MATCHES = 2**20


class Passes:
    """Forward and backward pass of a core for batches of a fixed number of rows.

    `play` reads `x`, `x_in` and `noise`, which are to be filled in beforehand, and leaves the
    gradients of the mean loss times ``n_rows / unit`` in the parameters' ``grad``.

    Parameters
    ----------
    core : Core
        A network for which `have_closed_form` is true. Its parameters have a ``grad`` each.
    terms : sequence of Term
        What is minimised.
    weights : sequence of float
        The terms' weights.
    n_rows : int
        Number of rows.
    noise : mapping of str to torch.Tensor
        What `Core.draw_noise` draws for so many rows.
    corrupted : bool
        Whether the encoder is given something else than the rows.
    updates : bool
        Whether the core is updated too, as `Core.update` does: for rows that are a whole step's.
    rounds : bool
        Whether large products are in bfloat16.

    Raises
    ------
    ValueError
        If a term has a parameter that is not valid.

    Attributes
    ----------
    x, x_in : torch.Tensor of shape (n_rows, n_features)
        The rows, and what the encoder is given: the same tensor unless `corrupted`.
    noise : dict of str to torch.Tensor
        Places for the noise.
    unit : float
        What gradients are divided by.
    """

    def __init__(
        self,
        core: Any,
        terms: Sequence[Term],
        weights: Sequence[float],
        n_rows: int,
        noise: Mapping[str, Tensor],
        *,
        corrupted: bool,
        updates: bool,
        rounds: bool,
    ) -> None:
        like = next(p for p in core.parameters() if p.requires_grad).detach()
        row = like.new_zeros(1, width_of(core.encoder)[0])
        # terms check their parameters when they are called
        Objective(*terms)(row, with_networks(core, _Zeros)(row))
        tape = self._tape = Tape(n_rows, like, updates=updates, rounds=rounds)
        self.x = self.x_in = tape.buffer(n_rows, width_of(core.encoder)[0])
        if corrupted:
            self.x_in = torch.zeros_like(self.x)
        self.noise = {
            name: torch.zeros_like(drawn, device=like.device, dtype=like.dtype)
            for name, drawn in noise.items()
        }
        _FAMILIES[type(core)](self, tape, core, list(zip(terms, weights, strict=True)))
        tape.turn()
        self.unit, self.loss_per_row = tape.unit, tape.loss_per_row
        self.take_loss = tape.take_loss
        capture = like.device.type == "cuda" and not core.has_foreign_parts
        self.play = tape.captured(list(core.buffers())) if capture else tape.play

    def take_noise(self, noise: Mapping[str, Tensor]) -> None:
        """Put what was drawn where `play` reads it."""
        for name, drawn in noise.items():
            self.noise[name].copy_(drawn)


def have_closed_form(core: Core, objective: Objective) -> bool:
    """Tell whether `Passes` can be written for a core and an objective."""
    first, *others = objective.terms
    inner = first.term if isinstance(first, OnRawRows) else first
    nets = type(core.encoder) in (MLP, Foreign) and type(core.decoder) in (
        MLP,
        MirroredMLP,
        Foreign,
    )
    learns = any(weight.requires_grad for weight in core.parameters())
    if not (nets and learns) or core.n_draws > 1 or type(core) not in _FAMILIES:
        return False
    kinds = {type(each) for each in others}
    if isinstance(core, VAE):
        table = LOSSES if core.likelihood.raw_target else LIKELIHOODS
        known = type(inner) in table and core.log_dispersion is None
        return known and kinds == {KLDivergence} and not others[0].free_bits
    if type(inner) not in LOSSES:
        return False
    if isinstance(core, VQVAE):
        quantizer = core.quantizer
        moves = type(quantizer) is VectorQuantizer and quantizer.decay is not None
        return moves and kinds <= {Commitment}
    assert isinstance(core, Autoencoder)
    return kinds <= set(PENALTIES) and type(core.code_activation) in CODE_ACTIVATIONS


class _Zeros(nn.Module):
    """A network that returns zeros in another's place."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self._n_out = width_of(net)[1]

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self._n_out)


# -- families --------------------------------------------------------------------------------------


Weighted = list[tuple[Any, float]]


def _autoencoder(passes: Passes, tape: Tape, core: Any, terms: Weighted) -> None:
    (loss, weight), *penalties = terms
    x_hat, z = tape.signal(passes.x.shape[1]), tape.signal(width_of(core.encoder)[1])
    _encode(passes, tape, core, z)
    z = CODE_ACTIVATIONS[type(core.code_activation)](tape, z, core.code_activation)
    tape.on_return(
        lambda: [PENALTIES[type(each)](tape, each, share, z) for each, share in penalties]
    )
    through = z
    if "kept" in passes.noise:
        numbers = torch.arange(z.value.shape[1], device=z.value.device, dtype=z.value.dtype)
        kept = torch.zeros_like(z.value)
        tape.call(torch.lt, numbers, passes.noise["kept"], out=kept)
        through = multiplied(tape, z, kept)
    network(tape, core.decoder, through, x_hat, passes.noise.get("decoder"))
    write_loss(tape, loss, weight, passes.x, x_hat)


def _vae(passes: Passes, tape: Tape, core: Any, terms: Weighted) -> None:
    (likelihood, weight), (_, beta) = terms
    k = core.n_components
    encoding, z = tape.signal(2 * k), tape.signal(k)
    x_hat = tape.signal(passes.x.shape[1])
    _encode(passes, tape, core, encoding)
    draws = passes.noise["posterior"].squeeze(1)
    _draw(tape, core, encoding, draws, z, beta)
    network(tape, core.decoder, z, x_hat, passes.noise.get("decoder"))
    write_likelihood(tape, core, likelihood, weight, passes.x, x_hat)


def _draw(tape: Tape, core: Any, encoding: Signal, draws: Tensor, z: Signal, beta: float) -> None:
    r"""Write the draws from the posteriors, and the divergence from the prior.

    With the log-information :math:`u` less the noise's logarithm and :math:`\sigma^2 = 1 / (1 +
    e^u)`, the divergence is half of :math:`\mu^2 + \sigma^2 - 1 + \log(1 + e^u)`, its slope in
    :math:`u` half of :math:`(1 - \sigma^2)^2`, and that of the draw :math:`\mu + \sigma \epsilon`
    minus half of :math:`\epsilon \sigma (1 - \sigma^2)`.
    """
    k = z.value.shape[1]
    mean, information = encoding.value[:, :k], encoding.value[:, k:]
    mean_slope, information_slope = encoding.slope[:, :k], encoding.slope[:, k:]
    shifted, minus_log_variance, std, gap = (torch.zeros_like(z.value) for _ in range(4))
    minus_half, log_noise = tape.like.new_tensor(-0.5), tape.like.new_zeros(())
    zero = tape.like.new_zeros(())
    low, high = LOG_INFORMATION_RANGE
    tape.call(torch.clamp, information, low, high, out=shifted)
    write_log_noise(tape, core, log_noise)
    tape.call(shifted.sub_, log_noise)
    tape.call(torch._C._nn.softplus, shifted, out=minus_log_variance)
    tape.call(torch.mul, minus_log_variance, minus_half, out=std)
    tape.call(std.exp_)
    tape.call(torch.addcmul, mean, std, draws, out=z.value)
    tape.call(torch.sigmoid, shifted, out=gap)  # 1 - variance
    total = tape.count(minus_log_variance, 0.5 * beta)
    tape.call(total.addcmul_, mean, mean)
    tape.call(total.sub_, gap)

    def back() -> None:
        share = beta / tape.unit
        tape.call(torch.add, z.slope, mean, alpha=share, out=mean_slope)
        tape.call(z.slope.mul_, draws)
        tape.call(torch.mul, gap, tape.like.new_tensor(share), out=information_slope)
        tape.call(information_slope.addcmul_, z.slope, std, value=-1)
        tape.call(torch.addcmul, zero, information_slope, gap, value=0.5, out=information_slope)
        tape.call(
            _aten.hardtanh_backward.grad_input,
            information_slope,
            information,
            low,
            high,
            grad_input=information_slope,
        )

    tape.on_return(back)


def _vqvae(passes: Passes, tape: Tape, core: Any, terms: Weighted) -> None:
    (loss, weight), *others = terms
    k = width_of(core.encoder)[1]
    z_e, z = tape.signal(k), tape.signal(k)
    x_hat = tape.signal(passes.x.shape[1])
    gap = torch.zeros_like(z.value)
    _encode(passes, tape, core, z_e)
    _write_codes(tape, core.quantizer, z_e.value, z.value)
    tape.call(torch.sub, z_e.value, z.value, out=gap)
    commitment = sum(share for _, share in others)
    tape.count_product(gap, gap, commitment)
    tape.on_return(
        lambda: tape.call(torch.add, z.slope, gap, alpha=2 * commitment / tape.unit, out=z_e.slope)
    )
    network(tape, core.decoder, z, x_hat, passes.noise.get("decoder"))
    write_loss(tape, loss, weight, passes.x, x_hat)


def _write_codes(tape: Tape, quantizer: VectorQuantizer, z_e: Tensor, z: Tensor) -> None:
    """Write the codes' vectors to z, and what the quantizer learns of them or becomes.

    For one stage with codebooks of its own for each part these are the calls of
    `skae.modules._kmeans.nearest` and `add_totals`, and of `update`, on fixed buffers.
    """
    keys, n_rows = quantizer.codebook, tape.n_rows
    n_parts, size, dim = keys.shape
    if quantizer.n_stages > 1 or quantizer.shared or n_parts * n_rows * size > _MOST_MATCHES:
        tape.call(_quantize, quantizer, z_e, z)
        if tape.updates:
            tape.call(quantizer.update)
        return
    parts, place = (each.view(n_rows, n_parts, dim).transpose(0, 1) for each in (z_e, z))
    origin, centred, norms = (torch.zeros_like(each) for each in (keys[:, :1], keys, keys[:, :, 0]))
    shifted, vectors = torch.zeros_like(parts), torch.zeros_like(parts)
    matches = tape.buffer(n_parts, n_rows, size)
    codes = torch.zeros((n_parts, n_rows), dtype=torch.int64, device=z.device)
    index = codes[:, :, None].expand_as(parts)
    tape.call(torch.bmm, tape.like.new_full((n_parts, 1, size), 1 / size), keys, out=origin)
    tape.call(torch.sub, keys, origin, out=centred)
    tape.call(torch.linalg.vecdot, centred, centred, out=norms)
    tape.call(torch.sub, parts, origin, out=shifted)
    tape.call(
        torch.baddbmm, norms[:, None], shifted, centred.transpose(1, 2), beta=-0.5, out=matches
    )
    tape.call(find_largest, matches, codes)
    tape.call(torch.gather, keys, 1, index, out=vectors)
    tape.call(place.copy_, vectors)
    counts, sums = quantizer.statistics()
    tape.call(counts.scatter_add_, 1, codes, tape.ones.expand(n_parts, -1))
    tape.call(sums.scatter_add_, 1, index, parts)
    if tape.updates:
        _move_codebooks(tape, quantizer)


def _move_codebooks(tape: Tape, quantizer: Any) -> None:
    """Write `VectorQuantizer.update`."""
    counts, sums = quantizer.statistics()
    mean_counts, mean_sums, keys = quantizer.mean_counts, quantizer.mean_sums, quantizer.codebook
    share, moved = 1 - quantizer.decay, torch.zeros_like(keys)
    used = torch.zeros_like(mean_counts, dtype=torch.bool)
    tape.call(mean_counts.lerp_, counts, share)
    tape.call(mean_sums.lerp_, sums, share)
    tape.call(torch.gt, mean_counts, LEAST_COUNT, out=used)
    tape.call(torch.div, mean_sums, mean_counts[:, :, None], out=moved)
    tape.call(torch.where, used[:, :, None], moved, keys, out=keys)
    tape.call(counts.zero_)
    tape.call(sums.zero_)


def _quantize(quantizer: VectorQuantizer, z_e: Tensor, z: Tensor) -> None:
    codes, vectors = quantizer.quantize(z_e)
    z.copy_(vectors)
    quantizer.observe(z_e, codes)


_FAMILIES: dict[type, Callable[..., None]] = {Autoencoder: _autoencoder, VAE: _vae, VQVAE: _vqvae}


def _encode(passes: Passes, tape: Tape, core: Any, z: Signal) -> None:
    rows = Signal(passes.x_in, passes.x_in[:0])
    network(tape, core.encoder, rows, z, passes.noise.get("encoder"), returns=False)
