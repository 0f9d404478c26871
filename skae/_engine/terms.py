"""Losses, likelihoods, penalties and code activations written out: values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..modules import VAE
from ..objectives import (
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
from ..objectives._counts import LARGEST_LOG_RATE
from ..objectives._objective import OnRawRows
from ..objectives._penalties import LEAST_ACTIVATION
from .layers import logistic
from .program import Program, Signal

_aten = torch.ops.aten


# -- losses: x_hat's value becomes its gradient ----------------------------------------------------


def write_loss(program: Program, loss: Any, weight: float, x: Tensor, x_hat: Signal) -> None:
    """Write a loss of reconstructions, and their gradient."""
    if isinstance(loss, OnRawRows):
        x = _raw_rows(program, loss, x)
        loss = loss.term
    before = len(program.sums)
    LOSSES[type(loss)](program, loss, x, x_hat)
    _weigh(program, weight, before, x_hat)


def _weigh(program: Program, weight: float, before: int, x_hat: Signal) -> None:
    """Give a loss its weight; it is what has been counted from number `before` on."""
    program.sums[before:] = [(total, weight * factor) for total, factor in program.sums[before:]]
    program.loss_per_row *= weight
    if weight != 1:
        program.call(x_hat.gradient.mul_, weight)


def _raw_rows(program: Program, term: OnRawRows, x: Tensor) -> Tensor:
    raw = torch.zeros_like(x)
    program.call(torch.addcmul, term.center.to(x.dtype), x, term.scale.to(x.dtype), out=raw)
    return raw


def _squared_error(program: Program, loss: SquaredError, x: Tensor, x_hat: Signal) -> None:
    program.unit = 2.0
    program.call(torch.sub, x_hat.value, x, out=x_hat.gradient)
    program.count_product(x_hat.gradient, x_hat.gradient, 1.0)


def _absolute_error(program: Program, loss: AbsoluteError, x: Tensor, x_hat: Signal) -> None:
    program.call(x_hat.value.sub_, x)
    program.call(torch.sign, x_hat.value, out=x_hat.gradient)
    program.count_product(x_hat.gradient, x_hat.value, 1.0)


def _huber(program: Program, loss: Huber, x: Tensor, x_hat: Signal) -> None:
    """Write twice Huber's function: with the residual r cut off to s it is ``s * (2 r - s)``."""
    program.unit = 2.0
    program.call(x_hat.value.sub_, x)
    program.call(torch.clamp, x_hat.value, -loss.delta, loss.delta, out=x_hat.gradient)
    program.count_product(x_hat.gradient, x_hat.value, 2.0)
    program.count_product(x_hat.gradient, x_hat.gradient, -1.0)


def _bernoulli(program: Program, loss: Bernoulli, x: Tensor, x_hat: Signal) -> None:
    """Write the cross-entropy of logits l, ``log(1 + e^l) - x l``."""
    entropies = torch.zeros_like(x)
    program.call(torch._C._nn.softplus, x_hat.value, out=entropies)
    program.count(entropies, 1.0)
    program.count_product(x, x_hat.value, -1.0)
    program.call(torch.sigmoid, x_hat.value, out=x_hat.gradient)
    program.call(x_hat.gradient.sub_, x)


def _poisson(program: Program, loss: Poisson, x: Tensor, x_hat: Signal) -> None:
    """Write minus the log-probability; beyond the largest log-rate, rates are tangents."""
    bounded, log_factorials = torch.zeros_like(x), torch.zeros_like(x)
    program.call(torch.clamp, x_hat.value, max=LARGEST_LOG_RATE, out=bounded)
    program.call(torch.exp, bounded, out=x_hat.gradient)
    program.call(torch.sub, x_hat.value, bounded, out=bounded)
    program.call(bounded.add_, 1.0)
    program.count_product(x_hat.gradient, bounded, 1.0)
    program.count_product(x, x_hat.value, -1.0)
    program.call(torch.add, x, 1.0, out=log_factorials)
    program.call(log_factorials.lgamma_)
    program.count(log_factorials, 1.0)
    program.call(x_hat.gradient.sub_, x)


LOSSES: dict[type, Callable[..., None]] = {
    AbsoluteError: _absolute_error,
    Bernoulli: _bernoulli,
    Huber: _huber,
    Poisson: _poisson,
    SquaredError: _squared_error,
}


# -- likelihoods with a dispersion -----------------------------------------------------------------


def write_likelihood(
    program: Program, core: VAE, likelihood: Any, weight: float, x: Tensor, x_hat: Signal
) -> None:
    """Write minus the log-likelihood, its gradient, and what the dispersion follows or becomes."""
    if isinstance(likelihood, OnRawRows):
        write_loss(program, likelihood, weight, x, x_hat)
        return
    before = len(program.sums)
    program.call(x_hat.value.sub_, x)
    LIKELIHOODS[type(likelihood)](program, core, x_hat)
    _weigh(program, weight, before, x_hat)


def write_log_noise(program: Program, core: VAE, log_noise: Tensor) -> None:
    """Write the logarithm of the noise variances' harmonic mean."""
    if type(core.likelihood) is Gaussian and core.dispersion.ndim == 0:
        program.call(torch.log, core.dispersion, out=log_noise)
    elif not core.likelihood.raw_target:
        program.call(lambda: log_noise.fill_(core.log_noise()))


