"""What commands print: aligned tables on a terminal and off it, and a bar for what takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

__all__ = ["hint", "progress", "say", "table", "warn"]


def say(text: str) -> None:
    """A line on stdout."""
    print(text)


def warn(text: str) -> None:
    """A line on stderr about what is done all the same."""
    print(f"jensen: warning: {text}", file=sys.stderr)


def hint(text: str) -> None:
    """A line on stderr about what could be better, or what to do next."""
    print(f"jensen: {text}", file=sys.stderr)


def table(rows: Sequence[Sequence[str]], headings: Sequence[str] = ()) -> None:
    """Columns, left-aligned; a terminal folds what is too wide, a file or pipe gets one line a row."""
    if not rows:
        return
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        grid = Table(box=None, show_header=bool(headings), pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for place in range(len(rows[0])):
            grid.add_column(headings[place] if headings else "", overflow="fold")
        for row in rows:
            grid.add_row(*(Text(cell) for cell in row))
        Console().print(grid, highlight=False)
        return
    lines = [list(headings), *rows] if headings else list(rows)
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, moved by calling what it gives with (done, total); None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
