"""The variational auto-encoder."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from jensen.autoencoders.base import EncoderDecoder
from jensen.autoencoders.condition import checked_mask
from jensen.autoencoders.priors import LearnedPrior, MixturePrior, VampPrior
from jensen.bound import Level, Output
from jensen.chained import FullNormal, NormalMixture
from jensen.config import ModelConfig, ModelKind, NetConfig
from jensen.likelihoods import at_least_float32, soft_clamp
from jensen.nn import make_encoder
from jensen.nn.features import Seen

__all__ = ["VAE", "DiagonalGaussian", "FullGaussian"]

LOG_SIGMA_LIMIT = 7.0
PriorName = Literal["standard", "learned", "mixture", "vampprior"]


class DiagonalGaussian(nn.Module):
    """q(z | x) = N(mu(x), diag sigma(x)^2), from a network whose output is (mu, log sigma).

    log sigma is softly kept within (-7, 7), so that no input makes sigma 0 or infinite.

    Args:
        net: (batch, *shape), and a condition if one is given, to (batch, 2 x latent).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> Normal:
        mean, log_sigma = at_least_float32(self.net(*inputs)).chunk(2, -1)
        return Normal(mean, soft_clamp(log_sigma, LOG_SIGMA_LIMIT).exp(), validate_args=False)


