"""Values on evenly spaced levels, and the integers that they stand for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

__all__ = ["OnLevels", "level_values", "levels_of"]

NEAR = 0.05  # of a step: float32 is exact to 0.01 of one even for 65,536 levels


class OnLevels(constraints.Constraint):
    """k / (levels - 1) for k = 0 .. levels - 1."""

    is_discrete = True
    event_dim = 0

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        steps = value * (self.levels - 1)
        return (value >= 0) & (value <= 1) & ((steps - steps.round()).abs() <= NEAR)


def levels_of(value: Tensor, levels: int) -> Tensor:
    """The level k of each value k / (levels - 1), int64 of the same shape.

    Values are looked at on the CPU only: elsewhere the program would have to wait for the device.

    Raises:
        ValueError: a value is no level.
    """
    steps = value * (levels - 1)
    index = steps.round()
    if value.device.type == "cpu" and value.numel():
        off = ~((index >= 0) & (index < levels) & ((steps - index).abs() <= NEAR))
        if bool(off.any()):
            raise ValueError(
                f"values should be k / {levels - 1} with k in 0 .. {levels - 1}, but one is {float(value[off][0]):g}"
            )
    return index.long()


def level_values(index: Tensor, levels: int, dtype: torch.dtype) -> Tensor:
    """Levels k as values k / (levels - 1)."""
    return index.to(dtype) / (levels - 1)
