"""From values that stand for symbols back to what can be read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jensen.errors import DataError

__all__ = ["shown", "to_text"]


def to_text(values: Tensor, symbols: Sequence[str]) -> list[str]:
    """The texts that a model's values stand for: `symbols[k]` for the value k / (K - 1), K symbols.

    Args:
        values: (B, 1, length) or (B, length), floating point in [0, 1]; each is rounded to the nearest symbol.
        symbols: of the data set, `Dataset.symbols`.

    Raises:
        DataError: other shapes, values outside [0, 1] or not finite, or integers (whose scale is not known).

    >>> to_text(torch.tensor([[[0.0, 0.5, 1.0]]]), ("a", "b", "c"))
    ['abc']
    """
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[1] != 1) or not values.is_floating_point():
        raise DataError(
            f"values should be (B, 1, length) or (B, length), floating point, not {tuple(values.shape)} {values.dtype}"
        )
    if len(symbols) < 2:
        raise DataError(f"text needs at least two symbols, but there are {len(symbols)}")
    inside = (values >= 0) & (values <= 1)  # false for NaN, too
    if not bool(inside.all()):
        raise DataError(f"value {float(values[~inside][0])} stands for no symbol; values should be in [0, 1]")
    levels = (values.flatten(1).double() * (len(symbols) - 1)).round().to(torch.int64)
    return ["".join(symbols[level] for level in row) for row in levels.tolist()]


def shown(text: str) -> str:
    """`text` in one line: what cannot be printed as Python's escapes, a backslash doubled."""
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode("ascii") for c in text)
