"""Visible parts of an image: what is shown to a model that has to fill in the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from jensen.errors import ConfigError

__all__ = ["PARTS", "shown", "visible"]

REST = "all-but-"
QUARTERS = ("upper-left", "upper-right", "lower-left", "lower-right")
PARTS = ("left-half", "right-half", "upper-half", "lower-half", *QUARTERS, *(REST + name for name in QUARTERS))


def visible(part: str, height: int, width: int) -> Tensor:
    """1 where a pixel belongs to the named part of an image and 0 where not, (1, height, width) float32.

    A side of an odd number of pixels has its middle one in the upper, or left, half: halves, and quarters, never
    overlap and leave nothing out. Raises `ConfigError` for another name, or an image so flat that the part would be
    all of it or nothing.
    """
    if part not in PARTS:
        raise ConfigError(f"data.condition: no part of an image is called {part!r} (choices: {', '.join(PARTS)})")
    row, column = torch.arange(height)[:, None], torch.arange(width)[None, :]
    sides = {
        "upper": row < (height + 1) // 2,
        "lower": row >= (height + 1) // 2,
        "left": column < (width + 1) // 2,
        "right": column >= (width + 1) // 2,
    }
    inside = torch.ones(height, width, dtype=torch.bool)
    for side in part.removeprefix(REST).removesuffix("-half").split("-"):
        inside = inside & sides[side]
    if part.startswith(REST):
        inside = ~inside
    if bool(inside.all()) or not bool(inside.any()):
        raise ConfigError(f"data.condition: {part} of an image of {height} x {width} pixels is all of it or nothing")
    return inside.float()[None]


def shown(image: Tensor, part: Tensor) -> Tensor:
    """Images (B, C, H, W) with what lies outside the `part` (1, H, W) set to 0, and the part itself as last channel.

    (B, C + 1, H, W). The extra channel tells a black pixel from a hidden one.
    """
    count, channels, *sides = image.shape
    out = image.new_empty(count, channels + 1, *sides)
    torch.mul(image, part, out=out[:, :channels])  # in place: a batch is cut at every training step
    out[:, channels:] = part
    return out
