"""What an auto-encoder and a VAE share: the nets, the decoder that returns a distribution, and decoding along paths."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.bound import Output
from jensen.config import ModelConfig, NetConfig
from jensen.likelihoods import Likelihood, make_likelihood
from jensen.nn import make_decoder, make_encoder

__all__ = ["Decoder", "EncoderDecoder", "path_between"]


class Decoder(nn.Module):
    """p(x | z): a network and a likelihood. z of shape (..., latent) to a distribution over (..., *shape).

    Args:
        net: (batch, latent) to (batch, likelihood.channels x shape[0], *shape[1:]).
        likelihood: what the network's outputs are parameters of.
        shape: shape of a datum.
    """

    def __init__(self, net: nn.Module, likelihood: Likelihood, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.likelihood = likelihood
        self.shape = shape

    def forward(self, z: Tensor) -> Distribution:
        lead = z.shape[:-1]
        out = self.net(z.reshape(-1, z.shape[-1]))
        if self.likelihood.channels == 1:  # the same as below without its copy in the backward pass
            return self.likelihood(out.view(*lead, *self.shape))
        return self.likelihood(*out.view(*lead, self.likelihood.channels, *self.shape).unbind(len(lead)))


class EncoderDecoder(nn.Module, ABC):
    """Base of `AutoEncoder` and `VAE`: encoder x -> code, decoder code -> distribution over the target.

    Args:
        shape: shape of a datum, (channel, height, width) or (features,).
        latent: dimension of the code.
        net: a `NetConfig`, or its kind (auto, mlp, conv, resnet).
        likelihood: a name (see `jensen.likelihoods.make_likelihood`) or a `Likelihood`.
        target_shape: shape of what is decoded; None: the datum itself.
        levels: grey levels of the data, for discretised likelihoods.
        sigma: standard deviation of a gaussian likelihood.
        encoder: own network (batch, *shape) -> (batch, code_channels x latent) in place of `net`.
        decoder: own network (batch, latent) -> (batch, likelihood.channels x target_shape[0], *target_shape[1:]).

    Raises:
        ConfigError: net or likelihood do not fit the data.
        ValueError: latent is not positive.
    """

    kind: Literal["vae", "autoencoder"]
    code_channels = 1

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int = 16,
        *,
        net: NetConfig | str = "auto",
        likelihood: Likelihood | str = "bernoulli",
        target_shape: tuple[int, ...] | None = None,
        levels: int | None = 256,
        sigma: float = 1.0,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if latent < 1:
            raise ValueError(f"latent should be at least 1, got {latent}")
        self.shape = tuple(shape)
        self.target_shape = self.shape if target_shape is None else tuple(target_shape)
        self.latent = latent
        named = isinstance(likelihood, str)
        net = NetConfig(kind=net) if isinstance(net, str) else net
        self.config = None
        if named and encoder is None and decoder is None:
            self.config = ModelConfig(kind=self.kind, latent=latent, likelihood=likelihood, sigma=sigma, net=net)
        if isinstance(likelihood, str):
            likelihood = make_likelihood(likelihood, levels=levels, sigma=sigma)
        # What is predicted may be no image even where the input is one.
        decoder_net = net if len(self.target_shape) == 3 else net.model_copy(update={"kind": "mlp"})
        outputs = (likelihood.channels * self.target_shape[0], *self.target_shape[1:])
        if encoder is None:
            encoder = make_encoder(net, self.shape, self.code_channels * latent)
        if decoder is None:
            decoder = make_decoder(decoder_net, latent, outputs)
        self.encoder: nn.Module = self._wrap(encoder)
        self.decoder = Decoder(decoder, likelihood, self.target_shape)

    def _wrap(self, net: nn.Module) -> nn.Module:
        return net

    @property
    def likelihood(self) -> Likelihood:
        """p(x | decoder output)."""
        return self.decoder.likelihood

    def compile_nets(self) -> None:
        """Compile the two networks in place (torch.compile); what is around them is cheap."""
        for net in (getattr(self.encoder, "net", self.encoder), self.decoder.net):
            _compile(net)

    @abstractmethod
    def forward(self, x: Tensor, target: Tensor | None = None, samples: int = 1) -> Output:
        """The terms of the bound for a batch.

        Args:
            x: input, (batch, *shape).
            target: what to predict, (batch, *target_shape); None: x.
            samples: draws of z a datum.

        Raises:
            ValueError: x or target have another shape than the model's.
        """

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """The code of each datum, (batch, latent): for a VAE the posterior mean.

        Raises:
            ValueError: x has another shape than the model's.
        """

    @abstractmethod
    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """New data decoded from the prior, (n, *target_shape); TypeError where the model has none."""

    def decode(self, z: Tensor) -> Tensor:
        """Mean of p(x | z), (..., *target_shape), for codes (..., latent).

        Raises:
            ValueError: the codes have another dimension than the model's.
        """
        if z.ndim == 0 or z.shape[-1] != self.latent:
            raise ValueError(f"codes should have {self.latent} numbers each, got shape {tuple(z.shape)}")
        distribution: Distribution = self.decoder(z)
        mean: Tensor = distribution.mean
        return mean

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the code of each datum, (batch, *target_shape)."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def interpolate(
        self, start: Tensor, end: Tensor, steps: int = 9, path: Literal["linear", "spherical"] = "linear"
    ) -> Tensor:
        """Decoded walk between the codes of two data of shape (*shape,): (steps, *target_shape)."""
        codes = self.encode(torch.stack([start, end]))
        return self.decode(path_between(codes[0], codes[1], steps, path))

    def _check_input(self, x: Tensor) -> None:
        if x.shape[1:] != self.shape:
            raise ValueError(f"x should have shape (batch, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")

    def _checked(self, x: Tensor, target: Tensor | None) -> Tensor:
        self._check_input(x)
        target = x if target is None else target
        if target.shape != (x.shape[0], *self.target_shape):
            raise ValueError(f"target should have shape {(x.shape[0], *self.target_shape)}, got {tuple(target.shape)}")
        return target.unsqueeze(0)


def _compile(net: nn.Module) -> None:
    # What nn.Module.compile does, but with a function of ours in between: it skips code of torch.nn, and so would
    # leave a net that is an nn.Sequential as it was, without a word.
    def call(*inputs: Tensor) -> Tensor:
        out: Tensor = net._call_impl(*inputs)
        return out

    net._compiled_call_impl = torch.compile(call)


def path_between(start: Tensor, end: Tensor, steps: int, path: Literal["linear", "spherical"] = "linear") -> Tensor:
    """Points from `start` to `end`, both included: (steps, latent).

    spherical (White 2016, Sampling generative networks) turns the direction at constant angular speed while the length
    goes linearly, so that midpoints keep the length that draws of N(0, I) have; a linear path passes near the centre,
    where in many dimensions the prior has no mass. Where the two are (anti)parallel it is the linear path.

    Raises:
        ValueError: fewer than two steps, or no such path.
    """
    if steps < 2:
        raise ValueError(f"steps should be at least 2, got {steps}")
    if path not in ("linear", "spherical"):
        raise ValueError(f"path should be linear or spherical, got {path!r}")
    t = torch.linspace(0.0, 1.0, steps, dtype=start.dtype, device=start.device)[:, None]
    linear = torch.lerp(start, end, t)
    lengths = torch.stack([start.norm(), end.norm()])
    cosine = (start @ end) / lengths.prod().clamp_min(1e-12)
    angle = torch.acos(cosine.clamp(-1.0, 1.0))
    if path == "linear" or lengths.min() < 1e-6 or angle < 1e-4 or angle > math.pi - 1e-4:
        return linear
    direction = (
        torch.sin((1 - t) * angle) * start / lengths[0] + torch.sin(t * angle) * end / lengths[1]
    ) / angle.sin()
    return direction * torch.lerp(lengths[0], lengths[1], t)
