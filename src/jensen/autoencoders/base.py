"""What an auto-encoder and a VAE share: the nets, what is checked, and what is decoded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.autoencoders.condition import checked_shape
from jensen.autoencoders.decoder import Decoder
from jensen.autoencoders.model import NeuralModel, compile_net
from jensen.autoencoders.path import path_between
from jensen.config import AutoregressiveConfig, ModelConfig, NetConfig
from jensen.config.columns import Column
from jensen.likelihoods import CategoricalOnLevels, Likelihood, make_likelihood
from jensen.nn import Conditioning, make_decoder, make_encoder
from jensen.nn.features import Seen

__all__ = ["Decoder", "EncoderDecoder", "check_conditioning", "compile_net", "path_between"]


class EncoderDecoder(NeuralModel):
    """Base of `AutoEncoder` and `VAE`: encoder x -> code, decoder code -> distribution over the target.

    Args:
        shape: shape of a datum, (channel, height, width) or (features,).
        latent: dimension of the code.
        net: a `NetConfig`, or its kind (auto, mlp, conv, resnet).
        likelihood: a name (see `jensen.likelihoods.make_likelihood`) or a `Likelihood`.
        target_shape: shape of what is decoded; None: the datum itself.
        levels: grey levels of the data, for discretised likelihoods.
        sigma: standard deviation of a gaussian likelihood.
        autoregressive: the network of likelihood autoregressive (with which a VAE is a PixelVAE); None: the default.
        encoder: own network (batch, *shape) -> (batch, code_channels x latent) in place of `net`.
        decoder: own network (batch, latent) -> (batch, likelihood.planes(target_shape), *target_shape[1:]).
            With a condition, own networks are called with two arguments, net(x, condition) and net(z, condition),
            condition (batch, *condition_shape).
        condition_shape: shape of what the model is told beside x, of its encoder and its decoder: (classes,) for a
            one-hot label, (attributes,), or (channel, height, width) for an image; None: nothing.
        conditioning: how a condition enters `net`: concat, embedding or film (see `jensen.nn.make_encoder`).
        symbols: whether values are symbols, whose order means nothing: with likelihood categorical the most probable
            ones are decoded, not their mean.
        columns: what each column of a table holds, for likelihood table.
        code_numbers: that the encoder gives for a datum; None: code_channels x latent.

    Wherever a method takes a condition, int64 class labels may stand in for one-hot vectors. A condition that is
    missing, of another shape, NaN, or a label that is no class is a ValueError, one that is no tensor a TypeError.

    Raises:
        ConfigError: net, likelihood or condition do not fit the data.
        TypeError: condition_shape is no tuple, e.g. 10 in place of (10,).
        ValueError: latent is not positive, condition_shape has not one or three numbers (own networks take any), or
            `conditioning` was chosen where there is no condition or no `net` to take it, or `autoregressive` where the
            likelihood is another.
    """

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
        autoregressive: AutoregressiveConfig | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        condition_shape: tuple[int, ...] | None = None,
        conditioning: Conditioning = "concat",
        symbols: bool = False,
        columns: Sequence[Column] = (),
        code_numbers: int | None = None,
    ) -> None:
        super().__init__()
        if latent < 1:
            raise ValueError(f"latent should be at least 1, got {latent}")
        check_conditioning(conditioning, condition_shape, own=encoder is not None and decoder is not None)
        self.shape = tuple(shape)
        self.target_shape = self.shape if target_shape is None else tuple(target_shape)
        self.condition_shape = checked_shape(condition_shape, own=encoder is not None and decoder is not None)
        self.latent, self.symbols = latent, symbols
        if autoregressive is not None and likelihood != "autoregressive":
            raise ValueError("autoregressive is the network of likelihood autoregressive: choose that, by its name")
        named = isinstance(likelihood, str)
        net = NetConfig(kind=net) if isinstance(net, str) else net
        if named and encoder is None and decoder is None:
            own = {} if autoregressive is None else {"autoregressive": autoregressive}
            choices = {"likelihood": likelihood, "sigma": sigma, "conditioning": conditioning, "net": net, **own}
            self.config = ModelConfig(kind=self.kind, latent=latent, **choices)
        if isinstance(likelihood, str):
            likelihood = make_likelihood(
                likelihood,
                levels=levels,
                sigma=sigma,
                shape=self.target_shape,
                autoregressive=autoregressive,
                columns=columns,
            )
        # What is predicted may be no image even where the input is one.
        decoder_net = net if len(self.target_shape) == 3 else net.model_copy(update={"kind": "mlp"})
        outputs = (likelihood.planes(self.target_shape), *self.target_shape[1:])
        if encoder is None:
            seen = likelihood.features() if self.target_shape == self.shape else None
            shape = self.shape if seen is None else (seen.size,)
            numbers = self.code_channels * latent if code_numbers is None else code_numbers
            encoder = make_encoder(net, shape, numbers, self.condition_shape, conditioning)
            encoder = encoder if seen is None else Seen(seen, encoder)
        if decoder is None:
            decoder = make_decoder(decoder_net, latent, outputs, self.condition_shape, conditioning)
        self.encoder: nn.Module = encoder
        self.decoder = Decoder(decoder, likelihood, self.target_shape, self.condition_shape)

    @property
    def likelihood(self) -> Likelihood:
        """p(x | decoder output)."""
        return self.decoder.likelihood

    def _nets(self) -> list[nn.Module]:
        return [self.encoder, self.decoder.net]

    def compile_nets(self) -> None:
        super().compile_nets()
        for net in self.likelihood.children():
            compile_net(net)

    @abstractmethod
    def encode(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The code of each datum, (batch, latent): for a VAE the posterior mean.

        Args:
            x: data, (batch, *shape).
            condition: of each, (batch, *condition_shape), for a model that has one.

        Raises:
            ValueError: x or condition have another shape than the model's.
        """

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Mean of p(x | z) or p(x | z, c), (..., *target_shape); of symbols the most probable ones.

        A draw, without gradient, where there is no mean.

        The likelihood autoregressive has none: what is decoded, reconstructed or sampled is then a draw of each value
        given those before it, from torch's global generator, and no two are alike.

        Args:
            z: codes, (..., latent).
            condition: (*lead, *condition_shape), lead broadcastable to the leading dimensions of z, e.g. one for each
                column of z (samples, batch, latent), or one for all.

        Raises:
            ValueError: the codes have another dimension than the model's, or the condition does not fit.
        """
        if z.ndim == 0 or z.shape[-1] != self.latent:
            raise ValueError(f"codes should have {self.latent} numbers each, got shape {tuple(z.shape)}")
        return self._shown(self.decoder(z, self._condition(condition, *z.shape[:-1], exact=False)))

    def _shown(self, distribution: Distribution) -> Tensor:
        """What stands for p(x | z): its mean, of symbols the most probable ones, and a draw where there is no mean."""
        if not getattr(distribution, "has_mean", True):
            return distribution.sample()
        likeliest = self.symbols and isinstance(distribution, CategoricalOnLevels)
        shown: Tensor = distribution.mode if likeliest else distribution.mean
        return shown

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


def check_conditioning(conditioning: str, condition_shape: tuple[int, ...] | None, own: bool) -> None:
    """Raise `ValueError` unless there is such a way, and a condition for it to tell to networks not one's `own`."""
    if conditioning not in get_args(Conditioning):
        ways = ", ".join(get_args(Conditioning))
        raise ValueError(f"conditioning should be one of {ways}, got {conditioning!r}")
    if conditioning != "concat" and condition_shape is None:
        raise ValueError(f"conditioning {conditioning} needs a condition: give condition_shape")
    if conditioning != "concat" and own:
        raise ValueError(f"conditioning {conditioning} is for `net`: own networks take the condition as they like")
