"""The table of posterior means and intervals: every number by a name that its reader knows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.outputs import put

if TYPE_CHECKING:
    from jensen.inference.summary import Marginal
    from jensen.report import Estimate

__all__ = ["Named", "Names", "estimates", "write_estimates"]

Names = Sequence[str]


@dataclass(frozen=True)
class Named:
    """What a latent is called, and the names along its dimensions.

    Args:
        title: of its rows.
        axes: names along the first dimensions; what has none is numbered, a dimension of length 1 is left out.
        whats: other words for what `jensen.inference.summary.marginals` calls its parts.
        axes_of: names for one of those parts, where they differ.
    """

    title: str
    axes: tuple[Names, ...] = ()
    whats: Mapping[str, str] = field(default_factory=dict)
    axes_of: Mapping[str, tuple[Names, ...]] = field(default_factory=dict)


def estimates(posterior: Mapping[str, Any], named: Mapping[str, Named], level: float) -> list[Estimate]:
    """A row for each number that the posterior is about; latents that `named` leaves out keep their own names."""
    import numpy as np

    from jensen.inference.summary import marginals

    found: list[Estimate] = []
    for latent, q in posterior.items():
        names = named.get(latent, Named(latent))
        with np.errstate(divide="ignore"):  # of one row, an interval may end at infinity
            found.extend(row for marginal in marginals(q, level) for row in _rows(marginal, names))
    return found


def _rows(marginal: Marginal, named: Named) -> Iterator[Estimate]:
    import numpy as np

    from jensen.report import Estimate

    what = named.whats.get(marginal.what, marginal.what)
    group = f"{named.title}: {what}" if what else named.title
    axes = named.axes_of.get(marginal.what, named.axes)
    for index in np.ndindex(marginal.mean.shape):
        parts = [
            axes[place][at] if place < len(axes) else str(at)
            for place, at in enumerate(index)
            if place < len(axes) or marginal.mean.shape[place] > 1
        ]
        values = (float(array[index]) for array in (marginal.mean, marginal.lower, marginal.upper))
        yield Estimate(group, ", ".join(part for part in parts if part) or named.title, *values)


def write_estimates(path: Path, rows: Sequence[Estimate], level: float) -> None:
    """As CSV: group, name, mean, lower, upper; numbers with all their digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("group", "name", "mean", f"lower {level:g}", f"upper {level:g}"))
    writer.writerows(rows)
    text = buffer.getvalue()
    put(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
