"""Files of tables: what is in the cells, and where a file is wrong."""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jensen.data.declared import memory, require_file
from jensen.errors import DataError

__all__ = [
    "MISSING",
    "Cells",
    "as_numbers",
    "in_order",
    "is_number",
    "listed",
    "read_cells",
    "read_text",
    "require_column",
    "word_of",
]

MISSING = frozenset({"", "?", "n/a", "na", "nan", "none", "null"})
"""What stands for a missing value in a text file, in any case."""

DELIMITERS = ",;\t"
LONGEST = 2**24
"""characters of a line"""
CELL = 16
"""bytes, at the very least, of a cell in memory"""


@dataclass(frozen=True)
class Cells:
    """A table as it is in its file: every cell as text, without what is around it."""

    source: str
    names: tuple[str, ...]
    rows: list[list[str]]
    """a list a row, each as long as `names`"""
    delimiter: str = ","

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.names.index(name)
        return [row[place] for row in self.rows]


def read_cells(path: Path) -> Cells:
    """The table in a .csv, .tsv, .txt or .parquet file.

    Raises:
        DataError: it is missing, damaged or of another kind; names of columns are missing or not different; a row has
            another number of cells than the header.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a file")
    require_file(path)
    return _read_parquet(path) if path.suffix.lower() == ".parquet" else read_text(path)


def read_text(path: Path) -> Cells:
    """A table of text: UTF-8, values between commas, semicolons or tabs, perhaps quoted; names in the first line.

    Raises:
        DataError: as `read_cells`.
    """
    rows: list[list[str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _lines(path, file)
            first = next(lines, "")
            delimiter = _delimiter(first)
            names = _names(path, next(csv.reader([first.rstrip("\r\n")], delimiter=delimiter), []), first)
            reader = csv.reader(lines, delimiter=delimiter)
            for row in reader:
                if len(row) != len(names) and row:
                    raise DataError(
                        f"{path}: row {len(rows) + 1} has {len(row)} values, but the header has {len(names)} (line "
                        f"{reader.line_num + 1} of the file)"
                    )
                if row:
                    rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = "; save it as UTF-8" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(f"{path} cannot be read as text: {error}{hint}") from None
    if not rows:
        raise DataError(f"{path} has a header and no rows")
    return Cells(str(path), tuple(names), rows, delimiter)


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    """Lines of a file of text; raises `DataError` at one that no table has, before it fills memory."""
    for line in iter(partial(file.readline, LONGEST), ""):
        if len(line) == LONGEST:
            raise DataError(f"{path} has a line of more than {LONGEST:,} characters: is it a table of text?")
        yield line


def _delimiter(line: str) -> str:
    """What stands between values, by the first line outside of quotes."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(DELIMITERS, key=bare.count) if any(mark in bare for mark in DELIMITERS) else ","


def _names(path: Path, cells: Sequence[str], line: str) -> list[str]:
    """Names of the columns."""
    names = [name.strip() for name in cells]
    if not any(names):
        raise DataError(f"{path} is empty or begins with an empty line; its first line should name the columns")
    if all(is_number(name) for name in names):
        raise DataError(f"{path} begins with numbers ({line.strip()[:40]}); its first line should name the columns")
    names = [name or f"column {place}" for place, name in enumerate(names)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two columns called {twice!r}")
    return names


def _read_parquet(path: Path) -> Cells:
    """Every cell as text: numbers with all their digits, no text where there is no value."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(f"{path}: reading .parquet needs pyarrow: pip install 'jensen[parquet]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            told = file.metadata
            if told.num_rows * told.num_columns * CELL > memory():
                raise DataError(
                    f"{path} says that it has {told.num_rows:,} rows and {told.num_columns:,} columns, more than this "
                    "machine has memory for; take fewer"
                )
            table = file.read()
    except (OSError, ValueError, MemoryError, pyarrow.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        why = " ".join(str(error).split())[:200] or "not enough memory"
        raise DataError(f"{path} is damaged or no .parquet file ({why})") from None
    names = [str(name).strip() for name in table.column_names]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two columns called {twice!r}")
    if not names or not table.num_rows:
        raise DataError(f"{path} is a table without {'rows' if names else 'columns'}; there is nothing to learn from")
    columns = [[_as_text(value) for value in table.column(place).to_pylist()] for place in range(len(names))]
    return Cells(str(path), tuple(names), [list(row) for row in zip(*columns, strict=True)])


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def is_number(cell: str) -> bool:
    """Whether this is how a program writes a number (infinite ones and NaN among them)."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python takes 3_3 for 33, but it is a name


def as_numbers(cells: Sequence[str], missing: Collection[str] = MISSING) -> npt.NDArray[np.float64] | None:
    """A column as float64 with NaN for what is missing; None where something else is in it, or nothing at all."""
    try:  # the quick way, of numbers alone
        quick = np.array(cells, dtype=np.float64)
        if missing is MISSING and not any("_" in cell for cell in cells):
            return None if np.isnan(quick).all() else quick
    except ValueError:
        pass
    known = [cell.strip().lower() not in missing for cell in cells]
    if not any(known) or not all(is_number(cell) for cell, there in zip(cells, known, strict=True) if there):
        return None
    return np.array([float(cell) if there else math.nan for cell, there in zip(cells, known, strict=True)])


def word_of(number: float) -> str:
    """A number as the name of a category: 1, 2.5."""
    return f"{number:.15g}"


def in_order(words: Iterable[str]) -> tuple[str, ...]:
    """Different words in order: by size where all are numbers, else by letter."""
    found = sorted(set(words))
    return tuple(sorted(found, key=float) if all(is_number(word) for word in found) else found)


def require_column(name: str, found: Collection[str], source: str) -> None:
    """Raise DataError, with what was probably meant, unless there is such a column."""
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {listed(list(found))}"
        raise DataError(f"{source} has no column {name!r}; {hint}")


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names in a sentence, not too many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"
