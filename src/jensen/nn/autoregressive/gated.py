"""The layer of a gated PixelCNN, for a whole grid at once or for one row and one place after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GatedLayer", "LayerState"]

GATED_GAIN = 3.0
"""tanh(a) sigmoid(b) of standard normal a and b has variance 0.115, so weights behind it are so much larger"""


@dataclass(slots=True)
class LayerState:
    """What a layer remembers of a grid that it has seen up to one place.

    Attributes:
        above: the last rows that came into the vertical stack, oldest first, each (batch, 1, w, width).
        row: what came into the horizontal stack in this row, place by place, each (batch, width).
        given: what the vertical stack and the context say to each place of this row, (batch, w or 1, 2 width).
        kernel: weights of the horizontal convolution as a matrix over its places, (2 width, places * width).
    """

    above: list[Tensor]
    row: list[Tensor]
    given: Tensor
    kernel: Tensor | None


class GatedLayer(nn.Module):
    """Two stacks of gated convolutions that see only what was before (van den Oord et al. 2016, figure 2).

    The vertical stack at row i knows rows above i, the horizontal stack at (i, j) also the places left of j; together
    they leave no blind spot. No weight is masked: a kernel has only the places that it may see, and its input is
    shifted. Everything is (batch, h, w, width).

    Args:
        width: channels of both stacks.
        rows: rows of the vertical kernel; 0: the grid is one row, and there is no vertical stack.
        side: how many places to each side the vertical kernel sees.
        offsets: how many places to the left each place of the horizontal kernel lies; may be empty.
        depth: layers of the net, whose outputs are summed: they start so much smaller.
        context: channels of the context.
        dropout: share of the gated values that is dropped in training.
        first: the input is the grid's values themselves, so that row i and place j are not to be seen: the vertical
            kernel ends one row above (`offsets` must be positive), and there is no residual connection.
        last: only what goes to the net's output is asked for; what would go on to the next layer is not made.
    """

    def __init__(
        self,
        width: int,
        *,
        rows: int,
        side: int,
        offsets: Sequence[int],
        depth: int = 1,
        context: int = 0,
        dropout: float = 0.0,
        first: bool = False,
        last: bool = False,
    ) -> None:
        super().__init__()
        self.rows, self.side, self.offsets = rows, side, tuple(offsets)
        self.dropout, self.first, self.last = dropout, first, last
        self.bias = nn.Parameter(torch.zeros(2 * width))
        self.horizontal = nn.Parameter(torch.empty(2 * width, width, 1, len(offsets))) if offsets else None
        if self.horizontal is not None:
            _start(self.horizontal, math.sqrt(0.5))
        if rows:
            self.vertical = nn.Conv2d(width, 2 * width, (rows, 2 * side + 1))
            _start(self.vertical.weight, 1 if first else GATED_GAIN)
            self.link = nn.Linear(2 * width, 2 * width, bias=False)
            _start(self.link.weight, math.sqrt(0.5))
        if context:
            self.told = nn.Linear(context, 2 * width * (2 if rows else 1), bias=False)
            _start(self.told.weight)
        self.context = context
        self.out = nn.Linear(width, width if last else 2 * width)
        _start(self.out.weight, GATED_GAIN / math.sqrt(depth))
        if first and not last:
            _start(self.out.weight[:width], GATED_GAIN)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, vertical: Tensor, horizontal: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The vertical and the horizontal stack's output, and what goes to the net's output; all places at once.

        Args:
            vertical: (batch, h, w, width).
            horizontal: (batch, h, w, width).
            context: (batch, h or 1, w or 1, context).
        """
        before = self.rows if self.first else self.rows - 1
        rows = F.pad(vertical[:, : vertical.shape[1] - self.first], (0, 0, 0, 0, before, 0)) if self.rows else vertical
        vertical, given = self._vertical(rows, context)
        if self.horizontal is not None:
            given = given + self._horizontal(horizontal)
        horizontal, skip = self._output(given, horizontal)
        return vertical, horizontal, skip

    def begin(self, batch: int, columns: int) -> LayerState:
        """Before the first row of `batch` grids."""
        width = self.out.in_features
        nothing = self.bias.new_zeros(batch, 1, columns, width)
        above = [nothing] * self.rows
        kernel = None if self.horizontal is None else self.horizontal[:, :, 0].transpose(1, 2).flatten(1)
        return LayerState(above, [], nothing, kernel)

    def next_row(self, state: LayerState, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Go on to the next row of the vertical stack: its output there, (batch, 1, w, width).

        Args:
            state: changed.
            row: (batch, 1, w, width) of the input; of the first layer, the last row of values, which is above.
            context: of the row, (batch, 1, w or 1, context).
        """
        if self.rows:
            state.above = [*state.above[1:], row]
            row = torch.cat(state.above, 1)
        row, given = self._vertical(row, context)
        state.row, state.given = [], given.squeeze(1)
        return row

    def next_place(self, state: LayerState, place: Tensor) -> tuple[Tensor, Tensor]:
        """Go on to the next place: the horizontal stack's output there and what goes to the net's output.

        Args:
            state: changed.
            place: (batch, width) of the input; of the first layer, the last place's values, or zeros at a row's start.
        """
        # The first layer's newest input lies one place to the left already.
        state.row.append(place)
        column = len(state.row) - 1
        given = state.given[:, column if state.given.shape[1] > 1 else 0]
        if state.kernel is not None:
            at = [column - offset + self.first for offset in self.offsets]
            seen = [state.row[i] if i >= 0 else torch.zeros_like(place) for i in at]
            given = given + F.linear(torch.cat(seen, -1), state.kernel)
        return self._output(given, place)

    def _vertical(self, rows: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The vertical stack's output, and what it and the context say to the horizontal one, from padded rows."""
        told = self.told(context) if self.context else None
        if not self.rows:
            return rows, self.bias.expand(len(rows), 1, 1, -1) if told is None else told + self.bias
        rows = F.pad(rows, (0, 0, self.side, self.side)).permute(0, 3, 1, 2)
        hidden = self.vertical(rows).permute(0, 2, 3, 1)
        if told is None:
            given = self.link(hidden) + self.bias
        else:
            own, other = told.chunk(2, -1)
            hidden = hidden + own
            given = self.link(hidden) + (other + self.bias)
        return hidden if self.last else self._gate(hidden), given

    def _horizontal(self, x: Tensor) -> Tensor:
        assert self.horizontal is not None
        left = max(self.offsets)
        x = F.pad(x[:, :, : x.shape[2] - min(self.offsets)], (0, 0, left, 0)).permute(0, 3, 1, 2)
        apart = left - self.offsets[1] if len(self.offsets) > 1 else 1
        return F.conv2d(x, self.horizontal, dilation=(1, apart)).permute(0, 2, 3, 1)

    def _output(self, hidden: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.out(self._gate(hidden))
        if self.last:
            return x, out
        residual, skip = out.chunk(2, -1)
        return (residual if self.first else x + residual), skip

    def _gate(self, hidden: Tensor) -> Tensor:
        value, gate = hidden.chunk(2, -1)
        return F.dropout(torch.tanh(value) * torch.sigmoid(gate), self.dropout, self.training)


def _start(weight: Tensor, gain: float = 1.0) -> None:
    """Such that what comes out has gain^2 times the variance of what comes in."""
    with torch.no_grad():
        weight.normal_(std=gain / math.sqrt(weight[0].numel()))
