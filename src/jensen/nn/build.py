"""Encoder and decoder networks from a configuration."""

from __future__ import annotations

import math

from torch import nn

from jensen.config import NetConfig
from jensen.errors import ConfigError
from jensen.nn.conv import ConvDecoder, ConvEncoder
from jensen.nn.mlp import MLP
from jensen.nn.resnet import ResnetDecoder, ResnetEncoder

__all__ = ["make_decoder", "make_encoder", "net_kind"]


def net_kind(config: NetConfig, shape: tuple[int, ...]) -> str:
    """mlp, conv or resnet: what `config.kind` means for data of this shape.

    Raises:
        ConfigError: a convolutional net for data that are no images.
    """
    image = len(shape) == 3
    if config.kind == "auto":
        return "conv" if image and min(shape[1:]) >= 32 else "mlp"
    if config.kind != "mlp" and not image:
        raise ConfigError(
            f"net {config.kind} needs images (channel, height, width), but the data have shape {shape}: use net mlp"
        )
    return config.kind


def make_encoder(config: NetConfig, shape: tuple[int, ...], out_features: int) -> nn.Module:
    """A network from data of `shape`, (batch, *shape), to (batch, out_features).

    Raises:
        ConfigError: the network does not fit the shape.
    """
    kind = net_kind(config, shape)
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), _mlp(config, math.prod(shape), out_features))
    return _checked(ConvEncoder if kind == "conv" else ResnetEncoder, kind, config, shape, out_features)


def make_decoder(config: NetConfig, in_features: int, shape: tuple[int, ...]) -> nn.Module:
    """A network from (batch, in_features) to (batch, *shape).

    Raises:
        ConfigError: the network does not fit the shape.
    """
    kind = net_kind(config, shape)
    if kind == "mlp":
        return nn.Sequential(_mlp(config, in_features, math.prod(shape)), nn.Unflatten(1, shape))
    return _checked(ConvDecoder if kind == "conv" else ResnetDecoder, kind, config, in_features, shape)


def _mlp(config: NetConfig, in_features: int, out_features: int) -> MLP:
    hidden = [config.width or 400] * (1 if config.depth is None else config.depth)
    return MLP(in_features, hidden, out_features, config.activation, config.normalisation)


def _checked(net: type[nn.Module], kind: str, config: NetConfig, first: object, second: object) -> nn.Module:
    depth = config.depth if kind == "conv" else config.depth or 1
    try:
        return net(first, second, config.width or 32, depth, config.activation, config.normalisation)
    except ValueError as error:
        raise ConfigError(f"net {kind}: {error}") from None
