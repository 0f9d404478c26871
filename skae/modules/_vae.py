"""The variational autoencoder network: x -> q(z|x) -> z -> x_hat, with learned noise variance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

from ._core import Core, Noise

_LOG_INFORMATION_RANGE = (-100.0, 100.0)


class VAEOutput(NamedTuple):
    """What `VAE.forward` returns."""

    x_hat: Tensor  # (batch, n_features), the likelihood's mean
    z: Tensor  # (batch, n_components), a draw from the posterior
    mean: Tensor  # (batch, n_components), of the posterior
    log_variance: Tensor  # (batch, n_components), of the posterior
    noise_variance: Tensor  # scalar, of the likelihood


class VAE(Core):
    r"""Variational autoencoder with a diagonal Gaussian posterior and Gaussian likelihood.

    The posterior is :math:`q(z|x) = N(\mu(x), diag(\sigma^2(x)))` [1]_ and the likelihood
    :math:`p(x|z) = N(\hat x(z), s^2 I)`. Given the networks, the bound is largest at
    :math:`s^2 = E_q ||x - \hat x(z)||^2 / d` [2]_, so the noise variance follows that closed form
    as an exponential moving average over batches instead of a gradient.

    The encoder states how much a row tells about each code, as :math:`h(x)`, and the posterior's
    precision adds this to the prior's: :math:`\sigma^{-2}(x) = 1 + e^{h(x)} / s^2`. In a linear
    model :math:`h` is a constant, the squared length of the decoder's column [3]_,
    so that posteriors stay right while the noise changes.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps (batch, n_features) to (batch, 2 * n_components): mean and log-information :math:`h`.
    decoder : torch.nn.Module
        Maps (batch, n_components) to (batch, n_features).
    n_components : int
        Number of latent dimensions.
    decay : float, default=0.95
        Decay of the moving average of the noise variance, per batch.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, equation 9.
    .. [2] Rybkin, Daniilidis and Levine, "Simple and Effective VAE Training with Calibrated
       Decoders", 2021, equation 8.
    .. [3] Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999: the posterior's
       covariance :math:`s^2 (W'W + s^2 I)^{-1}`.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP, VAE
    >>> core = VAE(MLP(4, 2 * 2, [8]), MLP(2, 4, [8]), n_components=2)
    >>> core.encode(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    noise_variance: Tensor
    least_noise_variance: Tensor
    _squared_error: Tensor
    _n_values: Tensor

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, n_components: int, decay: float = 0.95
    ) -> None:
        super().__init__(encoder, decoder)
        self.n_components = n_components
        self.decay = decay
        one = torch.ones((), device="cpu", dtype=torch.float32)
        self.register_buffer("noise_variance", one)
        self.register_buffer("least_noise_variance", 1e-10 * one)
        self.register_buffer("_squared_error", 0 * one, persistent=False)
        self.register_buffer("_n_values", 0 * one, persistent=False)

    @torch.no_grad()
    def start_noise(self, noise_variance: float, least: float) -> None:
        """Set the noise variance and its lower bound, which keeps likelihoods finite."""
        self.noise_variance.fill_(max(noise_variance, least))
        self.least_noise_variance.fill_(least)

    def posterior(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the posterior, each (batch, n_components)."""
        encoding = self.encoder(x, *self._masks(noise, "encoder"))
        mean, log_information = encoding.tensor_split(2, dim=1)
        log_information = log_information.clamp(*_LOG_INFORMATION_RANGE)
        return mean, -softplus(log_information - self.noise_variance.log())

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior mean, shape (batch, n_components)."""
        return self.posterior(x)[0]

    def draw_noise(
        self, n_rows: int, generator: Generator, dropout: float = 0.0
    ) -> dict[str, Tensor]:
        """Draw dropout masks and, as "posterior", standard normals (n_rows, n_components)."""
        shape = (n_rows, self.n_components)
        normal = torch.randn(shape, generator=generator, device="cpu", dtype=torch.float32)
        return {**super().draw_noise(n_rows, generator, dropout), "posterior": normal}

    def forward(self, x: Tensor, noise: Noise | None = None) -> VAEOutput:
        """Encode, draw ``z = mean + std * noise`` (the mean itself without noise), decode."""
        mean, log_variance = self.posterior(x, noise)
        z = mean if noise is None else mean + (0.5 * log_variance).exp() * noise["posterior"]
        x_hat = self.decoder(z, *self._masks(noise, "decoder"))
        return VAEOutput(x_hat, z, mean, log_variance, self.noise_variance)

    @torch.no_grad()
    def observe(self, x: Tensor, out: VAEOutput) -> None:
        """Add a slice's squared error to the batch's."""
        self._squared_error += (x - out.x_hat).square().sum()
        self._n_values += x.numel()

    @torch.no_grad()
    def update(self) -> None:
        """Move the noise variance towards the batch's mean squared error."""
        self.noise_variance.lerp_(self._squared_error / self._n_values, 1 - self.decay)
        self.noise_variance.clamp_(min=self.least_noise_variance)
        self._squared_error.zero_()
        self._n_values.zero_()
