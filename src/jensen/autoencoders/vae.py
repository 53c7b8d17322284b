"""The variational auto-encoder."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from jensen.autoencoders.base import EncoderDecoder
from jensen.bound import Level, Output
from jensen.likelihoods import at_least_float32, soft_clamp

__all__ = ["VAE", "DiagonalGaussian"]

LOG_SIGMA_LIMIT = 7.0


class DiagonalGaussian(nn.Module):
    """q(z | x) = N(mu(x), diag sigma(x)^2), from a network whose output is (mu, log sigma).

    log sigma is softly kept within (-7, 7), so that no input makes sigma 0 or infinite.

    Args:
        net: (batch, *shape) to (batch, 2 x latent).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Normal:
        mean, log_sigma = at_least_float32(self.net(x)).chunk(2, -1)
        return Normal(mean, soft_clamp(log_sigma, LOG_SIGMA_LIMIT).exp(), validate_args=False)


class VAE(EncoderDecoder):
    """p(z) = N(0, I), p(x | z) from the decoder, q(z | x) = N(mu(x), diag sigma(x)^2) from the encoder.

    Kingma & Welling 2014, "Auto-encoding variational Bayes". Arguments: `EncoderDecoder`.
    """

    kind: Literal["vae", "autoencoder"] = "vae"
    code_channels = 2
    prior_mean: Tensor
    prior_scale: Tensor

    def __init__(self, shape: tuple[int, ...], latent: int = 16, **choices: object) -> None:
        super().__init__(shape, latent, **choices)  # type: ignore[arg-type]
        self.register_buffer("prior_mean", torch.zeros(()), persistent=False)
        self.register_buffer("prior_scale", torch.ones(()), persistent=False)

    def _wrap(self, net: nn.Module) -> DiagonalGaussian:
        return DiagonalGaussian(net)

    def prior(self) -> Normal:
        """p(z) of one dimension: N(0, 1), the same for all."""
        return Normal(self.prior_mean, self.prior_scale, validate_args=False)

    def posterior(self, x: Tensor) -> Normal:
        """q(z | x), batch shape (batch, latent); ValueError if x has another shape than the model's."""
        self._check_input(x)
        distribution: Normal = self.encoder(x)
        return distribution

    def forward(self, x: Tensor, target: Tensor | None = None, samples: int = 1) -> Output:
        expected = self._checked(x, target)
        q = self.posterior(x)
        posterior = Normal(q.loc.unsqueeze(0), q.scale.unsqueeze(0), validate_args=False)
        # rsample of `samples` draws, without a leading dimension of size 1 in between.
        z = posterior.rsample() if samples == 1 else q.rsample(torch.Size([samples]))
        return Output(expected, self.decoder(z), (Level(z, posterior, self.prior()),))

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """New data: means of p(x | z) for `n` draws of z from the prior, (n, *target_shape).

        Args:
            n: how many.
            temperature: standard deviation of z; below 1 draws nearer the centre, more typical and less varied.

        Raises:
            ValueError: n or temperature is not positive.
        """
        if n < 1:
            raise ValueError(f"n should be at least 1, got {n}")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature should be positive, got {temperature}")
        z = temperature * torch.randn(n, self.latent, device=self.prior_mean.device, dtype=self.prior_mean.dtype)
        return self.decode(z)

    @torch.no_grad()
    def neighbours(self, x: Tensor, n: int = 1) -> Tensor:
        """New data near each x: decoded z' = mu(x) + sigma(x) eps, (n, batch, *target_shape).

        Raises:
            ValueError: n is not positive, or x has another shape than the model's.
        """
        if n < 1:
            raise ValueError(f"n should be at least 1, got {n}")
        return self.decode(self.posterior(x).rsample(torch.Size([n])))
