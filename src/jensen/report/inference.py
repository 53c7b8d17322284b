"""report.html of a posterior: how it was found, what it says of each number, and the model's own pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jensen.files import write_text
from jensen.report.html import Picture, Row, embed, render

__all__ = ["Estimate", "InferencePage", "number", "write_inference_report"]

_MOST_SHOWN = 200


class Estimate(NamedTuple):
    """What the posterior says of one number."""

    group: str
    """which latent it belongs to; stands once above its rows"""
    name: str
    mean: float
    lower: float
    upper: float


@dataclass(frozen=True)
class InferencePage:
    """All that the page of a posterior says; the pictures come in this order.

    Args:
        title, summary: the heading, and a sentence or two below it.
        facts: the headline table: ELBO, sweeps and what else tells how it went.
        notes: warnings in words.
        estimates: rows of the table of posterior means and intervals; of more than 200 the first are shown.
        level: probability of the intervals.
        everything: where all rows are, e.g. "posterior.csv".
        pictures: the ELBO and the model's own.
        configuration: text of config.yaml.
        commands: what a reader may want to do next: (purpose, command).
    """

    title: str
    summary: str
    facts: Sequence[Row]
    estimates: Sequence[Estimate]
    level: float = 0.95
    everything: str = ""
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    configuration: str = ""
    commands: Sequence[tuple[str, str]] = field(default_factory=tuple)


def write_inference_report(folder: Path, page: InferencePage) -> Path:
    """Write FOLDER/report.html, and its pictures to FOLDER/figures/report/; returns the page's path.

    One self-contained file that loads nothing; it appears whole or not at all. The same page gives the same file.
    """
    shown = page.estimates[:_MOST_SHOWN]
    groups: dict[str, list[Estimate]] = {}
    for estimate in shown:
        groups.setdefault(estimate.group, []).append(estimate)
    text = render(
        "inference.html",
        name=page.title,
        summary=page.summary,
        rows=page.facts,
        notes=page.notes,
        groups=groups,
        shown=len(shown),
        total=len(page.estimates),
        everything=page.everything,
        percent=f"{100 * page.level:g}%",
        number=number,
        pictures=embed(folder / "figures" / "report", page.pictures),
        configuration=page.configuration,
        commands=page.commands,
    )
    path = folder / "report.html"
    write_text(path, text)
    return path


def number(value: float) -> str:
    """Four significant digits, a true minus sign, no exponent where it can be avoided."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    size = abs(value)
    if value == 0:
        return "0"
    if not 1e-4 <= size < 1e7:
        text = f"{value:.3e}"
    else:
        text = f"{value:,.{min(max(0, 3 - math.floor(math.log10(size))), 7)}f}"
    return text.replace("-", "−")
