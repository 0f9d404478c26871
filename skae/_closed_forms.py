"""Which networks and objectives have gradients in closed form, and what these are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._gradients import Signal, Tape, logistic, multiplied, perceptron, unchanged
from .modules import (
    MLP,
    VAE,
    VQVAE,
    Autoencoder,
    Core,
    MirroredMLP,
    VectorQuantizer,
    VQVAEOutput,
)
from .modules._vae import LOG_INFORMATION_RANGE
from .objectives import (
    L1,
    L2,
    AbsoluteError,
    Bernoulli,
    Commitment,
    Gaussian,
    Huber,
    Identity,
    KLDivergence,
    KLSparsity,
    Laplace,
    Logistic,
    Objective,
    Poisson,
    SquaredError,
    Term,
    TopK,
)
from .objectives._counts import LARGEST_LOG_RATE
from .objectives._objective import OnRawRows
from .objectives._penalties import LEAST_ACTIVATION

_aten = torch.ops.aten


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
    ) -> None:
        like = next(core.parameters()).detach()
        tape = self._tape = Tape(n_rows, like)
        self.x = self.x_in = tape.buffer(n_rows, _width(core.encoder)[0])
        if corrupted:
            self.x_in = torch.zeros_like(self.x)
        self.noise = {
            name: torch.zeros_like(drawn, device=like.device, dtype=like.dtype)
            for name, drawn in noise.items()
        }
        _FAMILIES[type(core)](self, tape, core, list(zip(terms, weights, strict=True)))
        tape.turn()
        self.unit, self.loss_per_row = tape.unit, tape.loss_per_row
        self.play, self.take_loss = tape.play, tape.take_loss


def have_closed_form(core: Core, objective: Objective) -> bool:
    """Tell whether `Passes` can be written for a core and an objective."""
    first, *others = objective.terms
    inner = first.term if isinstance(first, OnRawRows) else first
    nets = type(core.encoder) is MLP and type(core.decoder) in (MLP, MirroredMLP)
    if not nets or core.n_draws > 1 or type(core) not in _FAMILIES:
        return False
    kinds = {type(each) for each in others}
    if isinstance(core, VAE):
        known = type(inner) in _LIKELIHOODS and core.log_dispersion is None
        return known and kinds == {KLDivergence} and not others[0].free_bits
    if type(inner) not in _LOSSES:
        return False
    if isinstance(core, VQVAE):
        quantizer = core.quantizer
        moves = type(quantizer) is VectorQuantizer and quantizer.decay is not None
        return moves and kinds <= {Commitment}
    assert isinstance(core, Autoencoder)
    return kinds <= set(_PENALTIES) and type(core.code_activation) in _CODE_ACTIVATIONS


# -- families --------------------------------------------------------------------------------------


Weighted = list[tuple[Any, float]]


def _autoencoder(passes: Passes, tape: Tape, core: Any, terms: Weighted) -> None:
    (loss, weight), *penalties = terms
    x_hat, z = tape.signal(passes.x.shape[1]), tape.signal(_width(core.encoder)[1])
    _encode(passes, tape, core, z)
    z = _CODE_ACTIVATIONS[type(core.code_activation)](tape, z, core.code_activation)
    tape.on_return(
        lambda: [_PENALTIES[type(each)](tape, each, share, z) for each, share in penalties]
    )
    through = z
    if "kept" in passes.noise:
        numbers = torch.arange(z.value.shape[1], device=z.value.device, dtype=z.value.dtype)
        kept = torch.zeros_like(z.value)
        tape.call(torch.lt, numbers, passes.noise["kept"], out=kept)
        through = multiplied(tape, z, kept)
    perceptron(tape, core.decoder, through, x_hat, passes.noise.get("decoder"))
    _write_loss(tape, loss, weight, passes.x, x_hat)


def _vae(passes: Passes, tape: Tape, core: Any, terms: Weighted) -> None:
    (likelihood, weight), (_, beta) = terms
    k = core.n_components
    encoding, z = tape.signal(2 * k), tape.signal(k)
    x_hat = tape.signal(passes.x.shape[1])
    _encode(passes, tape, core, encoding)
    draws = passes.noise["posterior"].squeeze(1)
    _draw(tape, core, encoding, draws, z, beta)
    perceptron(tape, core.decoder, z, x_hat, passes.noise.get("decoder"))
    _write_likelihood(tape, core, likelihood, weight, passes.x, x_hat)


def _draw(
    tape: Tape, core: Any, encoding: Signal, draws: Tensor, z: Signal, beta: float
) -> None:
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
    low, high = LOG_INFORMATION_RANGE
    tape.call(torch.clamp, information, low, high, out=shifted)
    tape.call(lambda: shifted.sub_(core.log_noise()))
    tape.call(torch._C._nn.softplus, shifted, out=minus_log_variance)
    tape.call(torch.mul, minus_log_variance, -0.5, out=std)
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
        tape.call(z.slope.mul_, std)
        tape.call(torch.neg, z.slope, out=information_slope)
        tape.call(information_slope.add_, gap, alpha=share)
        tape.call(information_slope.mul_, gap)
        tape.call(information_slope.mul_, 0.5)
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
    k = _width(core.encoder)[1]
    z_e, z = tape.signal(k), tape.signal(k)
    x_hat = tape.signal(passes.x.shape[1])
    gap = torch.zeros_like(z.value)
    _encode(passes, tape, core, z_e)
    tape.call(_quantize, core, passes.x, z_e.value, z.value)
    tape.call(torch.sub, z_e.value, z.value, out=gap)
    commitment = sum(share for _, share in others)
    tape.count_product(gap, gap, commitment)
    tape.on_return(
        lambda: tape.call(
            torch.add, z.slope, gap, alpha=2 * commitment / tape.unit, out=z_e.slope
        )
    )
    perceptron(tape, core.decoder, z, x_hat, passes.noise.get("decoder"))
    _write_loss(tape, loss, weight, passes.x, x_hat)


def _quantize(core: Any, x: Tensor, z_e: Tensor, z: Tensor) -> None:
    """Write the codes' vectors to z, and let the quantizer see the assignments."""
    codes = core.quantizer.nearest(z_e)
    z.copy_(core.quantizer.lookup(codes))
    core.observe(x, VQVAEOutput(x, z, z_e, codes))


