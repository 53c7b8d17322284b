"""The contract of an autoregressive network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["AutoregressiveNet"]

State = TypeVar("State")


class AutoregressiveNet(nn.Module, ABC, Generic[State]):
    """Logits of p(x_i | x_<i, context) for integers x of shape (channels, *grid), grid of one or two dimensions.

    The order is that of reading: place after place (rows from the top, each from the left), the channels of a place one
    after the other.

    Attributes:
        shape: (channels, *grid) of x.
        levels: values that each x_i takes, K.
        context: channels of what the net is told beside; 0: nothing.
        state_size: about how many numbers a state keeps for each sequence, so that drawing can bound its memory.
    """

    shape: tuple[int, ...]
    levels: int
    context: int = 0
    state_size: int = 0

    @abstractmethod
    def forward(self, values: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits of all factors at once, (batch, *shape, levels).

        Args:
            values: x, (batch, *shape) int64.
            context: (batch, context, *grid), or (batch, context, 1[, 1]) for the same at every place. A factor may
                look at the context of every place.
        """

    @abstractmethod
    def begin(self, batch: int, context: Tensor | None = None) -> State:
        """Before the first value of `batch` sequences: what `logits` and `feed` go on from."""

    @abstractmethod
    def logits(self, state: State) -> Tensor:
        """Logits of the next value of each sequence, (batch, levels); no work of earlier values is redone."""

    @abstractmethod
    def feed(self, state: State, value: Tensor) -> None:
        """Append the next value of each sequence, (batch,) int64."""

    def check(self, values: Tensor) -> None:
        """Raise ValueError unless values are integers of (batch, *shape); their range is the embedding's to check."""
        if values.dtype != torch.int64 or values.shape[1:] != self.shape:
            expected = "x".join(str(size) for size in self.shape)
            given = "x".join(str(size) for size in values.shape)
            raise ValueError(f"expected int64 values of (batch, {expected}), got {values.dtype} of {given}")

    def check_context(self, batch: int, context: Tensor | None) -> None:
        """Raise ValueError unless the context is what this net is told: None if nothing, else one for each sequence."""
        if not self.context:
            if context is not None:
                raise ValueError("this net was made without a context: leave it away, or make the net with one")
            return
        if context is None:
            raise ValueError(f"this net needs a context of {self.context} channels")
        grid = self.shape[1:]
        fits = context.ndim == 2 + len(grid) and context.shape[:2] == (batch, self.context)
        if not fits or any(size not in (1, full) for size, full in zip(context.shape[2:], grid, strict=True)):
            raise ValueError(
                f"expected a context of {(batch, self.context, *grid)}, or 1 in place of a size of the grid, "
                f"got {tuple(context.shape)}"
            )
