"""A small decoder-only transformer over integers on a grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jensen.nn.autoregressive.base import AutoregressiveNet
from jensen.nn.autoregressive.channels import ChannelEmbedding, ChannelLogits, check_shape

__all__ = ["CodeTransformer", "TransformerState"]


@dataclass(slots=True)
class TransformerState:
    """Sequences drawn up to some value.

    Attributes:
        count: values of each sequence so far.
        start: what is added to the input at each place, (batch or 1, places or 1, width).
        keys: of each layer, (batch, heads, values, width / heads), filled up to `count`.
        values: likewise.
        features: what the layers say of the next value, (batch, width).
    """

    count: int
    start: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    features: Tensor


class CodeTransformer(AutoregressiveNet[TransformerState]):
    """p(x) = prod_i p(x_i | x_<i, context) by causal self-attention over the values in the order of reading.

    A pre-norm decoder (Vaswani et al. 2017; Radford et al. 2019) with learned positions of places and of channels.
    What predicts x_i is the embedding of x_(i - 1), a start token for the first, plus the position of i and a linear
    map of the context at its place.

    Args:
        shape: (channels, *grid) of x, grid of one or two dimensions.
        levels: values that each x_i takes, K.
        width: channels of a layer.
        depth: layers.
        heads: attention heads; they divide the width.
        context: channels of the context, 0: none.
        dropout: share of hidden values and attention weights dropped in training.

    Raises:
        ValueError: a shape that is none, a number that is too small, or heads that do not divide the width.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        levels: int,
        *,
        width: int = 64,
        depth: int = 8,
        heads: int = 4,
        context: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_shape(shape, levels, context)
        if min(width, depth, heads) < 1 or width % heads:
            raise ValueError(f"width {width} should be a multiple of heads {heads}, and depth {depth} at least 1")
        self.shape, self.levels, self.context = tuple(shape), levels, context
        self.length = math.prod(shape)
        self.state_size = 2 * depth * self.length * width
        self.embedding = ChannelEmbedding(shape[0], levels, width)
        self.first = nn.Parameter(torch.randn(width))
        self.places = nn.Parameter(torch.randn(self.length // shape[0], width))
        self.channels = nn.Parameter(torch.randn(shape[0], width)) if shape[0] > 1 else None
        self.told = nn.Linear(context, width, bias=False) if context else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(width, heads, depth, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = ChannelLogits(shape[0], levels, width)

    def forward(self, values: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits of all factors, (batch, *shape, levels), from values (batch, *shape) int64.

        Raises:
            ValueError: values of another shape or kind, or a context that the net does not take.
        """
        self.check(values)
        self.check_context(len(values), context)
        batch, channels = len(values), self.shape[0]
        embedded = self.embedding(values).flatten(1, -2)
        x = torch.cat([self.first.expand(batch, 1, -1), embedded[:, :-1]], 1).unflatten(1, (-1, channels))
        x = x + self._start(context)[:, :, None]
        if self.channels is not None:
            x = x + self.channels
        x = self.dropout(x.flatten(1, 2))
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x).unflatten(1, (-1, channels))
        logits = torch.stack([self.head(x[:, :, channel], channel) for channel in range(channels)], 1)
        return logits.view(batch, *self.shape, self.levels)

    def begin(self, batch: int, context: Tensor | None = None) -> TransformerState:
        """Before the first value of `batch` sequences; ValueError for a context that the net does not take."""
        self.check_context(batch, context)
        first = self.first.expand(batch, -1)
        state = TransformerState(0, self._start(context), [], [], first)
        self._go_on(state, first)
        return state

    def logits(self, state: TransformerState) -> Tensor:
        """Logits of the next value of each sequence, (batch, levels); ValueError if there is none."""
        self._check_room(state)
        logits: Tensor = self.head(state.features, state.count % self.shape[0])
        return logits

    def feed(self, state: TransformerState, value: Tensor) -> None:
        """Append the next value of each sequence, (batch,) int64; ValueError if they are complete."""
        self._check_room(state)
        embedded = self.embedding.channel(value, state.count % self.shape[0])
        state.count += 1
        if state.count < self.length:
            self._go_on(state, embedded)

    def _start(self, context: Tensor | None) -> Tensor:
        """Position of each place and what the context says there, (batch or 1, places, width)."""
        if context is None or self.told is None:
            return self.places[None]
        told: Tensor = self.told(context.expand(-1, -1, *self.shape[1:]).flatten(2).transpose(1, 2))
        return self.places + told

    def _go_on(self, state: TransformerState, x: Tensor) -> None:
        """One more position, whose input but for its position is x (batch, width)."""
        place, channel = divmod(state.count, self.shape[0])
        x = x + state.start[:, place]
        if self.channels is not None:
            x = x + self.channels[channel]
        for i, layer in enumerate(self._attending()):
            query, key, value = layer.split(x[:, None])
            if state.count == 0:
                room = (*key.shape[:2], self.length, key.shape[3])
                state.keys.append(key.new_empty(room))
                state.values.append(key.new_empty(room))
            state.keys[i][:, :, state.count] = key[:, :, 0]
            state.values[i][:, :, state.count] = value[:, :, 0]
            seen = slice(0, state.count + 1)
            attended = F.scaled_dot_product_attention(query, state.keys[i][:, :, seen], state.values[i][:, :, seen])
            x = layer.join(x[:, None], attended)[:, 0]
        state.features = self.norm(x)

    def _attending(self) -> Iterator[_Layer]:
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            yield layer

    def _check_room(self, state: TransformerState) -> None:
        if state.count >= self.length:
            raise ValueError(f"all {self.length} values are there")


class _Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        wide, narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.inner = nn.Sequential(nn.LayerNorm(width), wide, nn.GELU(), narrow)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.queries, self.out, wide, narrow):
            # The sum of all that the layers add should not grow with their number (Radford et al. 2019).
            parts = 2 * depth if linear in (self.out, narrow) else 1
            nn.init.normal_(linear.weight, std=1 / math.sqrt(parts * linear.in_features))
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        rate = self.rate if self.training else 0.0
        return self.join(x, F.scaled_dot_product_attention(*self.split(x), dropout_p=rate, is_causal=True))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (batch, length, width), each (batch, heads, length, width / heads)."""
        query, key, value = self.queries(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value

    def join(self, x: Tensor, attended: Tensor) -> Tensor:
        """The layer's output from its input and what attention gave, (batch, heads, length, width / heads)."""
        x = x + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        out: Tensor = x + self.dropout(self.inner(x))
        return out
