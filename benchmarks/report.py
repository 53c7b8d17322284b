"""What every benchmark reports: a table for people, the same rows as JSON, and the machine they come from."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from jensen.files import write_text

__all__ = ["Machine", "Report", "Row", "command_line", "parser", "processor_flags", "row_of"]

CPUINFO = Path("/proc/cpuinfo")
FILE_WIDTH = 120  # of output that goes to no terminal


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` above 1 means that ours is better, whatever the unit."""

    case: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio: float
    target: float | None
    """smallest ratio that was aimed at; None: only reported"""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None where there is none."""
        return None if self.target is None else self.ratio >= self.target


def row_of(
    case: str,
    ours: float,
    peer: float,
    peer_name: str,
    unit: str,
    *,
    target: float | None = None,
    higher_is_better: bool = True,
    note: str = "",
) -> Row:
    """A row of two positive numbers, with the ratio that is above 1 where ours is better.

    Raises:
        ValueError: a number is not positive, so that a ratio would mean nothing.
    """
    if not (ours > 0 and peer > 0):
        raise ValueError(f"{case}: a ratio needs two positive numbers, got {ours} and {peer}")
    ratio = ours / peer if higher_is_better else peer / ours
    return Row(case, ours, peer, peer_name, unit, ratio, target, note)


@dataclass(frozen=True)
class Machine:
    """Where and when a benchmark ran."""

    date: str
    processor: str
    cores: int
    threads: int
    python: str
    torch: str
    command: str

    @classmethod
    def here(cls, command: str) -> Machine:
        """This machine, now."""
        return cls(
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            processor=_processor(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            python=platform.python_version(),
            torch=torch.__version__,
            command=command,
        )


@dataclass(frozen=True)
class Report:
    """Rows, the machine, and remarks that a reader needs to judge them."""

    benchmark: str
    machine: Machine
    quick: bool
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    def to_json(self) -> str:
        """As JSON text; raises ValueError if a number is NaN or infinite."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Write the JSON in one piece; folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self.to_json())

    def show(self, console: Console | None = None) -> None:
        """Print the table, the remarks and the machine."""
        if console is None:
            console = Console()
            if not console.is_terminal:
                console.width = FILE_WIDTH
        table = Table(title=self.benchmark + (" (quick)" if self.quick else ""), title_justify="left")
        for name in ("case", "ours", "peer", "peer is", "unit", "ratio", "target", "met"):
            numeric = name in ("ours", "peer", "ratio", "target")
            table.add_column(name, justify="right" if numeric else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*self._cells(row))
        console.print(table)
        for row in self.rows:
            if row.note:
                console.print(f"{row.case} (peer: {row.peer_name}): {row.note}", highlight=False)
        for note in self.notes:
            console.print(note, highlight=False)
        machine = self.machine
        console.print(
            f"{machine.date}, {machine.processor}, {machine.cores} cores, {machine.threads} threads, "
            f"torch {machine.torch}, Python {machine.python}: {machine.command}",
            highlight=False,
        )

    def _cells(self, row: Row) -> tuple[str, ...]:
        target = "-" if row.target is None else f"{row.target:.4g}"
        met = "not judged" if self.quick else {None: "-", True: "yes", False: "NO"}[row.met]
        numbers = (_number(row.ours), _number(row.peer))
        return (row.case, *numbers, row.peer_name, row.unit, f"{row.ratio:.3f}", target, met)


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    result = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    result.add_argument("--quick", action="store_true", help="under a minute: does it run? Its numbers mean nothing")
    result.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    return result


def command_line(name: str, arguments: Iterable[str] | None = None) -> str:
    """The command that was given, as one can type it again."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return shlex.join(["python", "-m", f"benchmarks.{name}", *given])


def processor_flags() -> frozenset[str]:
    """Instruction sets of this processor as Linux names them; empty on other systems."""
    return frozenset((_cpuinfo("flags") or "").split())


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key: str) -> str | None:
    try:
        text = CPUINFO.read_text(encoding="utf-8")
    except OSError:
        return None
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), None)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) < 10 else f"{value:.2f}"
