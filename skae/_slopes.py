"""Losses, likelihoods, penalties and code activations written out: values and slopes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._gradients import Signal, Tape, logistic
from .modules import VAE
from .objectives import (
    L1,
    L2,
    AbsoluteError,
    Bernoulli,
    Gaussian,
    Huber,
    Identity,
    KLSparsity,
    Laplace,
    Logistic,
    Poisson,
    SquaredError,
    TopK,
)
from .objectives._counts import LARGEST_LOG_RATE
from .objectives._objective import OnRawRows
from .objectives._penalties import LEAST_ACTIVATION

_aten = torch.ops.aten


# -- losses: x_hat's value becomes its slope -------------------------------------------------------


def write_loss(tape: Tape, loss: Any, weight: float, x: Tensor, x_hat: Signal) -> None:
    """Write a loss of reconstructions, and their slope."""
    if isinstance(loss, OnRawRows):
        x = _raw_rows(tape, loss, x)
        loss = loss.term
    before = len(tape.sums)
    LOSSES[type(loss)](tape, loss, x, x_hat)
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


LOSSES: dict[type, Callable[..., None]] = {
    AbsoluteError: _absolute_error,
    Bernoulli: _bernoulli,
    Huber: _huber,
    Poisson: _poisson,
    SquaredError: _squared_error,
}


# -- likelihoods with a dispersion -----------------------------------------------------------------


def write_likelihood(
    tape: Tape, core: VAE, likelihood: Any, weight: float, x: Tensor, x_hat: Signal
) -> None:
    """Write minus the log-likelihood, its slope, and what the dispersion follows or becomes."""
    if isinstance(likelihood, OnRawRows):
        write_loss(tape, likelihood, weight, x, x_hat)
        return
    before = len(tape.sums)
    tape.call(x_hat.value.sub_, x)
    LIKELIHOODS[type(likelihood)](tape, core, x_hat)
    _weigh(tape, weight, before, x_hat)


def write_log_noise(tape: Tape, core: VAE, log_noise: Tensor) -> None:
    """Write the logarithm of the noise variances' harmonic mean."""
    if type(core.likelihood) is Gaussian and core.dispersion.ndim == 0:
        tape.call(torch.log, core.dispersion, out=log_noise)
    elif not core.likelihood.raw_target:
        tape.call(lambda: log_noise.fill_(core.log_noise()))


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
    if core.follows_residual and tape.updates:
        tape.call(error.mul_, 1 / (share * tape.n_rows))
        tape.call(dispersion.lerp_, error, 1 - core.decay)
        tape.call(dispersion.clamp_, min=core.least_dispersion)
    elif core.follows_residual:
        observed, n_rows = core.statistics()
        tape.call(observed.add_, error, alpha=1 / share)
        tape.call(n_rows.add_, tape.like.new_tensor(tape.n_rows))


LIKELIHOODS: dict[type, Callable[..., None]] = {
    Gaussian: _gaussian,
    Laplace: _laplace,
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


CODE_ACTIVATIONS: dict[type, Callable[..., Signal]] = {
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


PENALTIES: dict[type, Callable[..., None]] = {L1: _l1, L2: _l2, KLSparsity: _kl_sparsity}