_FAMILIES: dict[type, Callable[..., None]] = {Autoencoder: _autoencoder, VAE: _vae, VQVAE: _vqvae}


def _encode(passes: Passes, tape: Tape, core: Any, z: Signal) -> None:
    rows = Signal(passes.x_in, passes.x_in[:0])
    perceptron(tape, core.encoder, rows, z, passes.noise.get("encoder"), returns=False)


def _width(net: MLP) -> tuple[int, int]:
    """Return the number of a perceptron's inputs and outputs."""
    if net.linear is not None:
        return net.linear.in_features, net.linear.out_features
    first, last = net.layers[0], net.layers[-1]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    return first.in_features, last.out_features


# -- losses: x_hat's value becomes its slope -------------------------------------------------------


def _write_loss(tape: Tape, loss: Any, weight: float, x: Tensor, x_hat: Signal) -> None:
    if isinstance(loss, OnRawRows):
        x = _raw_rows(tape, loss, x)
        loss = loss.term
    before = len(tape.sums)
    _LOSSES[type(loss)](tape, loss, x, x_hat)
    _weigh(tape, weight, before, x_hat)


def _weigh(tape: Tape, weight: float, before: int, x_hat: Signal) -> None:
    """Give a loss its weight; it is what has been counted from number `before` on."""
    tape.sums[before:] = [(total, weight * factor) for total, factor in tape.sums[before:]]
    tape.loss_per_row *= weight
    if weight != 1:
        tape.call(x_hat.slope.mul_, weight)


def _raw_rows(tape: Tape, term: OnRawRows, x: Tensor) -> Tensor:
    raw = torch.zeros_like(x)
    tape.call(torch.addcmul, term.center.to(x.dtype), x, term.scale.to(x.dtype), out=raw)
    return raw


def _squared_error(tape: Tape, loss: SquaredError, x: Tensor, x_hat: Signal) -> None:
    tape.unit = 2.0
    tape.call(torch.sub, x_hat.value, x, out=x_hat.slope)
    tape.count_product(x_hat.slope, x_hat.slope, 1.0)


