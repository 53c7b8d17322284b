"""What an encoder sees of a row of a table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jensen.config.columns import Column
from jensen.nn.features import Features

__all__ = ["TableFeatures"]

COUNT_SCALE = 2.0
"""log(1 + count) is divided by it: up to 4 for counts of thousands, near what a standardised column has"""


class TableFeatures(Features):
    """Rows with gaps (NaN) as numbers that a network can start from.

    - real or count: the value, of a count log(1 + x) / 2, with 0 in a gap; and whether it is known, 1 or 0;
    - categorical: one-hot, all zero in a gap.

    Every column may have gaps, whether or not it had any in training.

    Args:
        columns: what each holds.
    """

    places: Tensor
    """of the columns of numbers, (numbers,)"""
    counts: Tensor
    """whether these are counts, (numbers,) bool"""
    owners: Tensor
    """the column that each number of the one-hot vectors is about, (categories in all,)"""
    category: Tensor
    """the category that it stands for"""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        numbers = [i for i, column in enumerate(columns) if column.kind != "categorical"]
        hot = [(i, k) for i, c in enumerate(columns) if c.kind == "categorical" for k in range(len(c.categories))]
        counts = [columns[i].kind == "count" for i in numbers]
        # not of the weights: they follow from the columns
        self.register_buffer("places", torch.tensor(numbers, dtype=torch.int64), persistent=False)
        self.register_buffer("counts", torch.tensor(counts, dtype=torch.bool), persistent=False)
        self.register_buffer("owners", torch.tensor([i for i, _ in hot], dtype=torch.int64), persistent=False)
        self.register_buffer("category", torch.tensor([float(k) for _, k in hot]), persistent=False)
        self.size = 2 * len(numbers) + len(hot)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, columns) to (batch, size)."""
        numbers = x.index_select(1, self.places)
        known = ~numbers.isnan()
        # the zero before the logarithm, so that no NaN comes back through its gradient
        filled = torch.where(known, numbers, 0.0)
        filled = torch.where(self.counts, filled.clamp_min(0).log1p() / COUNT_SCALE, filled)
        hot = x.index_select(1, self.owners) == self.category
        return torch.cat([filled, known.to(x.dtype), hot.to(x.dtype)], 1)
