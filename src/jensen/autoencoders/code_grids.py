"""Codes of all levels in one row, and as they lie on the grid of each level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["flat_codes", "split_codes"]


def split_codes(codes: Tensor, shapes: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Flat codes (..., latent) as those of each level, (..., books, *grid), in the order of `shapes`."""
    parts = codes.split([math.prod(shape) for shape in shapes], -1)
    return tuple(part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True))


def flat_codes(grids: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> Tensor:
    """The reverse of `split_codes`: (..., latent)."""
    parts = zip(grids, shapes, strict=True)
    return torch.cat([grid.flatten(grid.ndim - len(shape)) for grid, shape in parts], -1)
