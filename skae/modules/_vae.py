"""The variational autoencoder network: x -> q(z|x) -> z -> x_hat, and its dispersion."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

from ._core import Core, Noise

LOG_INFORMATION_RANGE = (-100.0, 100.0)


class VAEOutput(NamedTuple):
    """What `VAE.forward` returns: of each row n_draws codes, draw by draw."""

    x_hat: Tensor  # (n_draws * batch, n_features), what the decoder returned
    z: Tensor  # (n_draws * batch, n_components), draws from the posterior
    mean: Tensor  # (batch, n_components), of the posterior
    log_variance: Tensor  # (batch, n_components), of the posterior
    dispersion: Tensor  # () or (n_features,), of the likelihood
    draws: Tensor  # (n_draws, batch, n_components), standardised

    def log_weights(self, log_likelihood: Tensor) -> Tensor:
        """Return log p(x, z) / q(z|x) of each draw, shape (n_draws, batch).

        `log_likelihood` is log p(x|z), shape (n_draws * batch,).
        """
        log_p_z = -0.5 * self.z.view(self.draws.shape).square().sum(2)
        log_q_z = -0.5 * (self.draws.square() + self.log_variance).sum(2)
        return log_likelihood.view(self.draws.shape[:2]) + log_p_z - log_q_z


class VAE(Core):
    r"""Variational autoencoder with a diagonal Gaussian posterior.

    The posterior is :math:`q(z|x) = N(\mu(x), diag(\sigma^2(x)))` [1]_. The encoder states how much
    a row tells about each code, as :math:`h(x)`, and the posterior's precision adds this to the
    prior's: :math:`\sigma^{-2}(x) = 1 + e^{h(x)} / s^2`, with the likelihood's noise variance
    :math:`s^2`: the harmonic mean if it differs by feature, and 1 if there is none. In a linear
    model with Gaussian noise :math:`h` is a constant, the squared length of the decoder's column
    [2]_, so that posteriors stay right while the noise changes.

    What the likelihood learns beside the network, its dispersion, follows the mean of its residual
    as an exponential moving average over batches, or gradients.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps (batch, n_features) to (batch, 2 * n_components): mean and log-information :math:`h`.
    decoder : torch.nn.Module
        Maps (batch, n_components) to (batch, n_features).
    likelihood : skae.objectives.Likelihood
        How rows are distributed around what the decoder returns.
    n_components : int
        Number of latent dimensions.
    n_dispersions : int or None, default=None
        Number of features with a dispersion of their own; None is for one of all.
    n_draws : int, default=1
        Number of codes drawn for each row.
    decay : float, default=0.95
        Decay of the moving average, per batch.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, equation 9.
    .. [2] Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999: the posterior's
       covariance :math:`s^2 (W'W + s^2 I)^{-1}`.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP, VAE
    >>> from skae.objectives import Gaussian
    >>> core = VAE(MLP(4, 2 * 2, [8]), MLP(2, 4, [8]), Gaussian(), n_components=2)
    >>> core.encode(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    least_dispersion: Tensor
    loose_dispersion: Tensor
    _dispersion: Tensor
    _residual: Tensor
    _n_rows: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Any,
        n_components: int,
        n_dispersions: int | None = None,
        n_draws: int = 1,
        decay: float = 0.95,
    ) -> None:
        super().__init__(encoder, decoder)
        self.likelihood, self.n_components, self.n_draws = likelihood, n_components, n_draws
        self.decay = decay
        shape = () if n_dispersions is None else (n_dispersions,)
        zero = torch.zeros(shape, device="cpu", dtype=torch.float32)
        row = torch.zeros((1, n_dispersions or 1), device="cpu", dtype=torch.float32)
        learned = not (likelihood.raw_target or likelihood.learned_by_gradient)
        self.follows_residual = learned and likelihood.residual(row, row) is not None
        self.log_dispersion = None
        if likelihood.learned_by_gradient and likelihood.fixed_dispersion(1.0) is None:
            self.log_dispersion = nn.Parameter(zero)
        else:
            self.register_buffer("_dispersion", zero + 1)
            self.register_buffer("least_dispersion", zero + 0)
            self.register_buffer("loose_dispersion", zero + 0)
        self.register_buffer("_residual", zero + 0, persistent=False)
        self.register_buffer("_n_rows", zero.sum(), persistent=False)

    @property
    def dispersion(self) -> Tensor:
        """What the likelihood learns beside the network, shape () or (n_features,)."""
        return self._dispersion if self.log_dispersion is None else self.log_dispersion.exp()

    @torch.no_grad()
    def start_dispersion(self, start: Any, least: Any = 0.0, loose: Any = 0.0) -> None:
        """Set the dispersion.

        Parameters
        ----------
        start : float or ndarray of shape () or (n_features,)
            The dispersion.
        least : float or ndarray, default=0.0
            Its lower bound, which keeps likelihoods finite.
        loose : float or ndarray, default=0.0
            Its lower bound when training begins: from a likelihood that is very narrow, small
            steps in the weights lead nowhere.
        """
        start, least, loose = (
            torch.as_tensor(each, device="cpu", dtype=torch.float32).expand(self.dispersion.shape)
            for each in (start, least, loose)
        )
        if self.log_dispersion is not None:
            self.log_dispersion.copy_(start.log())
            return
        self._dispersion.copy_(torch.maximum(start, least))
        self.least_dispersion.copy_(least)
        self.loose_dispersion.copy_(loose)

    @torch.no_grad()
    def begin_training(self) -> None:
        """Widen a likelihood that starts very narrow, the first time."""
        if self.log_dispersion is None:
            self._dispersion.clamp_(min=self.loose_dispersion)
            self.loose_dispersion.zero_()

    def log_noise(self, dispersion: Tensor | None = None) -> Tensor | float:
        """Return the logarithm of the noise variances' harmonic mean; 0 if there are none.

        `dispersion` is that of now, unless it is given.
        """
        if dispersion is None:
            dispersion = self.dispersion
        variance = self.likelihood.variance_at(dispersion)
        if variance is None:
            return 0.0
        return variance.log() if variance.ndim == 0 else -(1 / variance).mean().log()

    def _bind_log_noise(self) -> Callable[[], Tensor | float]:
        """Return what returns `log_noise` in training."""
        if self.follows_residual:
            return partial(self.log_noise, self.dispersion)
        fixed = self.log_noise()
        return lambda: fixed

    def posterior(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the posterior, each (batch, n_components)."""
        encoding = self.encoder(x, *self._masks(noise, "encoder"))
        mean, log_information = encoding.tensor_split(2, dim=1)
        log_information = log_information.clamp(*LOG_INFORMATION_RANGE)
        return mean, -softplus(log_information - self.log_noise())

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior mean, shape (batch, n_components)."""
        return self.encoder(x).tensor_split(2, dim=1)[0]

    def draw_noise(
        self, n_rows: int, generator: Generator, dropout: float = 0.0
    ) -> dict[str, Tensor]:
        """Draw dropout masks and, as "posterior", normals (n_rows, n_draws, n_components)."""
        shape = (n_rows, self.n_draws, self.n_components)
        normal = torch.randn(shape, generator=generator, device="cpu", dtype=torch.float32)
        return {**super().draw_noise(n_rows, generator, dropout), "posterior": normal}

    def compose(self, steps: Any) -> bool:
        r"""Write encoder, posterior, draw, decoder, and what the dispersion follows.

        With the encoder's :math:`h` and :math:`u = h - \log s^2`, the log-variance is
        :math:`v = -\log(1 + e^u)`, whose derivative in :math:`u` is :math:`\sigma^2 - 1`.
        """
        if self.n_draws > 1:
            return False
        encoding = steps.network(self.encoder, steps.rows, "encoder")
        k, draws = self.n_components, steps.noise["posterior"].squeeze(1)
        mean, information = encoding.value.split(k, 1)
        mean_gradient, gradient = encoding.gradient.split(k, 1)
        z, (low, high) = steps.signal(k, mean_gradient), LOG_INFORMATION_RANGE
        shifted, log_variance, std, gap, inside, zero = (
            torch.zeros_like(z.value) for _ in range(6)
        )
        half = std.new_tensor(0.5)  # a tensor is a faster factor than a float
        log_noise = self._bind_log_noise()

        def draw() -> None:
            torch.clamp(information, low, high, out=shifted)
            torch.eq(shifted, information, out=inside)
            shifted.sub_(log_noise())
            torch.neg(softplus(shifted), out=log_variance)
            torch.mul(log_variance, half, out=std)
            std.exp_()
            torch.sigmoid(shifted, out=gap)
            torch.addcmul(mean, std, draws, out=z.value)

        def to_posterior() -> None:
            torch.mul(z.gradient, draws, out=gradient)
            torch.addcmul(zero, gradient, std, value=0.5, out=gradient)

        def to_encoding() -> None:
            torch.addcmul(zero, gradient, gap, value=-1, out=gradient)
            gradient.mul_(inside)

        steps.forward(draw)
        steps.backward(to_encoding)
        posterior = {"mean": (mean, mean_gradient), "log_variance": (log_variance, gradient)}
        if not steps.terms(**posterior):
            return False
        steps.backward(to_posterior)
        x_hat = steps.network(self.decoder, z, "decoder")
        return self._compose_likelihood(steps, x_hat)

    def _compose_likelihood(self, steps: Any, x_hat: Any) -> bool:
        """Write the likelihood, and what its dispersion learns from it."""
        if self.log_dispersion is not None:
            logarithm, slot = self.log_dispersion.detach(), self.log_dispersion.grad
            value, gradient = logarithm.exp(), torch.zeros_like(logarithm)
            if self.likelihood.variance_at(value) is not None:
                return False  # the posterior depends on it too
            steps.forward(lambda: (torch.exp(logarithm, out=value), gradient.zero_()))
            steps.backward(lambda: torch.mul(gradient, value, out=slot))
            return bool(steps.loss(x_hat, dispersion=(value, gradient)))
        dispersion, least, n_rows = self._dispersion, self.least_dispersion, steps.n_rows
        observed, n_observed = self.statistics()
        numbers = x_hat.value.numel() / dispersion.numel()  # in each entry of the residual
        n_summed, share = dispersion.new_tensor(numbers), dispersion.new_tensor(1 - self.decay)
        residual, unused = torch.zeros_like(dispersion), torch.zeros_like(dispersion)
        asked = residual if self.follows_residual else None
        if not steps.loss(x_hat, residual=asked, dispersion=(dispersion, unused)):
            return False

        def update() -> None:
            dispersion.lerp_(residual.div_(n_summed), share)
            dispersion.clamp_(min=least)

        def observe() -> None:
            observed.add_(residual, alpha=n_rows / numbers)
            n_observed.add_(n_rows)

        if self.follows_residual:
            steps.forward(update if steps.updates else observe)
        return True

    def forward(self, x: Tensor, noise: Noise | None = None) -> VAEOutput:
        """Encode, draw ``z = mean + std * noise`` (the mean itself without noise), decode."""
        mean, log_variance = self.posterior(x, noise)
        draws = mean[None] * 0 if noise is None else noise["posterior"].transpose(0, 1)
        z = (mean + (0.5 * log_variance).exp() * draws).flatten(0, 1)
        masks = [mask.repeat(len(draws), 1) for mask in self._masks(noise, "decoder")]
        x_hat = self.decoder(z, *masks)
        return VAEOutput(x_hat, z, mean, log_variance, self.dispersion, draws)

    @torch.no_grad()
    def observe(self, x: Tensor, out: VAEOutput) -> None:
        """Add a slice's residuals to the batch's, draws weighted as in the bound."""
        if not self.follows_residual:
            return
        x = x if len(out.draws) == 1 else x.repeat(len(out.draws), 1)
        residual = self.likelihood.residual(x, out.x_hat)
        if residual.shape != x.shape:
            raise ValueError(
                f"{type(self.likelihood).__name__}.residual must return a tensor of the rows' "
                f"shape {tuple(x.shape)}, but returned shape {tuple(residual.shape)}."
            )
        if len(out.draws) > 1:
            log_likelihood = self.likelihood.log_prob(x, out.x_hat, out.dispersion)
            residual = residual * out.log_weights(log_likelihood).softmax(0).view(-1, 1)
        self._residual += residual.sum(0) if self._residual.ndim else residual.sum() / x.shape[1]
        self._n_rows += out.mean.shape[0]

    def statistics(self) -> list[Tensor]:
        """Return the batch's residuals and the number of rows they are of."""
        return [self._residual, self._n_rows]

    def update(self) -> None:
        """Move the dispersion towards the batch's mean residual, if it is not fixed."""
        if self.follows_residual:
            self._follow(1 - self.decay)

    @property
    def settles(self) -> bool:
        """Whether the dispersion follows from the weights."""
        return self.follows_residual

    def settle(self) -> None:
        """Set the dispersion to the mean residual of the rows that were observed."""
        self._follow(1.0)

    def _follow(self, share: float) -> None:
        """Move the dispersion a share of the way to the observed mean residual."""
        dispersion, residual, n_rows = self._dispersion, self._residual, self._n_rows
        dispersion.lerp_(residual / n_rows, share)
        dispersion.clamp_(min=self.least_dispersion)
        residual.zero_()
        n_rows.zero_()
