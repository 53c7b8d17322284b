"""Layers and networks."""

from __future__ import annotations

from jensen.nn.blocks import activation, halvings, norm1d, norm2d
from jensen.nn.build import make_decoder, make_encoder, net_kind
from jensen.nn.conv import ConvDecoder, ConvEncoder
from jensen.nn.mlp import MLP
from jensen.nn.resnet import ResidualBlock, ResnetDecoder, ResnetEncoder

__all__ = [
    "MLP",
    "ConvDecoder",
    "ConvEncoder",
    "ResidualBlock",
    "ResnetDecoder",
    "ResnetEncoder",
    "activation",
    "halvings",
    "make_decoder",
    "make_encoder",
    "net_kind",
    "norm1d",
    "norm2d",
]
