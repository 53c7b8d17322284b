"""Stored values on a device."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from jensen.data.dataset import Source

__all__ = ["move"]


@runtime_checkable
class _Movable(Protocol):
    def to(self, device: torch.device, /) -> Source: ...


def move(values: Source, device: torch.device) -> Source:
    """`values` on `device` if they can move there and take at most half its room, `values` themselves otherwise."""
    if isinstance(values, Tensor) and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if values.nbytes > free // 2 and values.device != device:
            return values
    return values.to(device) if isinstance(values, _Movable) else values
