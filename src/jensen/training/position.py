"""Where training stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Position"]


@dataclass
class Position:
    """Where training stands: kept in the checkpoint, whole."""

    epoch: int = 0  # epochs completed
    batch: int = 0  # steps taken in the epoch under way
    step: int = 0  # steps taken in all
    seconds: float = 0.0  # spent training
    epoch_seconds: float = 0.0
    best: float = -math.inf
    best_epoch: int = 0
    finished: bool = False
    rows: list[dict[str, float]] = field(default_factory=list)
    totals: dict[str, float] = field(default_factory=dict)  # sums over the steps of the epoch under way
