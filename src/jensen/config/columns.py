"""What a column of a table holds."""

from __future__ import annotations

from typing import Literal

from jensen.sections import Section

__all__ = ["Column"]


class Column(Section):
    """A column of a table: real numbers, one of some categories, or a count.

    In arrays a category is its place in `categories`, and what is missing is NaN.
    """

    name: str
    kind: Literal["real", "categorical", "count"] = "real"
    categories: tuple[str, ...] = ()