def _gaussian(program: Program, core: VAE, residual: Signal) -> None:
    _scaled_error(program, core, residual, residual.value, 0.5, math.log(2 * math.pi))


def _laplace(program: Program, core: VAE, residual: Signal) -> None:
    signs = torch.zeros_like(residual.value)
    program.call(torch.sign, residual.value, out=signs)
    _scaled_error(program, core, residual, signs, 1.0, math.log(2))


def _scaled_error(
    program: Program,
    core: VAE,
    residual: Signal,
    gradient: Tensor,
    factor: float,
    log_constant: float,
) -> None:
    """Write ``factor * (error / dispersion + log(dispersion) + log_constant)``, summed.

    The error is `gradient` times the residual, and the mean of it what the dispersion follows.
    """
    dispersion, n_features = core.dispersion, gradient.shape[1]
    error, logarithm = torch.zeros_like(dispersion), torch.zeros_like(dispersion)
    total, logarithms = torch.zeros_like(dispersion), torch.zeros_like(dispersion)
    program.call(torch.div, gradient, dispersion, out=residual.gradient)
    if dispersion.ndim:
        products = torch.zeros_like(gradient)
        program.call(torch.mul, gradient, residual.value, out=products)
        program.call(torch.mv, products.t(), program.ones, out=error)
    else:
        program.call(torch.dot, gradient.view(-1), residual.value.view(-1), out=error)
    program.call(total.addcdiv_, error, dispersion)
    program.call(torch.log, dispersion, out=logarithm)
    program.call(logarithms.add_, logarithm)
    share = n_features / dispersion.numel()
    program.sums += [(total, factor), (logarithms, factor * share * program.n_rows)]
    program.loss_per_row = factor * n_features * log_constant
    if core.follows_residual and program.updates:
        program.call(error.mul_, 1 / (share * program.n_rows))
        program.call(dispersion.lerp_, error, 1 - core.decay)
        program.call(dispersion.clamp_, min=core.least_dispersion)
    elif core.follows_residual:
        observed, n_rows = core.statistics()
        program.call(observed.add_, error, alpha=1 / share)
        program.call(n_rows.add_, program.like.new_tensor(program.n_rows))


LIKELIHOODS: dict[type, Callable[..., None]] = {
    Gaussian: _gaussian,
    Laplace: _laplace,
}


# -- codes -----------------------------------------------------------------------------------------


def _logistic(program: Program, z: Signal, activation: Any) -> Signal:
    return logistic(program, z)


def _top_k(program: Program, z: Signal, activation: TopK) -> Signal:
    y, kept = Signal(torch.zeros_like(z.value), z.gradient), torch.zeros_like(z.value)
    program.call(lambda: y.value.copy_(activation(z.value)))
    program.call(torch.ne, y.value, 0.0, out=kept)
    program.on_backward(lambda: program.call(z.gradient.mul_, kept))
    return y


def _unchanged(program: Program, z: Signal, activation: Any) -> Signal:
    return z


CODE_ACTIVATIONS: dict[type, Callable[..., Signal]] = {
    type(None): _unchanged,
    Identity: _unchanged,
    Logistic: _logistic,
    TopK: _top_k,
}


def _l1(program: Program, penalty: L1, weight: float, z: Signal) -> None:
    signs = torch.zeros_like(z.value)
    program.call(torch.sign, z.value, out=signs)
    program.count_product(signs, z.value, weight)
    program.call(z.gradient.add_, signs, alpha=weight / program.unit)


def _l2(program: Program, penalty: L2, weight: float, z: Signal) -> None:
    program.count_product(z.value, z.value, weight)
    program.call(z.gradient.add_, z.value, alpha=2 * weight / program.unit)


def _kl_sparsity(program: Program, penalty: KLSparsity, weight: float, z: Signal) -> None:
    """Write the divergence of the codes' means from the target, for each row the same."""
    target, low, high = penalty.target, LEAST_ACTIVATION, 1 - LEAST_ACTIVATION
    mean, on, off, log_on, log_off = (program.buffer(z.value.shape[1]) for _ in range(5))
    program.call(torch.mean, z.value, 0, out=mean)
    program.call(torch.clamp, mean, low, high, out=on)
    program.call(torch.log, on, out=log_on)
    program.count(log_on, -target * weight * program.n_rows)
    program.call(torch.neg, on, out=off)
    program.call(torch.log1p, off, out=log_off)
    program.count(log_off, -(1 - target) * weight * program.n_rows)
    entropy = target * math.log(target) + (1 - target) * math.log1p(-target)
    program.loss_per_row += weight * len(mean) * entropy
    # the gradient in the mean, (on - target) / (on * (1 - on))
    program.call(off.add_, 1.0)
    program.call(off.mul_, on)
    program.call(on.sub_, target)
    program.call(on.div_, off)
    program.call(_aten.hardtanh_backward.grad_input, on, mean, low, high, grad_input=on)
    program.call(z.gradient.add_, on, alpha=weight / program.unit)


PENALTIES: dict[type, Callable[..., None]] = {L1: _l1, L2: _l2, KLSparsity: _kl_sparsity}