def _absolute_error(tape: Tape, loss: AbsoluteError, x: Tensor, x_hat: Signal) -> None:
    tape.call(x_hat.value.sub_, x)
    tape.call(torch.sign, x_hat.value, out=x_hat.slope)
    tape.count_product(x_hat.slope, x_hat.value, 1.0)


def _huber(tape: Tape, loss: Huber, x: Tensor, x_hat: Signal) -> None:
    """Write twice Huber's function: with the residual r cut off to s it is ``s * (2 r - s)``."""
    tape.unit = 2.0
    tape.call(x_hat.value.sub_, x)
    tape.call(torch.clamp, x_hat.value, -loss.delta, loss.delta, out=x_hat.slope)
    tape.count_product(x_hat.slope, x_hat.value, 2.0)
    tape.count_product(x_hat.slope, x_hat.slope, -1.0)


def _bernoulli(tape: Tape, loss: Bernoulli, x: Tensor, x_hat: Signal) -> None:
    """Write the cross-entropy of logits l, ``log(1 + e^l) - x l``."""
    entropies = torch.zeros_like(x)
    tape.call(torch._C._nn.softplus, x_hat.value, out=entropies)
    tape.count(entropies, 1.0)
    tape.count_product(x, x_hat.value, -1.0)
    tape.call(torch.sigmoid, x_hat.value, out=x_hat.slope)
    tape.call(x_hat.slope.sub_, x)


def _poisson(tape: Tape, loss: Poisson, x: Tensor, x_hat: Signal) -> None:
    """Write minus the log-probability; beyond the largest log-rate, rates are tangents."""
    bounded, log_factorials = torch.zeros_like(x), torch.zeros_like(x)
    tape.call(torch.clamp, x_hat.value, max=LARGEST_LOG_RATE, out=bounded)
    tape.call(torch.exp, bounded, out=x_hat.slope)
    tape.call(torch.sub, x_hat.value, bounded, out=bounded)
    tape.call(bounded.add_, 1.0)
    tape.count_product(x_hat.slope, bounded, 1.0)
    tape.count_product(x, x_hat.value, -1.0)
    tape.call(torch.add, x, 1.0, out=log_factorials)
    tape.call(log_factorials.lgamma_)
    tape.count(log_factorials, 1.0)
    tape.call(x_hat.slope.sub_, x)


_LOSSES: dict[type, Callable[..., None]] = {
    AbsoluteError: _absolute_error,
    Bernoulli: _bernoulli,
    Huber: _huber,
    Poisson: _poisson,
    SquaredError: _squared_error,
}


# -- likelihoods with a dispersion -----------------------------------------------------------------


def _write_likelihood(
    tape: Tape, core: VAE, likelihood: Any, weight: float, x: Tensor, x_hat: Signal
) -> None:
    if isinstance(likelihood, OnRawRows):
        _write_loss(tape, likelihood, weight, x, x_hat)
        return
    before = len(tape.sums)
    tape.call(x_hat.value.sub_, x)
    _LIKELIHOODS[type(likelihood)](tape, core, x_hat)
    _weigh(tape, weight, before, x_hat)


def _gaussian(tape: Tape, core: VAE, residual: Signal) -> None:
    _scaled_error(tape, core, residual, residual.value, 0.5, math.log(2 * math.pi))


def _laplace(tape: Tape, core: VAE, residual: Signal) -> None:
    signs = torch.zeros_like(residual.value)
    tape.call(torch.sign, residual.value, out=signs)
    _scaled_error(tape, core, residual, signs, 1.0, math.log(2))


