"""What autoregressive nets share: values of several channels in, logits of several channels out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ChannelEmbedding", "ChannelLogits", "check_shape"]


class ChannelEmbedding(nn.Module):
    """A learned vector for each value of each channel: (batch, channels, *grid) to (batch, *grid, channels, width).

    So that values need no order, and the channels may be codes of different books.
    """

    def __init__(self, channels: int, levels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, levels, width) / math.sqrt(channels))

    def forward(self, values: Tensor) -> Tensor:
        # A look-up a channel, so that a value out of range is refused, and not taken for one of the next channel.
        return torch.stack([self.channel(values[:, c], c) for c in range(len(self.weight))], -2)

    def channel(self, values: Tensor, channel: int) -> Tensor:
        """Vectors of one channel's values, (...) to (..., width)."""
        return F.embedding(values, self.weight[channel])


class ChannelLogits(nn.Module):
    """A linear map to the logits of each channel: features (..., width) to (..., levels).

    They start near zero, so that an untrained net gives every value about the same probability.
    """

    def __init__(self, channels: int, levels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, levels, width) * 0.1 / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(channels, levels))

    def forward(self, features: Tensor, channel: int) -> Tensor:
        return F.linear(features, self.weight[channel], self.bias[channel])


def check_shape(shape: tuple[int, ...], levels: int, context: int) -> None:
    """Raise ValueError for a shape that is not (channels, *grid), grid of one or two dimensions, or wrong numbers."""
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"expected a shape (channels, length) or (channels, height, width), got {tuple(shape)}")
    if levels < 1 or context < 0:
        raise ValueError(f"levels should be at least 1 and context at least 0, got {levels} and {context}")
