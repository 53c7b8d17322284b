"""Data that are symbols, such as the characters of a text, as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.training import Run

__all__ = ["right", "symbols_of", "texts"]


def symbols_of(run: Run) -> tuple[str, ...]:
    """The symbols that a run's model decodes to; none where its data are numbers."""
    return run.own_facts.symbols if run.config.data.target is None else ()


def texts(values: Tensor, symbols: Sequence[str], names: Sequence[str] = ()) -> str:
    """Values (B, 1, length) as text, with a line before each that names it (its number, if there are no `names`)."""
    from jensen.data import to_text

    found = to_text(values, symbols)
    each = names or [str(place) for place in range(1, len(found) + 1)]
    return "\n".join(f"--- {name}\n{text}" for name, text in zip(each, found, strict=True))


def right(values: Tensor, restored: Tensor, symbols: Sequence[str]) -> float:
    """Share of the symbols that are the same in both."""
    steps = len(symbols) - 1
    return float(((values * steps).round() == (restored * steps).round()).float().mean())
