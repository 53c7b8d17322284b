"""Gated PixelCNN over integers on a grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jensen.nn.autoregressive.base import AutoregressiveNet
from jensen.nn.autoregressive.channels import ChannelEmbedding, ChannelLogits, check_shape
from jensen.nn.autoregressive.gated import GatedLayer, LayerState

__all__ = ["GatedPixelCNN", "PixelState"]

FIRST_REACH = 3
"""places that the first layer sees in each direction: half of a 7x7 kernel"""


@dataclass(slots=True)
class PixelState:
    """Sequences drawn up to some value.

    Attributes:
        count: values of each sequence so far.
        layers: what each layer remembers.
        context: (batch, h or 1, w or 1, context), or None.
        features: what the stacks say of the present place, (batch, width).
        place: sum of the embeddings of this place's values so far, (batch, width).
        row: such sums of all places of this row that are complete, each (batch, width).
    """

    count: int
    layers: list[LayerState]
    context: Tensor | None
    features: Tensor
    place: Tensor
    row: list[Tensor]


class GatedPixelCNN(AutoregressiveNet[PixelState]):
    """p(x) = prod_i p(x_i | x_<i, context) by stacks of gated convolutions without a blind spot.

    Van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders: a first layer of 7x7 (clipped to the
    grid), then 3x3, of which only the places that were before are computed; a context enters every layer, where a
    one-hot label at every place is the paper's V^T h. With `depth` layers a factor sees depth + 2 rows above and as
    many places to the left.

    The stacks look at whole places. Within a place, logits of a channel come from the stacks' output and the
    embeddings of the channels before it, by a small residual net: so one pass through the stacks serves all channels.

    A grid of one dimension is one row; it has no vertical stack, and the gaps of its kernels double from layer to
    layer, as in WaveNet (van den Oord et al. 2016), so that few layers reach far.

    Args:
        shape: (channels, *grid) of x, grid of one or two dimensions.
        levels: values that each x_i takes, K.
        width: channels of each stack.
        depth: gated layers.
        context: channels of the context, 0: none.
        dropout: share of the gated values dropped in training.

    Raises:
        ValueError: a shape that is none, or a number that is too small.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        levels: int,
        *,
        width: int = 64,
        depth: int = 8,
        context: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_shape(shape, levels, context)
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth should be at least 1, got {width} and {depth}")
        self.shape, self.levels, self.context = tuple(shape), levels, context
        self.width = width
        self.height, self.columns = (1, shape[1]) if len(shape) == 2 else shape[1:]
        # Of each layer a row of the horizontal stack and one of what it is given, and rows of the vertical stack.
        self.state_size = depth * width * self.columns * (3 if self.height == 1 else 6)
        self.embedding = ChannelEmbedding(shape[0], levels, width)
        self.layers = nn.ModuleList(self._layers(depth, dropout))
        self.head = _Head(shape[0], levels, width)

    def forward(self, values: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits of all factors, (batch, *shape, levels), from values (batch, *shape) int64.

        Raises:
            ValueError: values of another shape or kind, or a context that the net does not take.
        """
        self.check(values)
        self.check_context(len(values), context)
        embedded = self.embedding(values.reshape(len(values), self.shape[0], self.height, self.columns))
        vertical = horizontal = embedded.sum(-2)
        told = self._told(context)
        features = torch.zeros_like(vertical)
        for layer in self.layers:
            vertical, horizontal, skip = layer(vertical, horizontal, told)
            features = features + skip
        before = torch.zeros_like(features)
        logits = []
        for channel in range(self.shape[0]):
            logits.append(self.head(features, before, channel))
            before = before + embedded[..., channel, :]
        return torch.stack(logits, 1).view(len(values), *self.shape, self.levels)

    def begin(self, batch: int, context: Tensor | None = None) -> PixelState:
        """Before the first value of `batch` sequences; ValueError for a context that the net does not take."""
        self.check_context(batch, context)
        layers = [layer.begin(batch, self.columns) for layer in self._gated()]
        nothing = self.head.first.weight.new_zeros(batch, self.width)
        state = PixelState(0, layers, self._told(context), nothing, nothing, [])
        self._go_on(state)
        return state

    def logits(self, state: PixelState) -> Tensor:
        """Logits of the next value of each sequence, (batch, levels); ValueError if there is none."""
        self._check_room(state)
        logits: Tensor = self.head(state.features, state.place, state.count % self.shape[0])
        return logits

    def feed(self, state: PixelState, value: Tensor) -> None:
        """Append the next value of each sequence, (batch,) int64; ValueError if they are complete."""
        self._check_room(state)
        state.place = state.place + self.embedding.channel(value, state.count % self.shape[0])
        state.count += 1
        if state.count % self.shape[0] == 0 and state.count < math.prod(self.shape):
            state.row.append(state.place)
            state.place = torch.zeros_like(state.place)
            self._go_on(state)

    def _layers(self, depth: int, dropout: float) -> Iterator[GatedLayer]:
        """The first layer as large as paper and grid let it be, then 3x3, or pairs of places in a single row."""
        rows, side = min(FIRST_REACH, self.height - 1), min(FIRST_REACH, self.columns - 1)
        gaps = [2**i for i in range(self.columns.bit_length()) if 2**i < self.columns] if self.height == 1 else [1]
        for i in range(depth):
            offsets = range(side, 0, -1) if i == 0 else (gaps[(i - 1) % len(gaps)], 0) if side else (0,)
            yield GatedLayer(
                self.width,
                rows=rows if i == 0 else min(2, self.height) if rows else 0,
                side=side if i == 0 else min(1, side),
                offsets=offsets,
                depth=depth,
                context=self.context,
                dropout=dropout,
                first=i == 0,
                last=i == depth - 1,
            )

    def _gated(self) -> Iterator[GatedLayer]:
        for layer in self.layers:
            assert isinstance(layer, GatedLayer)
            yield layer

    def _go_on(self, state: PixelState) -> None:
        """To the next place: the vertical stacks go on once a row, the horizontal ones at every place."""
        row, column = divmod(state.count // self.shape[0], self.columns)
        if column == 0:
            self._next_row(state, row)
        x = state.row[-1] if column else torch.zeros_like(state.place)
        features = torch.zeros_like(x)
        for layer, memory in zip(self._gated(), state.layers, strict=True):
            x, skip = layer.next_place(memory, x)
            features = features + skip
        state.features = features

    def _next_row(self, state: PixelState, row: int) -> None:
        above = (
            torch.stack(state.row, 1)[:, None] if row else state.place.new_zeros(len(state.place), 1, self.columns, 1)
        )
        above = above.expand(-1, -1, -1, self.width)
        told = state.context
        if told is not None and told.shape[1] > 1:
            told = told[:, row : row + 1]
        for layer, memory in zip(self._gated(), state.layers, strict=True):
            above = layer.next_row(memory, above, told)
        state.row = []

    def _told(self, context: Tensor | None) -> Tensor | None:
        """The context as the layers take it, (batch, h or 1, w or 1, context)."""
        if context is None:
            return None
        return (context if context.ndim == 4 else context.unsqueeze(2)).permute(0, 2, 3, 1)

    def _check_room(self, state: PixelState) -> None:
        if state.count >= math.prod(self.shape):
            raise ValueError(f"all {math.prod(self.shape)} values are there")


class _Head(nn.Module):
    """Logits of a channel from the stacks' output and the embeddings of the channels before it."""

    def __init__(self, channels: int, levels: int, width: int) -> None:
        super().__init__()
        hidden = 2 * width
        self.first = nn.Linear(width, hidden)
        self.channels = channels
        if channels > 1:
            self.place = nn.Parameter(torch.randn(channels, hidden) * 0.1)
            self.before = nn.Linear(width, hidden, bias=False)
            self.residual = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.logits = ChannelLogits(channels, levels, hidden)

    def forward(self, features: Tensor, before: Tensor, channel: int) -> Tensor:
        x = self.first(F.relu(features))
        if self.channels > 1:
            x = x + self.place[channel]
            x = x if channel == 0 else x + self.before(before)
            x = x + self.residual(x)
        logits: Tensor = self.logits(F.relu(x), channel)
        return logits
