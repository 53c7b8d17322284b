"""What is wrong with a log joint, in words: whose shapes, which term, which number of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["dtype_hint", "entries", "not_a_term", "not_finite", "shapes", "unfinished"]


def shapes(values: Mapping[str, Any]) -> str:
    """`mu (), y (8,)`; the kind of what is no tensor."""
    found = (f"{n} {tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__}" for n, v in values.items())
    return ", ".join(found) or "none"


def entries(data: Any) -> dict[str, Any]:
    """The entries of data; a tensor is called "data"."""
    return {"data": data} if isinstance(data, Tensor) else dict(data)


def not_a_term(name: str, value: Any) -> str:
    """Of what the log joint returned."""
    return f"term {name!r} of the log joint is a {type(value).__name__}: a log density is a tensor or a number"


def unfinished(data: Any) -> str:
    """Where data hold NaN or infinity: the first place of each entry; empty where they do not."""
    parts = []
    for name, entry in entries(data).items():
        if isinstance(entry, Tensor) and entry.is_floating_point() and not bool(entry.isfinite().all()):
            place = _place(~entry.isfinite())
            what = "" if isinstance(data, Tensor) else f" {name!r}"
            parts.append(f"; data{what} {_have(data)} {float(entry[place])} at {list(place)}: leave out, or model it")
    return "".join(parts)


def _have(data: Any) -> str:
    return "have" if isinstance(data, Tensor) else "has"


def _place(bad: Tensor) -> tuple[int, ...]:
    return tuple(bad.nonzero()[0].tolist())


def not_finite(bad: Sequence[str], found: Mapping[str, Tensor], data: Any) -> str:
    """Terms, (draws, *plates) each, that are not finite, and where; and what in the data may be the cause."""
    words = []
    for name in bad:
        first = found[name][0]
        wrong = ~first.isfinite()
        place = _place(wrong)
        where = f" at {list(place)}" if place else ""
        words.append(f"term {name!r} is {float(first[place])}{where}")
    return "the log joint is not finite at the start: " + ", ".join(words) + unfinished(data)


def dtype_hint(data: Any) -> str:
    """Which data are floating but not of the latents' double precision; empty where all are."""
    single = [
        n
        for n, v in entries(data).items()
        if isinstance(v, Tensor) and v.is_floating_point() and v.dtype != torch.float64
    ]
    if not single:
        return ""
    return f"; latents are float64, but {', '.join(single)} of the data not: if precisions clash, give .double()"
