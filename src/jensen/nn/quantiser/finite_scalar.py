"""Finite scalar quantisation: each number of a code is rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jensen.nn.quantiser.base import Quantised
from jensen.nn.quantiser.nearest import StraightThrough
from jensen.nn.quantiser.places import PlacewiseQuantiser, Projection

__all__ = ["FiniteScalarQuantiser"]

MARGIN = 1e-3  # by which the bounds exceed the outermost values, so that they are reached


class FiniteScalarQuantiser(PlacewiseQuantiser):
    """A few numbers, each bounded and rounded to one of its few values (Mentzer et al. 2023).

    The i-th number, of L_i values, is tanh(z + shift) h - offset, rounded, with h = (L_i - 1) (1 + 0.001) / 2, the
    offset 1/2 where L_i is even (0 otherwise), and the shift such that 0 stays 0. Divided by floor(L_i / 2) it lies
    in [-1, 1]. For two values there is no shift: it would put the step between them at z = -3.8, where it is now at 0.
    The gradient of rounding is 1. A code is one integer, the number of the first value changing fastest. Nothing is
    learned but the linear maps, so there are no penalties and no codes to die.

    Args:
        values: L_i, values that each number takes; there are prod(L_i) codes.
        dim: channels of features and embeddings, brought to len(values) and back by linear maps where that differs;
            None: len(values).

    Raises:
        ValueError: no values, or fewer than two of one.
    """

    def __init__(self, values: Sequence[int] = (8, 5, 5, 5), dim: int | None = None) -> None:
        if not values or min(values) < 2:
            raise ValueError(f"values should be some numbers of 2 or more, got {tuple(values)}")
        dim = len(values) if dim is None else dim
        super().__init__(math.prod(values), dim)
        self.values = tuple(values)
        mapped = dim != len(values)
        self.into: nn.Module = Projection(dim, len(values)) if mapped else nn.Identity()
        self.out: nn.Module = Projection(len(values), dim) if mapped else nn.Identity()
        self.sizes: Tensor
        self.steps: Tensor
        column = torch.tensor(values)[:, None]
        self.register_buffer("sizes", column, persistent=False)
        self.register_buffer("steps", column.cumprod(0) // column, persistent=False)

    def _quantise(self, features: Tensor) -> Quantised:
        bounded = self._bounded(self.into(features))
        # A number of a thousand values or more would leave the margin for the next value.
        whole = bounded.detach().round().clamp(min=-(self.sizes // 2), max=(self.sizes - 1) // 2)
        codes = ((whole.long() + self.sizes // 2) * self.steps).sum(1, keepdim=True)
        rounded: Tensor = StraightThrough.apply(bounded, whole)  # type: ignore[no-untyped-call]
        return Quantised(self.out(rounded / (self.sizes // 2)), codes)

    def _embed(self, codes: Tensor) -> Tensor:
        whole = codes // self.steps % self.sizes - self.sizes // 2
        embedding: Tensor = self.out(whole.to(self._number.dtype) / (self.sizes // 2))
        return embedding

    def _bounded(self, numbers: Tensor) -> Tensor:
        """In (-L/2, L/2), so that what it is rounded to is one of L values."""
        half = (self.sizes - 1).to(numbers.dtype) * ((1 + MARGIN) / 2)
        offset = torch.where(self.sizes % 2 == 0, 0.5, 0.0).to(numbers.dtype)
        shift = torch.where(self.sizes == 2, torch.zeros_like(offset), torch.atanh(offset / half))
        return torch.tanh(numbers + shift) * half - offset
