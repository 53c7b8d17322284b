"""`jensen impute`: the gaps of a table, filled in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jensen.cli.conditions import Attributes, Label
from jensen.cli.inputs import Scale, conditioned
from jensen.cli.models import coder
from jensen.cli.options import DataDirectory, Force, RunPath, Seed, whole
from jensen.cli.outputs import claim
from jensen.cli.screen import progress, say, table, warn
from jensen.cli.table_inputs import columns_of, read_rows, row_cells, write_table
from jensen.errors import JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.cli.table_inputs import Rows
    from jensen.config.columns import Column
    from jensen.training import Run

__all__ = ["impute"]

FEW = 10.0
"""effective draws below which a mean over them is mostly chance"""


def impute(
    run: RunPath,
    file: Annotated[
        Path | None, Parameter(name="FILE", help="table with gaps, .csv or .parquet; none: that of the run")
    ] = None,
    /,
    *,
    output: Annotated[
        Path, Parameter(name=("--output", "-o"), metavar="FILE", help="where to write the table without gaps, .csv")
    ],
    samples: Annotated[int, Parameter(converter=whole(1), metavar="INT", help="draws of the latents a row")] = 1000,
    label: Label = None,
    attributes: Attributes = None,
    seed: Seed = 0,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Fill in what is missing in a table, by what is known of the same row.

    A number becomes its mean over draws of the latents that suit the row, a
    count the same, rounded, a category the most probable one. What is known
    stays as it is in the file, as do columns that the run does not know. A
    column that the file lacks is added.

    jensen train --data patients.csv --run runs/patients
    jensen impute runs/patients -o filled.csv
    jensen impute runs/patients new.csv -o new-filled.csv
    """
    from jensen.metrics.imputation import impute as fill
    from jensen.training import Run

    opened = Run.open(run)
    columns = columns_of(opened)
    if not columns:
        raise JensenError(f"{run} is not of a table of your own (.csv, .parquet), so there are no gaps to fill")
    path = claim(output, output, (".csv", ".tsv"), force)
    model = coder(opened, "impute")
    scale = Scale.of(opened, data_directory)
    rows = read_rows(opened, file or _own(opened, data_directory), scale)
    inputs = rows.inputs
    if inputs.condition is None or label is not None:
        inputs = conditioned(opened, inputs, label, attributes)
    with progress("filling in") as moved:
        found = fill(model, inputs.values, samples=samples, condition=inputs.condition, seed=seed, progress=moved)
    filled = scale.to_own(found.values)
    counts = _write(path, rows, columns, filled)
    say(f"{sum(counts):,} gaps filled in {len(filled):,} rows: {path}")
    table([(c.name, c.kind, f"{n:,}") for c, n in zip(columns, counts, strict=True) if n], ["column", "kind", "gaps"])
    gappy = inputs.values.isnan().any(1)
    poor = int((gappy & (found.effective < min(FEW, samples))).sum())
    if opened.config.model.kind != "autoencoder" and poor > 0.1 * int(gappy.sum()):
        warn(
            f"in {poor:,} of {int(gappy.sum()):,} rows with gaps, fewer than {FEW:g} draws of {samples:,} count: "
            "more --samples make the means steadier"
        )


def _own(run: Run, directory: Path | None) -> Path:
    """The table that a run was trained on."""
    from jensen.data.own import own_path

    config = run.config.data
    return own_path(config if directory is None else config.model_copy(update={"directory": directory}))


def _write(path: Path, rows: Rows, columns: tuple[Column, ...], filled: Tensor) -> list[int]:
    """The file's cells with its gaps filled, and columns added that it has not; gives gaps filled, a column."""
    names, texts = list(rows.cells.names), row_cells(columns, filled, whole_counts=True)
    gaps, counts = rows.inputs.values.isnan(), []
    cells = [list(row) for row in rows.cells.rows]
    for place, (column, where) in enumerate(zip(columns, rows.places, strict=True)):
        missing = gaps[:, place].nonzero()[:, 0].tolist()
        if where is None:
            names.append(column.name)
            for row, text in zip(cells, texts, strict=True):
                row.append(text[place])
        elif column.kind == "categorical":  # a category that the run does not know is no gap of the file
            missing = [row for row in missing if rows.is_gap(row, where)]
        if where is not None:
            for row in missing:
                cells[row][where] = texts[row][place]
        counts.append(len(missing))
    write_table(path, names, cells, rows.cells.delimiter)
    return counts
