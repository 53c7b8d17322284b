"""The networks on both sides of a quantiser, and quantisers for each level of codes."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jensen.autoencoders.code_hierarchy import CodeHierarchy
from jensen.config import NetConfig, QuantiserConfig
from jensen.errors import ConfigError
from jensen.nn import Conditioning, make_decoder
from jensen.nn.quantiser.base import Quantiser
from jensen.nn.quantiser.build import make_quantiser
from jensen.nn.spatial import WIDTH, grid_sizes, make_spatial_decoder, make_spatial_encoder, spatial_kind

__all__ = ["CodeNets", "code_nets", "features_of", "quantisers_of"]


def quantisers_of(quantiser: QuantiserConfig | Quantiser, levels: int) -> list[Quantiser]:
    """One for each level of codes, the top first; of an own quantiser copies."""
    if isinstance(quantiser, QuantiserConfig):
        return [make_quantiser(quantiser) for _ in range(levels)]
    return [*(copy.deepcopy(quantiser) for _ in range(levels - 1)), quantiser]


class CodeNets(NamedTuple):
    """Encoder, quantisers and decoder that fit together, and the dimensions of what the decoder takes."""

    encoder: nn.Module
    quantisers: CodeHierarchy
    decoder: nn.Module
    code_dims: int


def code_nets(
    shape: tuple[int, ...],
    outputs: tuple[int, ...],
    quantisers: Sequence[Quantiser],
    downsampling: int,
    net: NetConfig,
    *,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    condition_shape: tuple[int, ...] | None = None,
    conditioning: Conditioning = "concat",
    symbols: int | None = None,
) -> CodeNets:
    """What an auto-encoder with codes on a grid consists of.

    Args:
        shape: of a datum.
        outputs: shape of what the decoder gives.
        quantisers: of each level, the top first.
        downsampling: side of a datum over that of the grid of the last level, a power of 2.
        net: width, depth and so on.
        encoder: own network (batch, *shape) to (batch, features, *grid); None: it is made.
        decoder: own network (batch, channels, *grid) to (batch, *outputs); None: it is made.
        condition_shape: of what encoder and decoder are told beside; None: nothing.
        conditioning: how.
        symbols: number of symbols that the data are; None: numbers.

    Raises:
        ConfigError: no such net for such data, or no place for the codes of the top level.
        ValueError: an own encoder does not fit.
    """
    own = encoder is not None
    if encoder is None:
        features = quantisers[0].dim if len(quantisers) == 1 else net.width or WIDTH
        _check_size(net, shape, downsampling * len(quantisers))
        encoder = make_spatial_encoder(net, shape, features, downsampling, condition_shape, conditioning, symbols)
    features, *rest = features_of(encoder, shape, condition_shape)
    grid = tuple(rest)
    if own and decoder is None and not _halved(shape, grid, downsampling):
        raise ValueError(
            f"encoder brings data of shape {shape} to a grid {grid}, which is no downsampling {downsampling}"
        )
    hierarchy = CodeHierarchy(quantisers, features, grid, net)
    if decoder is not None:
        return CodeNets(encoder, hierarchy, decoder, 1 + len(grid))
    channels = hierarchy.channels
    if _halved(outputs, grid, downsampling):
        decoder = make_spatial_decoder(net, channels, outputs, downsampling, condition_shape, conditioning)
        return CodeNets(encoder, hierarchy, decoder, 1 + len(grid))
    # What is decoded lies on no grid that leads to this one, e.g. a property of an image: all embeddings in one row.
    rows = NetConfig(kind="mlp", activation=net.activation, normalisation=net.normalisation)
    decoder = make_decoder(rows, channels * math.prod(grid), outputs, condition_shape, conditioning)
    return CodeNets(encoder, hierarchy, decoder, 1)


def _check_size(net: NetConfig, shape: tuple[int, ...], downsampling: int) -> None:
    """Raise `ConfigError` where the data lie on no grid, or on too small a one."""
    spatial_kind(net, shape)
    try:
        grid_sizes(shape[1:], downsampling)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _halved(shape: tuple[int, ...], grid: tuple[int, ...], downsampling: int) -> bool:
    """Whether data of this shape lead to this grid."""
    large = len(shape) == len(grid) + 1 and min(shape[1:]) >= downsampling
    return large and grid_sizes(shape[1:], downsampling)[-1] == grid


@torch.no_grad()
def features_of(encoder: nn.Module, shape: tuple[int, ...], condition_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """(features, *grid) of what an encoder makes of a datum.

    Raises:
        ValueError: they lie on no grid.
    """
    training = encoder.training
    encoder.eval()  # one datum is no batch to take statistics of
    like = next(encoder.parameters(), torch.empty(0))
    zeros = [like.new_zeros(1, *sizes) for sizes in (shape, condition_shape) if sizes is not None]
    features: Tensor = encoder(*zeros)
    encoder.train(training)
    if features.ndim not in (3, 4):
        raise ValueError(
            "encoder should give features on a grid, (batch, features, height, width) or (batch, features, length), "
            f"but of one datum it gives shape {tuple(features.shape)}"
        )
    return tuple(features.shape[1:])
