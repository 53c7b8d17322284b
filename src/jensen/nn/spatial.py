"""Convolutional networks between data and features on a grid, for images and signals of any size."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from jensen.config import NetConfig
from jensen.errors import ConfigError
from jensen.nn.blocks import activation, norm2d
from jensen.nn.build import IMAGE_EMBEDDING, VECTOR_EMBEDDING, Conditioning, make_encoder
from jensen.nn.condition import Beside, Layers, Modulated, Through, film

__all__ = [
    "Planes",
    "ResidualUnit",
    "SpatialDecoder",
    "SpatialEncoder",
    "Symbols",
    "grid_sizes",
    "make_spatial_decoder",
    "make_spatial_encoder",
    "spatial_kind",
]

WIDTH = 64
BLOCKS = 2
CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
TRANSPOSED: dict[int, type[nn.ConvTranspose1d | nn.ConvTranspose2d]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


def spatial_kind(config: NetConfig, shape: tuple[int, ...]) -> str:
    """conv: the kind of net that keeps features on a grid, for data of this shape.

    Raises:
        ConfigError: the data are no images or signals, or another kind of net was chosen.
    """
    if len(shape) not in (2, 3):
        raise ConfigError(
            "codes on a grid need images (channel, height, width) or signals (channel, length), but the data have "
            f"shape {shape}: use model vae for tables"
        )
    if config.kind not in ("auto", "conv"):
        raise ConfigError(f"net {config.kind} ends in a vector, but codes lie on a grid: use net conv")
    return "conv"


def grid_sizes(size: tuple[int, ...], downsampling: int) -> list[tuple[int, ...]]:
    """Sizes of data as stride-2 layers halve them (rounding down), the input size first and the grid last.

    Args:
        size: (height, width) or (length,).
        downsampling: a power of 2: each layer halves once.

    Raises:
        ValueError: downsampling is no power of 2, or larger than a side.
    """
    if downsampling < 1 or downsampling & (downsampling - 1):
        raise ValueError(f"downsampling should be a power of 2 (1, 2, 4, ...), got {downsampling}")
    if min(size) < downsampling:
        written = "x".join(map(str, size))
        raise ValueError(
            f"data of size {written} are smaller than what one code stands for, {downsampling} a side: use a smaller "
            "downsampling"
        )
    return [tuple(side >> i for side in size) for i in range(downsampling.bit_length())]


class ResidualUnit(nn.Module, Modulated):
    """x + f(x), f a 3x3 and a 1x1 convolution, each behind normalisation and nonlinearity.

    The block of van den Oord et al. 2017, section 4.1, for images (`dims` 2) or signals (`dims` 1).
    """

    def __init__(self, channels: int, dims: int, nonlinearity: str, normalisation: str, embedding: int = 0) -> None:
        super().__init__()
        self.f = Layers(
            # What comes in is also the identity path: an in-place nonlinearity would overwrite it.
            *_before(channels, dims, nonlinearity, normalisation, embedding, inplace=False),
            CONVOLUTIONS[dims](channels, channels, 3, padding=1),
            *_before(channels, dims, nonlinearity, normalisation, embedding),
            CONVOLUTIONS[dims](channels, channels, 1),
        )

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        out: Tensor = x + self.f(x, embedding)
        return out


class SpatialEncoder(nn.Module, Modulated):
    """Strided 4x4 convolutions and residual units: (batch, channels, *size) to (batch, features, *grid).

    With two strided convolutions, two units and 256 channels it is the encoder of van den Oord et al. 2017 (Neural
    discrete representation learning, section 4.1), and a 1x1 convolution to the number of features behind it.

    Args:
        shape: (channels, *size), size of one or two dimensions.
        features: channels of the output.
        downsampling: side of the data over side of the grid, a power of 2 (odd sizes are rounded down).
        channels: of hidden layers.
        blocks: residual units.
        nonlinearity: name of the activation.
        normalisation: none, batch or group.
        embedding: size of a condition's embedding that modulates every hidden layer (`Film`), 0: there is none.

    Raises:
        ValueError: the data are too small for `downsampling`, or it is no power of 2.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        features: int,
        downsampling: int = 4,
        channels: int = WIDTH,
        blocks: int = BLOCKS,
        nonlinearity: str = "relu",
        normalisation: str = "none",
        embedding: int = 0,
    ) -> None:
        super().__init__()
        dims = len(shape) - 1
        convolution = CONVOLUTIONS[dims]
        settings = (channels, dims, nonlinearity, normalisation, embedding)
        strided = len(grid_sizes(shape[1:], downsampling)) - 1
        layers: list[nn.Module] = []
        for i in range(strided):
            layers += _before(*settings) if i else []
            layers.append(convolution(channels if i else shape[0], channels, 4, stride=2, padding=1))
        if not strided:
            layers.append(convolution(shape[0], channels, 3, padding=1))
        layers += [ResidualUnit(*settings) for _ in range(blocks)]
        self.layers = Layers(*layers, *_before(*settings), convolution(channels, features, 1))

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        features: Tensor = self.layers(x, embedding)
        return features


