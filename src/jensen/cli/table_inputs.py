"""Tables that commands read for a run and write for a reader: named columns, categories as text, own units."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jensen.cli.conditions import own_told
from jensen.cli.inputs import Inputs, Scale, conditioned, read
from jensen.cli.outputs import put
from jensen.cli.screen import warn
from jensen.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.config.columns import Column
    from jensen.data.table_file import Cells
    from jensen.training import Run

__all__ = [
    "TABLES",
    "Rows",
    "columns_of",
    "how_well",
    "read_rows",
    "read_told",
    "row_cells",
    "write_rows",
    "write_table",
]

TABLES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Rows:
    """Rows of a file as they are in it, and as the model sees them."""

    cells: Cells
    inputs: Inputs
    places: tuple[int | None, ...]
    """of each column of the model among those of the file; None: the file has no such column"""
    missing: frozenset[str]
    """what stands for a gap"""

    def is_gap(self, row: int, place: int) -> bool:
        """Whether a cell of the file is a gap."""
        return _gap(self.cells.rows[row][place], self.missing)


def columns_of(run: Run) -> tuple[Column, ...]:
    """The columns of what a run decodes; none where that is no table whose columns are known."""
    return () if run.config.data.target is not None else run.own_facts.columns


def read_told(
    run: Run,
    files: Sequence[Path],
    scale: Scale,
    label: str | None = None,
    attributes: str | None = None,
    other: Path | None = None,
) -> Inputs:
    """What files hold, tables too, with what a conditional model is told: by the user, or by the column of classes.

    Raises:
        JensenError: a file cannot be read or does not fit; the run needs to be told something that is not given.
    """
    if any(path.suffix.lower() in TABLES for path in files):
        if len(files) > 1:
            raise DataError(f"give one table, not {len(files)} files")
        inputs = read_rows(run, files[0], scale).inputs
        if inputs.condition is not None and label is None:
            return inputs
    else:
        inputs = read(files, run.facts.shape, scale)
    return conditioned(run, inputs, label, attributes, other)


def read_rows(run: Run, path: Path, scale: Scale | None = None) -> Rows:
    """The rows of a table, whose columns are found by their names, in any order; others are not looked at.

    A column that is not there is all gaps, and a category that the run does not know is a gap; lines on stderr say so.
    A run that is told a class reads it from its column of classes, where the file has it.

    Raises:
        DataError: the file cannot be read, has none of the columns, or a cell is not what its column holds.
    """
    import numpy as np
    import torch

    from jensen.data.table import column_values, missing_words
    from jensen.data.table_file import listed, read_cells

    columns = columns_of(run)
    if not columns:
        raise DataError(f"{path}: {run.path} knows no names of columns; give .npz or .npy")
    cells, missing = read_cells(path), missing_words(run.config.data)
    absent = [column.name for column in columns if column.name not in cells.names]
    if len(absent) == len(columns):
        raise DataError(f"{path} has none of the columns of {run.path}: {listed(absent)}; it has {listed(cells.names)}")
    if absent:
        warn(f"{path} has no column {listed(absent)}: taken as missing in every row")
    values = np.full((len(cells), len(columns)), np.nan)
    for place, column in enumerate(columns):
        if column.name in absent:
            continue
        words = cells.column(column.name)
        values[:, place] = column_values(words, column, missing, cells.source)
        gaps = sum(_gap(word, missing) for word in words)
        if (unknown := int(np.isnan(values[:, place]).sum()) - gaps) > 0 and column.kind == "categorical":
            first = next(i for i, word in enumerate(words) if np.isnan(values[i, place]) and not _gap(word, missing))
            warn(
                f"{path}: {unknown:,} values of column {column.name!r} are no category that {run.path} knows, e.g. "
                f"{words[first].strip()[:40]!r} in row {first + 1}: taken as missing"
            )
    x = (Scale.of(run) if scale is None else scale).to_model(torch.from_numpy(values.astype(np.float32)))
    inputs = Inputs(x, [f"{path.stem}-{row:05d}" for row in range(len(cells))])
    told = _classes(run, cells, missing)
    places = tuple(cells.names.index(column.name) if column.name not in absent else None for column in columns)
    return Rows(cells, replace(inputs, condition=told, of_prior=told), places, missing)


def _gap(cell: str, missing: frozenset[str]) -> bool:
    return cell.strip().lower() in missing


def _classes(run: Run, cells: Cells, missing: frozenset[str]) -> Tensor | None:
    """The class of every row one-hot, where the model is told it and the file has it; zero where it is unknown."""
    import torch

    name, names = run.config.data.class_column, run.facts.condition_names
    if own_told(run) != "label" or name is None or name not in cells.names:
        return None
    found = torch.zeros(len(cells), len(names))
    for row, cell in enumerate(word.strip() for word in cells.column(name)):
        if cell in names:
            found[row, names.index(cell)] = 1.0
        elif run.config.data.labelled is None:
            what = "is missing" if _gap(cell, missing) else f"is {cell!r}, which {run.path} does not know,"
            raise DataError(f"{cells.source}: the class {name!r} {what} in row {row + 1}; give it, or --label for all")
    return found


def row_cells(columns: Sequence[Column], values: Tensor, *, whole_counts: bool = False) -> list[list[str]]:
    """Values in own units, (N, columns), as text: categories by name, nothing in a gap."""

    def text(column: Column, value: float) -> str:
        if value != value:
            return ""
        if column.kind == "categorical":
            return column.categories[round(value)]
        return str(round(value)) if column.kind == "count" and whole_counts else f"{value:.7g}"

    return [[text(column, value) for column, value in zip(columns, row, strict=True)] for row in values.tolist()]


def write_rows(
    path: Path, columns: Sequence[Column], values: Tensor, beside: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Values in own units, (N, columns), as a .csv or .tsv file, with further columns `beside` them."""
    beside = beside or {}
    rows = [[*row, *more] for row, *more in zip(row_cells(columns, values), *beside.values(), strict=True)]
    write_table(path, [*(column.name for column in columns), *beside], rows)


def write_table(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str = ",") -> None:
    """Cells of text under their names, as a .csv or .tsv file."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t" if path.suffix.lower() == ".tsv" else delimiter, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    text = buffer.getvalue()
    put(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def how_well(columns: Sequence[Column], values: Tensor, made: Tensor) -> str:
    """How near `made` comes to `values`, (N, columns) as the model sees them, where they are known, in words."""
    from jensen.metrics.columns import column_errors

    kinds: dict[str, list[float]] = {}
    for error in column_errors(columns, values, made):
        if error.value is not None:
            kinds.setdefault(error.kind, []).append(error.value)
    words = {
        "real": "root mean square error {:.3f} standard deviations",
        "count": "root mean square error of counts {:.3f}",
        "categorical": "{:.1%} of the categories wrong",
    }
    means = {kind: sum(found) / len(found) for kind, found in kinds.items()}
    return ", ".join(words[kind].format(mean) for kind, mean in means.items()) or "nothing known to compare with"
