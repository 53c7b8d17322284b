"""Encoder and decoder networks from a configuration, with or without a condition."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

from jensen.config import NetConfig
from jensen.errors import ConfigError
from jensen.nn.condition import Beside, Layers, Through
from jensen.nn.conv import ConvDecoder, ConvEncoder
from jensen.nn.mlp import MLP
from jensen.nn.resnet import ResnetDecoder, ResnetEncoder

__all__ = ["Conditioning", "condition_embedding", "make_decoder", "make_encoder", "net_kind"]

Conditioning = Literal["concat", "embedding", "film"]

VECTOR_EMBEDDING = 16
IMAGE_EMBEDDING = 64


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


def make_encoder(
    config: NetConfig,
    shape: tuple[int, ...],
    out_features: int,
    condition_shape: tuple[int, ...] | None = None,
    conditioning: Conditioning = "concat",
) -> nn.Module:
    """A network from data of `shape`, (batch, *shape), and perhaps a condition, to (batch, out_features).

    Args:
        config: kind and size of the network.
        shape: of a datum.
        out_features: size of the output.
        condition_shape: shape of a condition: the network is then called with (x, condition). None: there is none.
        conditioning: how the condition enters. concat: beside a flattened input, or, for conv and resnet, as channels
            (a vector as constant planes). embedding: the same with a learned linear function of a vector, or a
            learned encoding of an image. film: such an embedding scales and shifts every hidden layer.

    Raises:
        ConfigError: the network does not fit the shape, or an image as condition has another size than the datum and
            cannot stand beside it.
    """
    kind = net_kind(config, shape)
    if condition_shape is None:
        return _encoder(kind, config, shape, out_features)
    planes = kind != "mlp"
    if conditioning == "film":
        embed, size = condition_embedding(config, condition_shape, curved=True)
        return Through(embed, _encoder(kind, config, shape, out_features, size))
    if conditioning == "embedding":
        # Each number is a whole plane of the first convolution: of an image too, few must do.
        embed, size = condition_embedding(config, condition_shape, VECTOR_EMBEDDING if planes else None)
    elif planes:
        embed, size = _channels(condition_shape, shape)
    else:
        embed, size = nn.Flatten(), math.prod(condition_shape)
    together = (shape[0] + size, *shape[1:]) if planes else (math.prod(shape) + size,)
    return Beside(embed, _encoder(kind, config, together, out_features), planes)


def make_decoder(
    config: NetConfig,
    in_features: int,
    shape: tuple[int, ...],
    condition_shape: tuple[int, ...] | None = None,
    conditioning: Conditioning = "concat",
) -> nn.Module:
    """A network from (batch, in_features), and perhaps a condition, to (batch, *shape).

    Args:
        config: kind and size of the network.
        in_features: size of the input.
        shape: of the output.
        condition_shape: shape of a condition: the network is then called with (z, condition). None: there is none.
        conditioning: how the condition enters, as in `make_encoder`; concat and embedding stand beside z. An image is
            encoded for concat too.

    Raises:
        ConfigError: the network does not fit the shape.
    """
    kind = net_kind(config, shape)
    if condition_shape is None:
        return _decoder(kind, config, in_features, shape)
    if conditioning == "film":
        embed, size = condition_embedding(config, condition_shape, curved=True)
        return Through(embed, _decoder(kind, config, in_features, shape, size))
    if conditioning == "embedding" or len(condition_shape) == 3:
        # Hundreds of pixels beside a few numbers of z would drown them: the first layer hardly saw z, and the code
        # of a VAE would stay empty. So an image is encoded in any case.
        embed, size = condition_embedding(config, condition_shape)
    else:
        embed, size = nn.Flatten(), math.prod(condition_shape)
    return Beside(embed, _decoder(kind, config, in_features + size, shape), planes=False)


def _encoder(kind: str, config: NetConfig, shape: tuple[int, ...], out_features: int, embedding: int = 0) -> nn.Module:
    if kind == "mlp":
        return Layers(nn.Flatten(), _mlp(config, math.prod(shape), out_features, embedding))
    return _checked(ConvEncoder if kind == "conv" else ResnetEncoder, kind, config, shape, out_features, embedding)


def _decoder(kind: str, config: NetConfig, in_features: int, shape: tuple[int, ...], embedding: int = 0) -> nn.Module:
    if kind == "mlp":
        return Layers(_mlp(config, in_features, math.prod(shape), embedding), nn.Unflatten(1, shape))
    return _checked(ConvDecoder if kind == "conv" else ResnetDecoder, kind, config, in_features, shape, embedding)


def _mlp(config: NetConfig, in_features: int, out_features: int, embedding: int) -> MLP:
    hidden = [config.width or 400] * (1 if config.depth is None else config.depth)
    return MLP(in_features, hidden, out_features, config.activation, config.normalisation, embedding)


def _checked(
    net: type[nn.Module], kind: str, config: NetConfig, first: object, second: object, embedding: int
) -> nn.Module:
    depth = config.depth if kind == "conv" else config.depth or 1
    try:
        return net(first, second, config.width or 32, depth, config.activation, config.normalisation, embedding)
    except ValueError as error:
        raise ConfigError(f"net {kind}: {error}") from None


def _channels(condition_shape: tuple[int, ...], shape: tuple[int, ...]) -> tuple[nn.Module, int]:
    """What stands beside an image as it is, and its number of channels."""
    if len(condition_shape) != 3:
        return nn.Flatten(), math.prod(condition_shape)
    if condition_shape[1:] != shape[1:]:
        raise ConfigError(
            f"conditioning concat: a condition of {condition_shape[1]}x{condition_shape[2]} pixels cannot be channels "
            f"of an image of {shape[1]}x{shape[2]}; use conditioning embedding or film"
        )
    return nn.Identity(), condition_shape[0]


def condition_embedding(
    config: NetConfig, condition_shape: tuple[int, ...], size: int | None = None, curved: bool = False
) -> tuple[nn.Module, int]:
    """A network from a condition to a vector, and the vector's size.

    Linear for a vector (for a one-hot label: a table), `curved` with a nonlinearity behind, so that what is linear in
    it is not in the condition.
    """
    if len(condition_shape) == 3:
        size = size or IMAGE_EMBEDDING
        return _encoder(net_kind(config, condition_shape), config, condition_shape, size), size
    size = size or VECTOR_EMBEDDING
    linear = [nn.Flatten(), nn.Linear(math.prod(condition_shape), size)]
    return nn.Sequential(*linear, *([nn.SiLU()] if curved else [])), size
