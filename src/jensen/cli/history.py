"""What a run's history says at its best epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Best", "best"]

SCORES = ("iwae", "elbo", "log_likelihood")
"""Validation columns in nats, higher better; the first that a history has is what its objective climbs."""


class Best(NamedTuple):
    """The best validation value of a history."""

    name: str
    value: float
    epoch: int


def best(history: Mapping[str, Sequence[float]]) -> Best | None:
    """The best epoch of `Run.history()`; None before the first has ended."""
    name = next((name for name in SCORES if history.get(f"valid/{name}")), None)
    if name is None:
        return None
    values = history[f"valid/{name}"]
    scores = history.get("valid/score")  # what weights are chosen by; runs of old have no such column
    if scores and not all(math.isclose(*pair, rel_tol=1e-5) for pair in zip(scores, values, strict=True)):
        name, values = "score", scores
    place = max(range(len(values)), key=lambda place: values[place])
    return Best(name.replace("_", "-"), values[place], int(history["epoch"][place]))