class SpatialDecoder(nn.Module, Modulated):
    """The mirror of `SpatialEncoder`: (batch, features, *grid) to (batch, channels, *size), exactly the size asked.

    Arguments: `SpatialEncoder`, `shape` that of the output.
    """

    def __init__(
        self,
        features: int,
        shape: tuple[int, ...],
        downsampling: int = 4,
        channels: int = WIDTH,
        blocks: int = BLOCKS,
        nonlinearity: str = "relu",
        normalisation: str = "none",
        embedding: int = 0,
    ) -> None:
        super().__init__()
        dims = len(shape) - 1
        convolution, transposed = CONVOLUTIONS[dims], TRANSPOSED[dims]
        settings = (channels, dims, nonlinearity, normalisation, embedding)
        sizes = grid_sizes(shape[1:], downsampling)[::-1]
        layers: list[nn.Module] = [convolution(features, channels, 3, padding=1)]
        layers += [ResidualUnit(*settings) for _ in range(blocks)]
        for i, (small, large) in enumerate(pairwise(sizes)):
            after = shape[0] if i == len(sizes) - 2 else channels
            # A stride-2 layer rounds odd sizes down: the padding puts the lost row or column back.
            odd = tuple(b - 2 * a for a, b in zip(small, large, strict=True))
            layers += _before(*settings)
            layers.append(transposed(channels, after, 4, stride=2, padding=1, output_padding=odd))  # type: ignore[arg-type]
        if len(sizes) == 1:
            layers += [*_before(*settings), convolution(channels, shape[0], 3, padding=1)]
        self.layers = Layers(*layers)

    def forward(self, features: Tensor, embedding: Tensor | None = None) -> Tensor:
        out: Tensor = self.layers(features, embedding)
        return out


class Symbols(nn.Module):
    """A net whose input are symbols: each value k / (K - 1) is looked up in a table of K embeddings first.

    As numbers they would say that the 7th letter of an alphabet lies between the 6th and the 8th.

    Args:
        levels: K.
        size: of an embedding.
        net: from (batch, channels x size, *grid), and a condition if one is given.
    """

    def __init__(self, levels: int, size: int, net: nn.Module) -> None:
        super().__init__()
        self.levels = levels
        self.table = nn.Embedding(levels, size)
        self.net = net

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        index = (x * (self.levels - 1)).round().long().clamp(0, self.levels - 1)
        out: Tensor = self.net(self.table(index).movedim(-1, 2).flatten(1, 2), *condition)
        return out


