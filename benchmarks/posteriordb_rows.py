"""Rows and tables from the records of posteriors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from benchmarks.posteriordb_ours import NEAR
from benchmarks.report import FILE_WIDTH, Row

__all__ = ["rows", "show_accuracy"]

Records: TypeAlias = Mapping[str, Mapping[str, Any]]
"""what `benchmarks.posteriordb` measured, by posterior"""

FAILED = 1e9
"""stands for infinity where JSON has none"""
TINY = 1e-9
"""keeps ratios finite"""
ERROR, LOW, HIGH, SHARE, FASTER = 0.1, 0.9, 1.1, 28 / 32, 10.0
COLUMNS = (
    "posterior",
    "error",
    "worst",
    "sd MF",
    "sd LR",
    "sd FR",
    "error FR",
    "k MF",
    "k FR",
    "gradients",
    "s",
    "s k-hat",
    "converged",
    "truly",
    "s FR",
)


def rows(records: Records, posteriordb: Sequence[str]) -> list[Row]:
    """A row for each posterior and peer, then those of the targets over all of posteriordb's."""
    found = [row for name, record in records.items() for row in _peer_rows(name, record)]
    return found + _summary({name: records[name] for name in posteriordb if name in records})


def show_accuracy(records: Records, console: Console | None = None) -> None:
    """The table of accuracy and honesty, a line for each posterior."""
    if console is None:
        console = Console()
        if not console.is_terminal:
            console.width = FILE_WIDTH + 60
    table = Table(title="errors of means in reference sds, sds over reference sds (medians over parameters)")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "posterior" else "right")
    for name, record in records.items():
        table.add_row(name, *_cells(record["mean_field"], record["full_rank"]))
    console.print(table)
    for name, record in records.items():
        for family in ("mean_field", "full_rank"):
            if _failed(record[family]):
                console.print(f"{name}, {family}: {record[family]['failed']}", highlight=False, markup=False)
        for peer, run in record["peers"].items():
            if _failed(run):
                console.print(f"{name}, {peer}: {run['failed']}", highlight=False, markup=False)


def _failed(fit: Mapping[str, Any]) -> bool:
    return "failed" in fit


def _cells(mean_field: Mapping[str, Any], full_rank: Mapping[str, Any]) -> list[str]:
    corrected = mean_field.get("linear_response", {})
    numbers = [
        _number(mean_field, "error"),
        _number(mean_field, "worst_error"),
        _number(mean_field, "sd_ratio"),
        _number(corrected, "sd_ratio"),
        _number(full_rank, "sd_ratio"),
        _number(full_rank, "error"),
        _number(mean_field, "k_hat"),
        _number(full_rank, "k_hat"),
        f"{mean_field['evaluations']:,}" if not _failed(mean_field) else "-",
        _number(mean_field, "seconds"),
        _number(mean_field, "diagnosis_seconds"),
    ]
    return [*numbers, _answer(mean_field, "converged"), _answer(mean_field, "true"), _number(full_rank, "seconds")]


def _number(fit: Mapping[str, Any], key: str) -> str:
    value = fit.get(key)
    return f"{value:.3g}" if isinstance(value, int | float) else "failed" if _failed(fit) else "-"


def _answer(fit: Mapping[str, Any], key: str) -> str:
    return {True: "yes", False: "NO", None: "-"}[fit.get(key)]


def _peer_rows(name: str, record: Mapping[str, Any]) -> list[Row]:
    fit = record["mean_field"]
    return [_against(name, fit, peer, run) for peer, run in record.get("peers", {}).items() if "failed" not in run]


def _against(name: str, fit: Mapping[str, Any], peer: str, run: Mapping[str, Any]) -> Row:
    reached = not _failed(fit) and fit["elbo"] is not None and fit["elbo"] >= run["elbo"] - NEAR
    seconds = fit["seconds"] if reached else FAILED
    note = (
        f"ELBO {_elbo(fit)} against {run['elbo']:.2f} after {run['steps']:,} steps"
        f"{'' if run['rested'] else ', all its time'}; it compiled for "
        f"{run['compile_seconds']:.1f} s before; error of its means {run['error']:.3g} sd"
    )
    if not reached:
        note += "; ours fell short of that ELBO, which counts as infinite seconds"
    return Row(name, seconds, run["seconds"], peer, "s", run["seconds"] / seconds, None, note)


def _elbo(fit: Mapping[str, Any]) -> str:
    return "failed" if _failed(fit) or fit["elbo"] is None else f"{fit['elbo']:.2f}"


def _summary(records: Records) -> list[Row]:
    if not records:
        return []
    fits = [record["mean_field"] for record in records.values()]
    errors = [math.inf if _failed(fit) else fit["error"] for fit in fits]
    ratios = [fit.get("linear_response", {}).get("sd_ratio", math.inf) for fit in fits]
    honest = sum(bool(fit.get("converged") and fit.get("true")) for fit in fits)
    false = sum(bool(fit.get("converged") and not fit.get("true")) for fit in fits)
    asked = math.ceil(SHARE * len(fits))
    all_ = f"of {len(fits)} posteriors"
    error, ratio = statistics.median(errors), statistics.median(ratios)
    off = max(abs(ratio - 1.0), TINY)
    found = [
        Row("median error of means", _json(error), ERROR, "limit", "reference sd", ERROR / max(error, TINY), 1.0, all_),
        Row(
            "median sd ratio, linear response", _json(ratio), 1.0, "reference", "ratio", (1.0 - LOW) / off, 1.0,
            f"{all_}; within {LOW}-{HIGH} where the ratio is at least 1",
        ),
        Row("converged as reported and truly", honest, asked, "asked", "posteriors", honest / asked, 1.0, all_),
        Row("failed but reported converged", false, 0.0, "asked", "posteriors", float(false == 0), 1.0, all_),
    ]  # fmt: skip
    return found + _speed(records)


def _speed(records: Records) -> list[Row]:
    fastest = []
    for name, record in records.items():
        against = _peer_rows(name, record)
        if against:
            fastest.append(min(against, key=lambda row: row.ratio))
    if not fastest:
        return []
    ordered = sorted(fastest, key=lambda row: row.ratio)
    middle, least = ordered[len(ordered) // 2], ordered[0]
    enough = sum(row.ratio >= FASTER for row in ordered)
    note = (
        f"{enough} of {len(ordered)} posteriors reach {FASTER:.0f}; median ratio with the peer's compilation counted "
        f"{statistics.median(_with_compilation(records, row) for row in ordered):,.3g}, of processor seconds alone "
        f"{statistics.median(_of_processor(records, row) for row in ordered):,.3g}"
    )
    return [
        Row(
            f"seconds, {what}: {row.case}",
            row.ours,
            row.peer,
            f"fastest: {row.peer_name}",
            "s",
            row.ratio,
            FASTER,
            text,
        )
        for what, row, text in (("median", middle, note), ("least", least, ""))
    ]


def _with_compilation(records: Records, row: Row) -> float:
    run = records[row.case]["peers"][row.peer_name]
    return float((run["seconds"] + run["compile_seconds"]) / row.ours)


def _of_processor(records: Records, row: Row) -> float:
    """The ratio on a machine that others use too."""
    fit, run = records[row.case]["mean_field"], records[row.case]["peers"][row.peer_name]
    return 0.0 if row.ours == FAILED else float(run["cpu_seconds"] / fit["cpu_seconds"])


def _json(number: float) -> float:
    return number if math.isfinite(number) else FAILED
