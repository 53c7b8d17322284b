"""What an encoder sees of the words of a document."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jensen.nn.features import Features

__all__ = ["WordFeatures"]


class WordFeatures(Features):
    """log(1 + count) of each word, brought to a length of sqrt(size): (batch, size) to (batch, size).

    So a long document is no larger than a short one, and its frequent words do not drown the others; numbers are about
    1 in the mean square, as networks like them. A document without words is zero.

    Args:
        size: words of the vocabulary.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.log1p(x)
        out: Tensor = seen * (
            math.sqrt(self.size) / torch.linalg.vector_norm(seen, dim=-1, keepdim=True).clamp_min(1e-6)
        )
        return out