def _scaled_error(
    tape: Tape, core: VAE, residual: Signal, slope: Tensor, factor: float, log_constant: float
) -> None:
    """Write ``factor * (error / dispersion + log(dispersion) + log_constant)``, summed.

    The error is `slope` times the residual, and the mean of it what the dispersion follows.
    """
    dispersion, n_features = core.dispersion, slope.shape[1]
    error, logarithm = torch.zeros_like(dispersion), torch.zeros_like(dispersion)
    total, logarithms = torch.zeros_like(dispersion), torch.zeros_like(dispersion)
    tape.call(torch.div, slope, dispersion, out=residual.slope)
    if dispersion.ndim:
        products = torch.zeros_like(slope)
        tape.call(torch.mul, slope, residual.value, out=products)
        tape.call(torch.mv, products.t(), tape.ones, out=error)
    else:
        tape.call(torch.dot, slope.view(-1), residual.value.view(-1), out=error)
    tape.call(total.addcdiv_, error, dispersion)
    tape.call(torch.log, dispersion, out=logarithm)
    tape.call(logarithms.add_, logarithm)
    share = n_features / dispersion.numel()
    tape.sums += [(total, factor), (logarithms, factor * share * tape.n_rows)]
    tape.loss_per_row = factor * n_features * log_constant
    if core.likelihood.residual(slope, slope) is not None:
        observed, n_rows = core.statistics()
        tape.call(observed.add_, error, alpha=1 / share)
        tape.call(n_rows.add_, tape.n_rows)


_LIKELIHOODS: dict[type, Callable[..., None]] = {
    Bernoulli: _bernoulli,
    Gaussian: _gaussian,
    Laplace: _laplace,
    Poisson: _poisson,
}


# -- codes -----------------------------------------------------------------------------------------


def _logistic(tape: Tape, z: Signal, activation: Any) -> Signal:
    return logistic(tape, z)


def _top_k(tape: Tape, z: Signal, activation: TopK) -> Signal:
    y, kept = Signal(torch.zeros_like(z.value), z.slope), torch.zeros_like(z.value)
    tape.call(lambda: y.value.copy_(activation(z.value)))
    tape.call(torch.ne, y.value, 0.0, out=kept)
    tape.on_return(lambda: tape.call(z.slope.mul_, kept))
    return y


def _unchanged(tape: Tape, z: Signal, activation: Any) -> Signal:
    return z


_CODE_ACTIVATIONS: dict[type, Callable[..., Signal]] = {
    type(None): _unchanged,
    Identity: _unchanged,
    Logistic: _logistic,
    TopK: _top_k,
}


def _l1(tape: Tape, penalty: L1, weight: float, z: Signal) -> None:
    signs = torch.zeros_like(z.value)
    tape.call(torch.sign, z.value, out=signs)
    tape.count_product(signs, z.value, weight)
    tape.call(z.slope.add_, signs, alpha=weight / tape.unit)


def _l2(tape: Tape, penalty: L2, weight: float, z: Signal) -> None:
    tape.count_product(z.value, z.value, weight)
    tape.call(z.slope.add_, z.value, alpha=2 * weight / tape.unit)


def _kl_sparsity(tape: Tape, penalty: KLSparsity, weight: float, z: Signal) -> None:
    """Write the divergence of the codes' means from the target, for each row the same."""
    target, low, high = penalty.target, LEAST_ACTIVATION, 1 - LEAST_ACTIVATION
    mean, on, off, log_on, log_off = (tape.buffer(z.value.shape[1]) for _ in range(5))
    tape.call(torch.mean, z.value, 0, out=mean)
    tape.call(torch.clamp, mean, low, high, out=on)
    tape.call(torch.log, on, out=log_on)
    tape.count(log_on, -target * weight * tape.n_rows)
    tape.call(torch.neg, on, out=off)
    tape.call(torch.log1p, off, out=log_off)
    tape.count(log_off, -(1 - target) * weight * tape.n_rows)
    entropy = target * math.log(target) + (1 - target) * math.log1p(-target)
    tape.loss_per_row += weight * len(mean) * entropy
    # the slope in the mean, (on - target) / (on * (1 - on))
    tape.call(off.add_, 1.0)
    tape.call(off.mul_, on)
    tape.call(on.sub_, target)
    tape.call(on.div_, off)
    tape.call(_aten.hardtanh_backward.grad_input, on, mean, low, high, grad_input=on)
    tape.call(z.slope.add_, on, alpha=weight / tape.unit)


_PENALTIES: dict[type, Callable[..., None]] = {L1: _l1, L2: _l2, KLSparsity: _kl_sparsity}
