"""What a metric returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Score"]


@dataclass(frozen=True)
class Score:
    """A metric's value and what it was made from.

    Attributes:
        value: the score, a fraction; higher is better.
        details: matrices (D, F) with a row a code and a column a factor, values per factor, and the like.
    """

    value: float
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and lists, fit for JSON or YAML."""
        return {"value": self.value, **{name: _plain(value) for name, value in self.details.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