class FullGaussian(nn.Module):
    """q(z | x) = N(mu(x), L(x) L(x)^T), from a network whose output is (mu, log sigma, B below its diagonal by rows).

    L = diag(sigma) (I + B): what is below the diagonal shrinks with sigma as the posterior narrows, and need not learn
    to. log sigma is softly kept within (-7, 7).

    Args:
        net: (batch, *shape), and a condition if one is given, to (batch, latent + latent (latent + 1) / 2).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @staticmethod
    def numbers(latent: int) -> int:
        """That the network gives for a datum."""
        return latent + latent * (latent + 1) // 2

    def forward(self, *inputs: Tensor) -> FullNormal:
        out = at_least_float32(self.net(*inputs))
        latent = (math.isqrt(8 * out.shape[-1] + 9) - 3) // 2
        mean, log_sigma, below = out.split([latent, latent, latent * (latent - 1) // 2], -1)
        sigma = soft_clamp(log_sigma, LOG_SIGMA_LIMIT).exp()
        rows, columns = torch.tril_indices(latent, latent, -1, device=out.device)
        tril = torch.diag_embed(sigma)
        tril[..., rows, columns] = below * sigma[..., rows]
        return FullNormal(mean, tril)


class VAE(EncoderDecoder):
    """p(z) = N(0, I), p(x | z) from the decoder, q(z | x) = N(mu(x), diag sigma(x)^2) from the encoder.

    Kingma & Welling 2014, "Auto-encoding variational Bayes". Arguments: `EncoderDecoder`, `prior`, `components` and
    `posterior`. The prior may also be learned, as a mixture of normals or as `VampPrior`, and the posterior have a full
    covariance: their log densities are chained (see `Chained`), the KL to a mixture is an average over draws.

    With a condition c all is given c: p(x | z, c), q(z | x, c) and, if `prior` is learned, p(z | c) = N(mu(c),
    diag sigma(c)^2) from a network of the condition (Sohn, Lee & Yan 2015, "Learning structured output representation
    using deep conditional generative models"); the standard prior says that z is independent of c.

    Args:
        shape: see `EncoderDecoder`.
        latent: see `EncoderDecoder`.
        prior: standard, learned, mixture or vampprior.
        components: of a mixture (10) or a VampPrior (500).
        posterior: diagonal or full (an own encoder then gives `FullGaussian.numbers(latent)` numbers a datum).
        choices: the other arguments of `EncoderDecoder`.

    Raises:
        ValueError: `prior` is learned and there is no condition, or vampprior and there is one; `components` for
            another prior; and as `EncoderDecoder`.
    """

    kind: ModelKind = "vae"
    code_channels = 2
    prior_mean: Tensor
    prior_scale: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int = 16,
        *,
        prior: PriorName = "standard",
        components: int | None = None,
        posterior: Literal["diagonal", "full"] = "diagonal",
        **choices: object,
    ) -> None:
        full = posterior == "full"
        super().__init__(
            shape,
            latent,
            code_numbers=FullGaussian.numbers(latent) if full else None,
            **choices,  # type: ignore[arg-type]
        )
        _check_family(prior, components, posterior)
        self.encoder = FullGaussian(self.encoder) if full else DiagonalGaussian(self.encoder)
        self.prior_net = self._learned_prior(choices.get("net", "auto")) if prior == "learned" else None
        self.mixture = self._mixture_prior(prior, components)
        if self.config is not None:
            own = {"prior": prior, "components": components, "posterior": posterior}
            self.config = ModelConfig(**{**dict(self.config), **own})
        self.register_buffer("prior_mean", torch.zeros(()), persistent=False)
        self.register_buffer("prior_scale", torch.ones(()), persistent=False)

    def _nets(self) -> list[nn.Module]:
        gaussians = [self.encoder] if self.prior_net is None else [self.encoder, self.prior_net]
        return [self.decoder.net, *(gaussian.get_submodule("net") for gaussian in gaussians)]

    def _learned_prior(self, net: object) -> DiagonalGaussian:
        if self.condition_shape is None:
            raise ValueError("prior learned is p(z | c): give condition_shape")
        config = net if isinstance(net, NetConfig) else NetConfig(kind=net)
        if len(self.condition_shape) != 3:
            config = config.model_copy(update={"kind": "mlp"})
        return DiagonalGaussian(make_encoder(config, self.condition_shape, 2 * self.latent))

    def _mixture_prior(self, prior: str, components: int | None) -> LearnedPrior | None:
        if prior == "mixture":
            return MixturePrior(self.latent, components or 10)
        if prior != "vampprior":
            return None
        if self.condition_shape is not None:
            raise ValueError("prior vampprior is the posterior of learned inputs, which go without a condition")
        net = self.encoder.get_submodule("net")
        shape = (net.features.size,) if isinstance(net, Seen) else self.shape
        return VampPrior(shape, components or 500)

    def _posterior_of_features(self, features: Tensor) -> Normal | FullNormal:
        """q(z | x) from what the encoder's network starts from, which of tables is not x itself."""
        net = self.encoder.get_submodule("net")
        if not isinstance(net, Seen):
            return self._posterior(features, None)
        found: Normal | FullNormal = type(self.encoder)(net.net)(features)
        return found

    def prior(self, condition: Tensor | None = None) -> Normal | NormalMixture:
        """p(z) of one dimension, N(0, 1), the same for all; if learned p(z | c), batch shape (batch, latent); of a
        mixture or VampPrior (latent,).

        Args:
            condition: (batch, *condition_shape), for a learned prior.

        Raises:
            ValueError: a learned prior got no condition or one of another shape, or there is no condition.
        """
        if self.prior_net is None:
            if condition is not None and self.condition_shape is None:
                self._condition(condition)
            return self._prior(None)
        return self._prior(self._condition(condition, None))

    def _prior(self, condition: Tensor | None) -> Normal | NormalMixture:
        """The prior for a condition that was checked."""
        if self.mixture is not None:
            mixture: NormalMixture = self.mixture(self._posterior_of_features)
            return mixture
        if self.prior_net is None or condition is None:
            return Normal(self.prior_mean, self.prior_scale, validate_args=False)
        distribution: Normal = self.prior_net(condition)
        return distribution

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> Normal | FullNormal:
        """q(z | x) or q(z | x, c), batch shape (batch, latent); ValueError if x or the condition do not fit."""
        self._check_input(x)
        return self._posterior(x, self._condition(condition, len(x)))

    def _posterior(self, x: Tensor, condition: Tensor | None) -> Normal | FullNormal:
        distribution: Normal | FullNormal = self.encoder(x) if condition is None else self.encoder(x, condition)
        return distribution

    def forward(
        self,
        x: Tensor,
        target: Tensor | None = None,
        samples: int = 1,
        *,
        condition: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        expected = self._checked(x, target)
        observed = checked_mask(mask, len(x), self.target_shape)
        condition = self._condition(condition, len(x))
        level = self._level(x, condition, samples)
        return Output(expected, self.decoder(level.z, condition), (level,), mask=observed)

    def levels(self, x: Tensor, condition: Tensor | None = None) -> tuple[tuple[Level, ...], Tensor | None]:
        if type(self).forward is not VAE.forward:  # a model of its own: what its levels are, it says there
            return super().levels(x, condition)
        self._check_input(x)
        return (self._level(x, self._condition(condition, len(x)), 1),), None

    def _level(self, x: Tensor, condition: Tensor | None, samples: int) -> Level:
        if self.mixture is not None and self.training:
            net = self.encoder.get_submodule("net")
            self.mixture.begin(net.features(x) if isinstance(net, Seen) else x)
        q = self._posterior(x, condition)
        posterior: Normal | FullNormal
        if isinstance(q, FullNormal):
            posterior = q.unsqueeze()
        else:
            posterior = Normal(q.loc.unsqueeze(0), q.scale.unsqueeze(0), validate_args=False)
        # rsample of `samples` draws, without a leading dimension of size 1 in between.
        z = posterior.rsample() if samples == 1 else q.rsample(torch.Size([samples]))
        prior = self._prior(condition)
        if self.prior_net is not None and isinstance(prior, Normal):
            prior = Normal(prior.loc.unsqueeze(0), prior.scale.unsqueeze(0), validate_args=False)
        return Level(z, posterior, prior)

    def encode(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.posterior(x, condition).mean

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, condition: Tensor | None = None) -> Tensor:
        """New data: means of p(x | z) for `n` draws of z from the prior, (n, *target_shape).

        Args:
            n: how many.
            temperature: scales the prior's standard deviation (of a mixture that of its components); below 1 draws
                nearer its centre, more typical and less varied.
            condition: of each, (n, *condition_shape), or one for all, (*condition_shape,); class labels may be int64,
                (n,), or one for all, ().

        Raises:
            TypeError: the condition is no tensor.
            ValueError: n or temperature is not positive, or the condition does not fit.
        """
        if n < 1:
            raise ValueError(f"n should be at least 1, got {n}")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature should be positive, got {temperature}")
        condition = self._condition(condition, n, exact=False)
        each = condition if condition is None or condition.ndim > len(self.condition_shape or ()) else condition[None]
        prior = self._prior(each)
        if isinstance(prior, NormalMixture):
            return self.decode(prior.sample((n,), temperature), condition)
        noise = torch.randn(n, self.latent, device=self.prior_mean.device, dtype=self.prior_mean.dtype)
        return self.decode(prior.loc + prior.scale * (temperature * noise), condition)

    @torch.no_grad()
    def neighbours(self, x: Tensor, n: int = 1, condition: Tensor | None = None) -> Tensor:
        """New data near each x: decoded z' = mu(x) + sigma(x) eps, (n, batch, *target_shape).

        Args:
            x: data, (batch, *shape).
            n: how many of each.
            condition: of each x, (batch, *condition_shape).

        Raises:
            ValueError: n is not positive, or x or condition have another shape than the model's.
        """
        if n < 1:
            raise ValueError(f"n should be at least 1, got {n}")
        return self.decode(self.posterior(x, condition).rsample(torch.Size([n])), condition)


def _check_family(prior: str, components: int | None, posterior: str) -> None:
    if prior not in get_args(PriorName):
        raise ValueError(f"prior should be {', '.join(get_args(PriorName))}, got {prior!r}")
    if components is not None and (prior not in ("mixture", "vampprior") or components < 1):
        raise ValueError(f"components is a number from 1 on for prior mixture or vampprior; got {components}, {prior}")
    if posterior not in ("diagonal", "full"):
        raise ValueError(f"posterior should be diagonal or full, got {posterior!r}")
