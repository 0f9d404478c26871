"""Which networks and objectives have gradients in closed form, and what these are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..modules import MLP, VAE, VQVAE, Autoencoder, Core, MirroredMLP, VectorQuantizer
from ..modules._custom import CustomNetwork, with_networks
from ..modules._kmeans import find_largest
from ..modules._quantizers import LEAST_COUNT
from ..modules._vae import LOG_INFORMATION_RANGE
from ..objectives import Commitment, KLDivergence, Objective, Term
from ..objectives._objective import OnRawRows
from .layers import multiplied, network, width_of
from .program import Program, Signal
from .terms import (
    CODE_ACTIVATIONS,
    LIKELIHOODS,
    LOSSES,
    PENALTIES,
    write_likelihood,
    write_log_noise,
    write_loss,
)

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
        program = self._program = Program(n_rows, like, updates=updates, rounds=rounds)
        self.x = self.x_in = program.buffer(n_rows, width_of(core.encoder)[0])
        if corrupted:
            self.x_in = torch.zeros_like(self.x)
        self.noise = {
            name: torch.zeros_like(drawn, device=like.device, dtype=like.dtype)
            for name, drawn in noise.items()
        }
        _FAMILIES[type(core)](self, program, core, list(zip(terms, weights, strict=True)))
        program.write_backward()
        self.unit, self.loss_per_row = program.unit, program.loss_per_row
        self.take_loss = program.take_loss
        capture = like.device.type == "cuda" and not core.has_custom_parts
        self.replay = program.captured(list(core.buffers())) if capture else program.replay

    def take_noise(self, noise: Mapping[str, Tensor]) -> None:
        """Put what was drawn where `play` reads it."""
        for name, drawn in noise.items():
            self.noise[name].copy_(drawn)


def have_closed_form(core: Core, objective: Objective) -> bool:
    """Return whether `Passes` can be written for a core and an objective."""
    first, *others = objective.terms
    inner = first.term if isinstance(first, OnRawRows) else first
    nets = type(core.encoder) in (MLP, CustomNetwork) and type(core.decoder) in (
        MLP,
        MirroredMLP,
        CustomNetwork,
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


def _autoencoder(passes: Passes, program: Program, core: Any, terms: Weighted) -> None:
    (loss, weight), *penalties = terms
    x_hat, z = program.signal(passes.x.shape[1]), program.signal(width_of(core.encoder)[1])
    _encode(passes, program, core, z)
    z = CODE_ACTIVATIONS[type(core.code_activation)](program, z, core.code_activation)
    program.on_backward(
        lambda: [PENALTIES[type(each)](program, each, share, z) for each, share in penalties]
    )
    through = z
    if "kept" in passes.noise:
        numbers = torch.arange(z.value.shape[1], device=z.value.device, dtype=z.value.dtype)
        kept = torch.zeros_like(z.value)
        program.call(torch.lt, numbers, passes.noise["kept"], out=kept)
        through = multiplied(program, z, kept)
    network(program, core.decoder, through, x_hat, passes.noise.get("decoder"))
    write_loss(program, loss, weight, passes.x, x_hat)


def _vae(passes: Passes, program: Program, core: Any, terms: Weighted) -> None:
    (likelihood, weight), (_, beta) = terms
    k = core.n_components
    encoding, z = program.signal(2 * k), program.signal(k)
    x_hat = program.signal(passes.x.shape[1])
    _encode(passes, program, core, encoding)
    draws = passes.noise["posterior"].squeeze(1)
    _draw(program, core, encoding, draws, z, beta)
    network(program, core.decoder, z, x_hat, passes.noise.get("decoder"))
    write_likelihood(program, core, likelihood, weight, passes.x, x_hat)


def _draw(
    program: Program, core: Any, encoding: Signal, draws: Tensor, z: Signal, beta: float
) -> None:
    r"""Write the draws from the posteriors, and the divergence from the prior.

    With the log-information :math:`u` less the noise's logarithm and :math:`\sigma^2 = 1 / (1 +
    e^u)`, the divergence is half of :math:`\mu^2 + \sigma^2 - 1 + \log(1 + e^u)`, its gradient in
    :math:`u` half of :math:`(1 - \sigma^2)^2`, and that of the draw :math:`\mu + \sigma \epsilon`
    minus half of :math:`\epsilon \sigma (1 - \sigma^2)`.
    """
    k = z.value.shape[1]
    mean, information = encoding.value[:, :k], encoding.value[:, k:]
    mean_gradient, information_gradient = encoding.gradient[:, :k], encoding.gradient[:, k:]
    shifted, minus_log_variance, std, gap = (torch.zeros_like(z.value) for _ in range(4))
    minus_half, log_noise = program.like.new_tensor(-0.5), program.like.new_zeros(())
    zero = program.like.new_zeros(())
    low, high = LOG_INFORMATION_RANGE
    program.call(torch.clamp, information, low, high, out=shifted)
    write_log_noise(program, core, log_noise)
    program.call(shifted.sub_, log_noise)
    program.call(torch._C._nn.softplus, shifted, out=minus_log_variance)
    program.call(torch.mul, minus_log_variance, minus_half, out=std)
    program.call(std.exp_)
    program.call(torch.addcmul, mean, std, draws, out=z.value)
    program.call(torch.sigmoid, shifted, out=gap)  # 1 - variance
    total = program.count(minus_log_variance, 0.5 * beta)
    program.call(total.addcmul_, mean, mean)
    program.call(total.sub_, gap)

    def back() -> None:
        share = beta / program.unit
        program.call(torch.add, z.gradient, mean, alpha=share, out=mean_gradient)
        program.call(z.gradient.mul_, draws)
        program.call(torch.mul, gap, program.like.new_tensor(share), out=information_gradient)
        program.call(information_gradient.addcmul_, z.gradient, std, value=-1)
        program.call(
            torch.addcmul, zero, information_gradient, gap, value=0.5, out=information_gradient
        )
        program.call(
            _aten.hardtanh_backward.grad_input,
            information_gradient,
            information,
            low,
            high,
            grad_input=information_gradient,
        )

    program.on_backward(back)


def _vqvae(passes: Passes, program: Program, core: Any, terms: Weighted) -> None:
    (loss, weight), *others = terms
    k = width_of(core.encoder)[1]
    z_e, z = program.signal(k), program.signal(k)
    x_hat = program.signal(passes.x.shape[1])
    gap = torch.zeros_like(z.value)
    _encode(passes, program, core, z_e)
    _write_codes(program, core.quantizer, z_e.value, z.value)
    program.call(torch.sub, z_e.value, z.value, out=gap)
    commitment = sum(share for _, share in others)
    program.count_product(gap, gap, commitment)
    program.on_backward(
        lambda: program.call(
            torch.add, z.gradient, gap, alpha=2 * commitment / program.unit, out=z_e.gradient
        )
    )
    network(program, core.decoder, z, x_hat, passes.noise.get("decoder"))
    write_loss(program, loss, weight, passes.x, x_hat)


def _write_codes(program: Program, quantizer: VectorQuantizer, z_e: Tensor, z: Tensor) -> None:
    """Write the codes' vectors to z, and what the quantizer learns of them or becomes.

    For one stage with codebooks of its own for each part these are the calls of
    `skae.modules._kmeans.nearest` and `add_totals`, and of `update`, on fixed buffers.
    """
    keys, n_rows = quantizer.codebook, program.n_rows
    n_parts, size, dim = keys.shape
    if quantizer.n_stages > 1 or quantizer.shared or n_parts * n_rows * size > _MOST_MATCHES:
        program.call(_quantize, quantizer, z_e, z)
        if program.updates:
            program.call(quantizer.update)
        return
    parts, place = (each.view(n_rows, n_parts, dim).transpose(0, 1) for each in (z_e, z))
    origin, centred, norms = (torch.zeros_like(each) for each in (keys[:, :1], keys, keys[:, :, 0]))
    shifted, vectors = torch.zeros_like(parts), torch.zeros_like(parts)
    matches = program.buffer(n_parts, n_rows, size)
    codes = torch.zeros((n_parts, n_rows), dtype=torch.int64, device=z.device)
    index = codes[:, :, None].expand_as(parts)
    program.call(torch.bmm, program.like.new_full((n_parts, 1, size), 1 / size), keys, out=origin)
    program.call(torch.sub, keys, origin, out=centred)
    program.call(torch.linalg.vecdot, centred, centred, out=norms)
    program.call(torch.sub, parts, origin, out=shifted)
    program.call(
        torch.baddbmm, norms[:, None], shifted, centred.transpose(1, 2), beta=-0.5, out=matches
    )
    program.call(find_largest, matches, codes)
    program.call(torch.gather, keys, 1, index, out=vectors)
    program.call(place.copy_, vectors)
    counts, sums = quantizer.statistics()
    program.call(counts.scatter_add_, 1, codes, program.ones.expand(n_parts, -1))
    program.call(sums.scatter_add_, 1, index, parts)
    if program.updates:
        _move_codebooks(program, quantizer)


def _move_codebooks(program: Program, quantizer: Any) -> None:
    """Write `VectorQuantizer.update`."""
    counts, sums = quantizer.statistics()
    mean_counts, mean_sums, keys = quantizer.mean_counts, quantizer.mean_sums, quantizer.codebook
    share, moved = 1 - quantizer.decay, torch.zeros_like(keys)
    used = torch.zeros_like(mean_counts, dtype=torch.bool)
    program.call(mean_counts.lerp_, counts, share)
    program.call(mean_sums.lerp_, sums, share)
    program.call(torch.gt, mean_counts, LEAST_COUNT, out=used)
    program.call(torch.div, mean_sums, mean_counts[:, :, None], out=moved)
    program.call(torch.where, used[:, :, None], moved, keys, out=keys)
    program.call(counts.zero_)
    program.call(sums.zero_)


def _quantize(quantizer: VectorQuantizer, z_e: Tensor, z: Tensor) -> None:
    codes, vectors = quantizer.quantize(z_e)
    z.copy_(vectors)
    quantizer.observe(z_e, codes)


_FAMILIES: dict[type, Callable[..., None]] = {Autoencoder: _autoencoder, VAE: _vae, VQVAE: _vqvae}


def _encode(passes: Passes, program: Program, core: Any, z: Signal) -> None:
    rows = Signal(passes.x_in, passes.x_in[:0])
    network(program, core.encoder, rows, z, passes.noise.get("encoder"), returns=False)
