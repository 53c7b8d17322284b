"""Rows with missing values, grouped by which values are there, and the few rows that say as much as all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["IncompleteRows", "Sums"]


class Sums(NamedTuple):
    """Of each column over its observed rows, shape (D,) each."""

    data: Tensor
    """of `count`"""
    weight: Tensor
    """of weight^2: equal to that, but for a part of compressed rows"""
    x: Tensor
    """of weight x"""
    square: Tensor
    """of x^2"""


@dataclass(frozen=True)
class IncompleteRows:
    """R rows of D columns of which some values are missing.

    A Gaussian likelihood sees rows with the same columns observed through their count, sum and scatter matrix alone. So
    `compressed()` puts a few rows in place of many: one is the mean times the root of the count, the others are the
    triangular factor of the centred rows, in which the mean has no part.

    Attributes:
        x: (R, D), 0 where a value is missing.
        weight: (R,), how often a row's columns contain their mean: 1 for a datum; root of the count, or 0.
        count: (R,), how many data a row stands for in normalising constants; may be 0.
        pattern: (R,) integers: which row of `observed` says what is there.
        observed: (G, D), 1.0 where a row of this pattern has a value, else 0.0.
    """

    x: Tensor
    weight: Tensor
    count: Tensor
    pattern: Tensor
    observed: Tensor

    @classmethod
    def from_array(cls, x: Tensor) -> IncompleteRows:
        """From (N, D) with NaN where a value is missing."""
        there = ~x.isnan()
        if bool(there.all()):
            observed, pattern = torch.ones_like(x[:1]), torch.zeros(len(x), dtype=torch.long, device=x.device)
        else:
            observed, pattern = torch.unique(there, dim=0, return_inverse=True)
            observed = observed.to(x.dtype)
        ones = torch.ones_like(x[:, 0])
        return cls(torch.where(there, x, 0.0), ones, ones, pattern, observed)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> IncompleteRows:
        """Some of the rows, by a slice or an index tensor."""
        used, pattern = torch.unique(self.pattern[index], return_inverse=True)
        return IncompleteRows(self.x[index], self.weight[index], self.count[index], pattern, self.observed[used])

    @cached_property
    def there(self) -> Tensor:
        """(R, D): 1.0 where a value is observed."""
        return self.observed[self.pattern]

    @cached_property
    def total(self) -> Tensor:
        """(G,): how many data each pattern has."""
        return self.count.new_zeros(len(self.observed)).index_add(0, self.pattern, self.count)

    @cached_property
    def sums(self) -> Sums:
        """What the noise and the mean see of the rows."""
        square = self.weight.square().new_zeros(len(self.observed)).index_add(0, self.pattern, self.weight.square())
        return Sums(self.total @ self.observed, square @ self.observed, self.weight @ self.x, self.x.square().sum(0))

    def compressed(self) -> IncompleteRows:
        """The same sufficient statistics in at most D + 1 rows for each pattern; rows without a value are left out."""
        order = torch.argsort(self.pattern, stable=True)
        sizes = torch.bincount(self.pattern, minlength=len(self.observed)).tolist()
        parts = []
        for group, rows in enumerate(order.split(sizes)):
            columns = self.observed[group].bool()
            width = int(columns.sum())
            if width == 0:
                continue
            x, weight, count = self.x[rows], self.weight[rows], self.count[rows]
            if len(rows) > width + 1:
                x, weight, count = _compress(x, columns, weight, count)
            parts.append((x, weight, count, torch.full_like(weight, group, dtype=torch.long)))
        x, weight, count, pattern = (torch.cat(p) for p in zip(*parts, strict=True))
        used, pattern = torch.unique(pattern, return_inverse=True)
        return IncompleteRows(x, weight, count, pattern, self.observed[used])


def _compress(x: Tensor, columns: Tensor, weight: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of one pattern, as x, weight and count of D + 1 rows.

    Centred before they are multiplied: x^T x of data far from the origin would lose the digits of their spread.
    """
    size = weight.square().sum()
    mean = (weight @ x) / size
    centred = x - weight.unsqueeze(-1) * mean
    factor = torch.linalg.qr(centred[:, columns], mode="r").R
    rest = x.new_zeros(len(factor), x.shape[1])
    rest[:, columns] = factor
    zeros = x.new_zeros(len(factor))
    return (
        torch.cat([size.sqrt() * mean.unsqueeze(0), rest]),
        torch.cat([size.sqrt().reshape(1), zeros]),
        torch.cat([count.sum().reshape(1), zeros]),
    )
