"""What an auto-encoder and a VAE share: the nets, what is checked, and what is decoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import chain
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.autoencoders.condition import checked_condition, checked_shape, one_hot, require_tensor
from jensen.autoencoders.decoder import Decoder
from jensen.autoencoders.path import path_between
from jensen.bound import Level, Output
from jensen.config import ModelConfig, ModelKind, NetConfig
from jensen.likelihoods import Likelihood, make_likelihood
from jensen.nn import Conditioning, make_decoder, make_encoder

__all__ = ["Decoder", "EncoderDecoder", "compile_net", "path_between"]


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
            With a condition, own networks are called with two arguments, net(x, condition) and net(z, condition),
            condition (batch, *condition_shape).
        condition_shape: shape of what the model is told beside x, of its encoder and its decoder: (classes,) for a
            one-hot label, (attributes,), or (channel, height, width) for an image; None: nothing.
        conditioning: how a condition enters `net`: concat, embedding or film (see `jensen.nn.make_encoder`).

    Wherever a method takes a condition, int64 class labels may stand in for one-hot vectors. A condition that is
    missing, of another shape, NaN, or a label that is no class is a ValueError, one that is no tensor a TypeError.

    Raises:
        ConfigError: net, likelihood or condition do not fit the data.
        TypeError: condition_shape is no tuple, e.g. 10 in place of (10,).
        ValueError: latent is not positive, condition_shape has not one or three numbers (own networks take any), or
            `conditioning` was chosen where there is no condition or no `net` to take it.
    """

    kind: ModelKind
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
        condition_shape: tuple[int, ...] | None = None,
        conditioning: Conditioning = "concat",
    ) -> None:
        super().__init__()
        if latent < 1:
            raise ValueError(f"latent should be at least 1, got {latent}")
        _check_conditioning(conditioning, condition_shape, own=encoder is not None and decoder is not None)
        self.shape = tuple(shape)
        self.target_shape = self.shape if target_shape is None else tuple(target_shape)
        self.condition_shape = checked_shape(condition_shape, own=encoder is not None and decoder is not None)
        self.latent = latent
        named = isinstance(likelihood, str)
        net = NetConfig(kind=net) if isinstance(net, str) else net
        self.config: ModelConfig | None = None
        if named and encoder is None and decoder is None:
            choices = {"likelihood": likelihood, "sigma": sigma, "conditioning": conditioning, "net": net}
            self.config = ModelConfig(kind=self.kind, latent=latent, **choices)
        if isinstance(likelihood, str):
            likelihood = make_likelihood(likelihood, levels=levels, sigma=sigma)
        # What is predicted may be no image even where the input is one.
        decoder_net = net if len(self.target_shape) == 3 else net.model_copy(update={"kind": "mlp"})
        outputs = (likelihood.channels * self.target_shape[0], *self.target_shape[1:])
        if encoder is None:
            features = self.code_channels * latent
            encoder = make_encoder(net, self.shape, features, self.condition_shape, conditioning)
        if decoder is None:
            decoder = make_decoder(decoder_net, latent, outputs, self.condition_shape, conditioning)
        self.encoder: nn.Module = self._wrap(encoder)
        self.decoder = Decoder(decoder, likelihood, self.target_shape, self.condition_shape)

    def _wrap(self, net: nn.Module) -> nn.Module:
        return net

    @property
    def likelihood(self) -> Likelihood:
        """p(x | decoder output)."""
        return self.decoder.likelihood

    def compile_nets(self) -> None:
        """Compile the networks in place (torch.compile); what is around them is cheap."""
        for net in self._nets():
            compile_net(net)

    def _nets(self) -> list[nn.Module]:
        return [self.encoder, self.decoder.net]

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        target: Tensor | None = None,
        samples: int = 1,
        *,
        condition: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        """The terms of the bound for a batch.

        Args:
            x: input, (batch, *shape).
            target: what to predict, (batch, *target_shape); None: x.
            samples: draws of z a datum.
            condition: what is known beside x, (batch, *condition_shape), for a model that has one.
            mask: 1 where the target is to be scored and 0 where not, (1 or batch, *target_shape); None: everywhere.

        Raises:
            ValueError: x, target, condition or mask have another shape than the model's.
        """

    def report(
        self, output: Output, label: Tensor | None = None, condition: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        """Named finite scalars to log beside the terms of the loss, which they do not enter; by default none.

        They are means over the batch, on its device.

        Args:
            output: of this model for a batch.
            label: the true class of each datum, (batch,) int64, whether the model was told it or not; None: no classes.
            condition: what the model was told, (batch, *condition_shape).
        """
        return {}

    def levels(self, x: Tensor, condition: Tensor | None = None) -> tuple[tuple[Level, ...], Tensor | None]:
        """`levels` and `log_weights` of the `Output` of one draw a datum; not decoded, where the model knows how.

        Raises:
            ValueError: x or the condition do not fit.
        """
        output = self(x, x.new_zeros(len(x), *self.target_shape), condition=condition)
        return output.levels, output.log_weights

    @abstractmethod
    def encode(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The code of each datum, (batch, latent): for a VAE the posterior mean.

        Args:
            x: data, (batch, *shape).
            condition: of each, (batch, *condition_shape), for a model that has one.

        Raises:
            ValueError: x or condition have another shape than the model's.
        """

    @abstractmethod
    def sample(self, n: int, temperature: float = 1.0, condition: Tensor | None = None) -> Tensor:
        """New data decoded from the prior, (n, *target_shape); TypeError where the model has none."""

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Mean of p(x | z) or p(x | z, c), (..., *target_shape).

        Args:
            z: codes, (..., latent).
            condition: (*lead, *condition_shape), lead broadcastable to the leading dimensions of z, e.g. one for each
                column of z (samples, batch, latent), or one for all.

        Raises:
            ValueError: the codes have another dimension than the model's, or the condition does not fit.
        """
        if z.ndim == 0 or z.shape[-1] != self.latent:
            raise ValueError(f"codes should have {self.latent} numbers each, got shape {tuple(z.shape)}")
        distribution: Distribution = self.decoder(z, self._condition(condition, *z.shape[:-1], exact=False))
        mean: Tensor = distribution.mean
        return mean

    @torch.no_grad()
    def reconstruct(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Decode the code of each datum, (batch, *target_shape), under its condition, (batch, *condition_shape)."""
        return self.decode(self.encode(x, condition), condition)

    @torch.no_grad()
    def interpolate(
        self,
        start: Tensor,
        end: Tensor,
        steps: int = 9,
        path: Literal["linear", "spherical"] = "linear",
        condition: Tensor | None = None,
    ) -> Tensor:
        """Decoded walk between the codes of two data of shape (*shape,): (steps, *target_shape).

        The same condition, (*condition_shape,), holds for both ends and all between.
        """
        ends = torch.stack([start, end])
        condition = self._condition(condition)
        codes = self.encode(ends, None if condition is None else condition.expand(2, *condition.shape))
        return self.decode(path_between(codes[0], codes[1], steps, path), condition)

    def _condition(self, condition: Tensor | None, *lead: int | None, exact: bool = True) -> Tensor | None:
        """The condition, checked, of what has these leading dimensions; labels as one-hot vectors."""
        shape = self.condition_shape
        require_tensor(condition, shape, lead, exact=exact)
        if condition is not None and not condition.is_floating_point() and shape is not None and len(shape) == 1:
            numbers = (t.dtype for t in chain(self.parameters(), self.buffers()) if t.is_floating_point())
            condition = one_hot(condition, shape[0], next(numbers, torch.get_default_dtype()))
        return checked_condition(condition, shape, lead, exact=exact)

    def _check_input(self, x: Tensor) -> None:
        if x.shape[1:] != self.shape:
            raise ValueError(f"x should have shape (batch, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")

    def _checked(self, x: Tensor, target: Tensor | None) -> Tensor:
        self._check_input(x)
        target = x if target is None else target
        if target.shape != (x.shape[0], *self.target_shape):
            raise ValueError(f"target should have shape {(x.shape[0], *self.target_shape)}, got {tuple(target.shape)}")
        return target.unsqueeze(0)


def _check_conditioning(conditioning: str, condition_shape: tuple[int, ...] | None, own: bool) -> None:
    if conditioning not in get_args(Conditioning):
        ways = ", ".join(get_args(Conditioning))
        raise ValueError(f"conditioning should be one of {ways}, got {conditioning!r}")
    if conditioning != "concat" and condition_shape is None:
        raise ValueError(f"conditioning {conditioning} needs a condition: give condition_shape")
    if conditioning != "concat" and own:
        raise ValueError(f"conditioning {conditioning} is for `net`: own networks take the condition as they like")


def compile_net(net: nn.Module) -> None:
    """Compile a network in place (torch.compile): its parameters and their names stay as they are."""

    # What nn.Module.compile does, but with a function of ours in between: it skips code of torch.nn, and so would
    # leave a net that is an nn.Sequential as it was, without a word.
    def call(*inputs: Tensor) -> Tensor:
        out: Tensor = net._call_impl(*inputs)
        return out

    checks = Distribution._validate_args
    net._compiled_call_impl = torch.compile(call)
    Distribution.set_default_validate_args(checks)  # the compiler switches the checks off for the whole process