class Planes(nn.Module):
    """A vector as constant planes: (batch, size) to (batch, size, *grid), without memory of their own."""

    def __init__(self, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        return x[(...,) + (None,) * len(self.grid)].expand(*x.shape, *self.grid)


def make_spatial_encoder(
    config: NetConfig,
    shape: tuple[int, ...],
    features: int,
    downsampling: int,
    condition_shape: tuple[int, ...] | None = None,
    conditioning: Conditioning = "concat",
    symbols: int | None = None,
) -> nn.Module:
    """A network from data of `shape`, (batch, *shape), and perhaps a condition, to (batch, features, *grid).

    Args:
        config: width (64), depth (residual units, 2), activation and normalisation of a `SpatialEncoder`.
        shape: of a datum, (channels, *size).
        features: channels of the output.
        downsampling: a power of 2.
        condition_shape: shape of a condition: the network is then called with (x, condition). None: there is none.
        conditioning: concat (an image as more channels, a vector as constant planes), embedding (the same with a
            learned function of it), or film (such a function scales and shifts every hidden layer).
        symbols: number of symbols that the data are; None: the data are numbers.

    Raises:
        ConfigError: the network does not fit the shape, or an image as condition has another size than the datum and
            cannot stand beside it.
    """
    spatial_kind(config, shape)
    width = config.width or WIDTH
    inner = shape if symbols is None else (shape[0] * width, *shape[1:])
    net: nn.Module
    if condition_shape is None:
        net = _encoder(config, inner, features, downsampling)
    elif conditioning == "film":
        embed, size = _vector(config, condition_shape, curved=True)
        net = Through(embed, _encoder(config, inner, features, downsampling, size))
    else:
        embed, size = _beside_data(config, shape, condition_shape, conditioning)
        net = Beside(embed, _encoder(config, (inner[0] + size, *inner[1:]), features, downsampling), planes=True)
    return net if symbols is None else Symbols(symbols, width, net)


def make_spatial_decoder(
    config: NetConfig,
    features: int,
    shape: tuple[int, ...],
    downsampling: int,
    condition_shape: tuple[int, ...] | None = None,
    conditioning: Conditioning = "concat",
) -> nn.Module:
    """A network from (batch, features, *grid), and perhaps a condition, to (batch, *shape).

    Args:
        config: as of `make_spatial_encoder`.
        features: channels of the input.
        shape: of the output, (channels, *size).
        downsampling: a power of 2.
        condition_shape: shape of a condition: the network is then called with (features, condition). None: none.
        conditioning: as of `make_spatial_encoder`; what stands beside the features has their grid: an image of the
            output's size is brought there by an encoder, place for place, another image is embedded in a vector.

    Raises:
        ConfigError: the network does not fit the shape.
    """
    spatial_kind(config, shape)
    if condition_shape is None:
        return _decoder(config, features, shape, downsampling)
    if conditioning == "film":
        embed, size = _vector(config, condition_shape, curved=True)
        return Through(embed, _decoder(config, features, shape, downsampling, size))
    if conditioning == "concat" and len(condition_shape) > 1 and condition_shape[1:] == shape[1:]:
        size = VECTOR_EMBEDDING
        embed = _encoder(config, condition_shape, size, downsampling)
    else:
        linear = conditioning == "concat" and len(condition_shape) == 1
        vector, size = (nn.Flatten(), condition_shape[0]) if linear else _vector(config, condition_shape)
        embed = nn.Sequential(vector, Planes(_grid(shape[1:], downsampling)))
    return Beside(embed, _decoder(config, features + size, shape, downsampling), planes=True)


def _encoder(
    config: NetConfig, shape: tuple[int, ...], features: int, downsampling: int, embedding: int = 0
) -> nn.Module:
    _grid(shape[1:], downsampling)
    return SpatialEncoder(shape, features, downsampling, *_settings(config), embedding)


def _decoder(
    config: NetConfig, features: int, shape: tuple[int, ...], downsampling: int, embedding: int = 0
) -> nn.Module:
    _grid(shape[1:], downsampling)
    return SpatialDecoder(features, shape, downsampling, *_settings(config), embedding)


def _settings(config: NetConfig) -> tuple[int, int, str, str]:
    return config.width or WIDTH, config.depth or BLOCKS, config.activation, config.normalisation


def _grid(size: tuple[int, ...], downsampling: int) -> tuple[int, ...]:
    try:
        return grid_sizes(size, downsampling)[-1]
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _beside_data(
    config: NetConfig, shape: tuple[int, ...], condition_shape: tuple[int, ...], conditioning: str
) -> tuple[nn.Module, int]:
    """What stands beside the data as channels of their size, and how many channels."""
    if conditioning == "embedding":
        # Each number is a whole plane of the first convolution: of an image too, few must do.
        vector, size = _vector(config, condition_shape, VECTOR_EMBEDDING)
    elif len(condition_shape) == 1:
        vector, size = nn.Flatten(), condition_shape[0]
    elif condition_shape[1:] == shape[1:]:
        return nn.Identity(), condition_shape[0]
    else:
        have, want = ("x".join(map(str, sizes[1:])) for sizes in (condition_shape, shape))
        raise ConfigError(
            f"conditioning concat: a condition of {have} pixels cannot be channels of data of {want}; use conditioning "
            "embedding or film"
        )
    return nn.Sequential(vector, Planes(shape[1:])), size


def _vector(
    config: NetConfig, condition_shape: tuple[int, ...], size: int | None = None, curved: bool = False
) -> tuple[nn.Module, int]:
    """A network from a condition to a vector, and the vector's size; of a vector linear, or `curved` behind."""
    if len(condition_shape) == 3:
        size = size or IMAGE_EMBEDDING
        return make_encoder(NetConfig(activation=config.activation), condition_shape, size), size
    size = size or VECTOR_EMBEDDING
    linear = [nn.Flatten(), nn.Linear(math.prod(condition_shape), size)]
    return nn.Sequential(*linear, *([nn.SiLU()] if curved else [])), size


def _before(
    channels: int, dims: int, nonlinearity: str, normalisation: str, embedding: int, inplace: bool = True
) -> list[nn.Module]:
    """What stands before a convolution: normalisation, modulation by a condition, nonlinearity."""
    norm = [nn.BatchNorm1d(channels)] if (normalisation, dims) == ("batch", 1) else norm2d(normalisation, channels)
    return [*norm, *film(embedding, channels), activation(nonlinearity, inplace)]
