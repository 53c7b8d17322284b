"""Autoregressive networks from a configuration."""

from __future__ import annotations

from typing import Any

from jensen.config import AutoregressiveConfig
from jensen.nn.autoregressive.base import AutoregressiveNet
from jensen.nn.autoregressive.pixelcnn import GatedPixelCNN
from jensen.nn.autoregressive.transformer import CodeTransformer

__all__ = ["make_autoregressive"]


def make_autoregressive(
    config: AutoregressiveConfig, shape: tuple[int, ...], levels: int, context: int = 0
) -> AutoregressiveNet[Any]:
    """The network that `config` names, over integers of `shape` = (channels, *grid) that take `levels` values.

    Args:
        config: kind and size of the network.
        shape: grid of one or two dimensions.
        levels: K.
        context: channels of the context, 0: none.

    Raises:
        ValueError: the shape has no grid of one or two dimensions.
    """
    if config.kind == "transformer":
        return CodeTransformer(
            shape,
            levels,
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            context=context,
            dropout=config.dropout,
        )
    return GatedPixelCNN(shape, levels, width=config.width, depth=config.depth, context=context, dropout=config.dropout)
