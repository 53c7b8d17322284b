"""Labels along a dimension: where they end up after an operation is where the dimension went."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["labels", "position"]


def labels(size: int) -> Tensor:
    """Distinct numbers between 1 and 2 for the elements of a dimension; the same ones at every call."""
    generator = torch.Generator().manual_seed(0)
    return 1 + torch.rand(size, generator=generator, dtype=torch.float64)


def position(found: Tensor, size: int, *, exact: bool = True) -> int | None:
    """The dimension along which a tensor made of `labels(size)` still holds them in order, each at its place.

    Zero and NaN stand for what came from elsewhere. None if there is no such dimension.
    """
    found = found.to(device="cpu", dtype=torch.float64)
    elsewhere = found.isnan() | (found == 0)
    for dim in reversed(range(found.dim())):
        length = min(found.shape[dim], size)
        expected = torch.full((found.shape[dim],), torch.inf, dtype=torch.float64)
        expected[:length] = labels(size)[:length]
        expected = expected.reshape(-1, *[1] * (found.dim() - dim - 1))
        same = found == expected if exact else (found - expected).abs() < 1e-9
        if bool((same | elsewhere).all()):
            return dim
    return None
