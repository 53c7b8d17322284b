"""A table of your own: real numbers, categories and counts, perhaps with gaps."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from jensen.config import DataConfig
from jensen.config.columns import Column
from jensen.data.dataset import Dataset
from jensen.data.partition import random
from jensen.data.table_file import (
    MISSING,
    Cells,
    as_numbers,
    in_order,
    is_number,
    listed,
    read_cells,
    require_column,
    word_of,
)
from jensen.errors import ConfigError, DataError

__all__ = ["MOST_CATEGORIES", "column_values", "load_table", "missing_words"]

MOST_CATEGORIES = 100
LARGEST = 1e30
"""of a number: its square should be one in single precision"""
COMMAS = re.compile(r"[+-]?\d+(,\d+)+(\.\d+)?|[+-]?\d+(\.\d{3})+,\d+")
"""numbers with a decimal comma, or with commas between thousands"""

Floats = npt.NDArray[np.float64]


def load_table(path: Path, config: DataConfig) -> Dataset:
    """The rows of a .csv, .tsv or .parquet file, (columns,) each.

    Columns that hold numbers are real, those that hold text categorical, unless `config` says otherwise: `categorical`,
    `counts`, `ignore`, and `class_column`, whose classes are labels and no part of the row. An empty cell, NA, NaN, ?
    and the words of `missing` are gaps. A column that never varies becomes categorical with one category: it then
    costs nothing, where the density of a constant has no bound. Splits are random, stratified by the classes.

    Raises:
        DataError: the file cannot be read; a column that is asked for is not there; a cell is not what its column
            holds; a column holds nothing, or too many categories.
        ConfigError: a column is asked to be two things, or there are too few rows for three splits.
    """
    cells = read_cells(path)
    kinds = _kinds(cells, config)
    missing = missing_words(config)
    labels, class_names = _classes(cells, config, missing)
    columns, values, constant = [], [], []
    for name in cells.names:
        if kinds[name] == "left out":
            continue
        column = _column(cells, name, kinds[name], missing)
        numbers = column_values(cells.column(name), column, missing, cells.source)
        if np.isnan(numbers).all():
            raise DataError(f"{cells.source}: column {name!r} holds nothing but gaps; leave it out: --ignore {name}")
        if (only := _only_value(column, numbers)) is not None:
            constant.append(name)
            column, numbers = Column(name=name, kind="categorical", categories=(only,)), numbers * 0
        columns.append(column)
        values.append(numbers)
    if not columns:
        raise DataError(f"{cells.source} has no column left to learn from; it has {listed(cells.names)}")
    x = np.stack(values, 1)
    remarks = _Remarks(cells, tuple(columns), x, constant)
    remarks.warn()
    return Dataset(
        name=config.title,
        values=torch.from_numpy(x.astype(np.float32)),
        shape=(len(columns),),
        levels=None,
        **random(len(x), validation=config.validation, labels=labels),
        labels=None if labels is None else torch.from_numpy(labels),
        class_names=class_names,
        columns=tuple(columns),
        suits="table",
        description=remarks.description,
    )


def missing_words(config: DataConfig) -> frozenset[str]:
    """What stands for a gap, in lower case."""
    if config.missing is None:  # the very same, by which the quick way of reading knows that there are no others
        return MISSING
    return MISSING | {word.strip().lower() for word in config.missing}


def _kinds(cells: Cells, config: DataConfig) -> dict[str, str]:
    """What each column is to be: real, categorical, count, left out; "" where its cells say."""
    asked = {
        "categorical": config.categorical or (),
        "count": config.counts or (),
        "left out": config.ignore or (),
    }
    kinds = dict.fromkeys(cells.names, "")
    for kind, names in asked.items():
        for name in names:
            require_column(name, cells.names, cells.source)
            if kinds[name] not in ("", kind):
                raise ConfigError(f"column {name!r} cannot be both: {kinds[name]} and {kind}; say one of them")
            kinds[name] = kind
    if config.class_column is not None:
        require_column(config.class_column, cells.names, cells.source)
        kinds[config.class_column] = "left out"
    return kinds


def _classes(
    cells: Cells, config: DataConfig, missing: Collection[str]
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """The class of every row, and their names."""
    name = config.class_column
    if name is None:
        return None, ()
    words = _words(cells.column(name), missing)
    gap = next((place for place, word in enumerate(words) if word is None), None)
    if gap is not None:
        raise DataError(f"{cells.source}: the class {name!r} is missing in row {gap + 1}; leave such rows out")
    known = [word for word in words if word is not None]
    names = in_order(known)
    if len(names) > MOST_CATEGORIES:
        raise DataError(
            f"{cells.source}: class column {name!r} has {len(names):,} classes, more than {MOST_CATEGORIES}: are these "
            "classes?"
        )
    places = {word: place for place, word in enumerate(names)}
    return np.array([places[word] for word in known], dtype=np.int64), names


def _words(cells: Sequence[str], missing: Collection[str]) -> list[str | None]:
    """Cells as names of categories, None where there is none; numbers in one way, so that 1 and 1.0 are the same."""
    numbers = as_numbers(cells, missing)
    if numbers is not None:
        return [None if np.isnan(number) else word_of(number) for number in numbers.tolist()]
    return [None if (word := cell.strip()).lower() in missing else word for cell in cells]


def _column(cells: Cells, name: str, kind: str, missing: Collection[str]) -> Column:
    """What a column holds, by what is asked for or by its cells."""
    column = cells.column(name)
    numbers = as_numbers(column, missing)
    if kind == "count" or (kind == "" and numbers is not None):
        return Column(name=name, kind="count" if kind else "real")
    if kind == "":
        _refuse_half_numbers(cells, name, column, missing)
    words = [word for word in _words(column, missing) if word is not None]
    names = in_order(words)
    if len(names) > MOST_CATEGORIES:
        what = (
            "nearly a different one in every row" if len(names) > 0.9 * len(words) else f"more than {MOST_CATEGORIES}"
        )
        raise DataError(
            f"{cells.source}: column {name!r} has {len(names):,} categories, {what} (row 1: {column[0][:40]!r}); leave "
            f"it out: --ignore {name}"
        )
    if len(names) > 20 and len(names) > 0.9 * len(words):
        warnings.warn(
            f"{cells.source}: nearly every row has a category of its own in column {name!r}: nothing can be learned of "
            f"it; --ignore {name} leaves it out",
            stacklevel=4,
        )
    return Column(name=name, kind="categorical", categories=names)


def _refuse_half_numbers(cells: Cells, name: str, column: Sequence[str], missing: Collection[str]) -> None:
    """Raise DataError of a column of text most of which is numbers, or numbers in another way of writing."""
    known = [(place, cell.strip()) for place, cell in enumerate(column) if cell.strip().lower() not in missing]
    commas = [(place, cell) for place, cell in known if COMMAS.fullmatch(cell)]
    plain = sum(is_number(cell) for _, cell in known)
    if commas and len(commas) + plain > 0.5 * len(known):
        place, cell = commas[0]
        raise DataError(
            f"{cells.source}: column {name!r} holds {cell!r} in row {place + 1}, a decimal comma or commas between "
            "thousands: write numbers like 1234.5"
        )
    if 2 * plain > len(known):
        place, cell = next((place, cell) for place, cell in known if not is_number(cell))
        raise DataError(
            f"{cells.source}: column {name!r} holds numbers, but {cell[:40]!r} in row {place + 1}; if that is a gap, "
            f"say --missing {_quoted(cell)}; if these are categories, --categorical {_quoted(name)}"
        )


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w.+-]+", word) else f'"{word}"'


def column_values(cells: Sequence[str], column: Column, missing: Collection[str], source: str) -> Floats:
    """The cells as the numbers that a model takes, (N,), NaN where there is a gap.

    A category is its place among the column's categories, and NaN where it is none of them.

    Raises:
        DataError: a cell of a real column or a count is none, or infinite; with its row.
    """
    if column.kind == "categorical":
        places = {word: float(place) for place, word in enumerate(column.categories)}
        return np.array([places.get(word, np.nan) if word is not None else np.nan for word in _words(cells, missing)])
    numbers = as_numbers(cells, missing)
    if numbers is None:
        known = [(place, cell.strip()) for place, cell in enumerate(cells) if cell.strip().lower() not in missing]
        if not known:
            return np.full(len(cells), np.nan)
        place, cell = next((place, cell) for place, cell in known if not is_number(cell))
        hint = (
            "a decimal comma? write 3.5" if COMMAS.fullmatch(cell) else f"if it is a gap, say --missing {_quoted(cell)}"
        )
        raise DataError(f"{source}: column {column.name!r} holds {cell[:40]!r} in row {place + 1}, no number; {hint}")
    numbers = np.where(np.isin(numbers, _numbers_among(missing)), np.nan, numbers)
    _check_numbers(numbers, column, source)
    return numbers


def _numbers_among(missing: Collection[str]) -> list[float]:
    """Words for a gap that are numbers, such as -999, however they are written in the cells."""
    return [float(word) for word in missing if is_number(word) and word != "nan"]


def _check_numbers(numbers: Floats, column: Column, source: str) -> None:
    """Raise DataError, with the row, of numbers that cannot be used."""
    known = np.where(np.isnan(numbers), 0.0, numbers)
    large = np.flatnonzero(~(np.abs(known) < LARGEST))
    if len(large):
        what = "infinite" if np.isinf(known[large[0]]) else f"{known[large[0]]:g}, too large"
        raise DataError(f"{source}: column {column.name!r} is {what} in row {large[0] + 1}; remove or replace it")
    if column.kind == "count" and len(bad := np.flatnonzero((known < 0) | (known != np.round(known)))):
        raise DataError(
            f"{source}: column {column.name!r} should be counts (0, 1, 2, ...), but holds {known[bad[0]]:g} in row "
            f"{bad[0] + 1}; leave it out of --counts"
        )


def _only_value(column: Column, numbers: Floats) -> str | None:
    """The one value of a column that never varies, as a word; None where it does."""
    known = numbers[~np.isnan(numbers)]
    if (known != known[0]).any():
        return None
    return column.categories[int(known[0])] if column.kind == "categorical" else word_of(float(known[0]))


@dataclass(frozen=True)
class _Remarks:
    """What is worth saying of a table that was read."""

    cells: Cells
    columns: tuple[Column, ...]
    x: Floats
    constant: Sequence[str]

    @property
    def description(self) -> str:
        """Kinds and gaps, in a line."""
        kinds = [column.kind for column in self.columns]
        counts = [f"{kinds.count(kind)} {kind}" for kind in ("real", "categorical", "count") if kind in kinds]
        gaps = float(np.isnan(self.x).mean())
        return f"{len(self.x):,} rows; columns: {', '.join(counts)}; " + (f"{gaps:.1%} gaps" if gaps else "no gaps")

    def warn(self) -> None:
        """Say what will be done all the same."""
        texts = []
        if self.constant:
            texts.append(f"never varies, so that there is nothing to learn of it: column {listed(self.constant)}")
        for place, column in enumerate(self.columns):
            values = self.x[:, place]
            known = values[~np.isnan(values)]
            if column.kind != "real":
                continue
            if len(known) >= 20 and (np.abs(np.diff(known)) == 1).all() and len(np.unique(known)) == len(known):
                texts.append(f"column {column.name!r} numbers the rows; --ignore {column.name} leaves it out")
            elif np.abs(known.astype(np.float32) - known).max() > 1e-3 * known.std():
                texts.append(
                    f"column {column.name!r} varies too little around {known.mean():.6g} for single precision; "
                    "subtract that first"
                )
        for text in texts:
            warnings.warn(f"{self.cells.source}: {text}", stacklevel=3)
