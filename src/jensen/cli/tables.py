"""Tables that `jensen infer` reads: CSV, NumPy arrays, and the sets that come with scikit-learn."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.inputs import load_npy, load_npz
from jensen.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "SHIPPED",
    "Classes",
    "Table",
    "as_classes",
    "is_shipped",
    "read_columns",
    "read_table",
    "refuse_missing",
    "require_column",
    "with_target",
]

SHIPPED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Names that may stand instead of a file: they come with scikit-learn."""

MATRIX_KEYS = ("x", "X", "values", "data", "features")
TEXTS = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Classes:
    """A column of classes: places in `names` (N,)."""

    column: str
    places: npt.NDArray[np.int64]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of numbers with named columns, and what is known of each row beside them.

    `x` is (N, D) float64, NaN where a value is missing. `others` are the columns that were not chosen, as numbers
    (N,) or as a list of texts.
    """

    source: str
    x: npt.NDArray[np.float64]
    columns: tuple[str, ...]
    others: dict[str, Any]
    target: npt.NDArray[np.float64] | Classes | None = None
    target_name: str = ""
    labels: Classes | None = None
    left_out: tuple[str, ...] = ()
    """columns that are no numbers, were not asked for, and are not looked at"""

    @property
    def name(self) -> str:
        """What to call the run by."""
        return self.source if self.source in SHIPPED else Path(self.source).stem


def is_shipped(source: str) -> bool:
    """Whether `source` is the name of a set that comes with scikit-learn; a file of that name goes before it."""
    return source in SHIPPED and not Path(source).exists()


def read_table(source: str, columns: Sequence[str] = (), *, apart: Sequence[str] = ()) -> Table:
    """The numeric columns of a file or of a set that comes with scikit-learn.

    Args:
        source: a path ending in .csv, .tsv, .npy or .npz, or one of `SHIPPED`.
        columns: names of those to take, in this order; empty: all that hold numbers.
        apart: names of columns that are something else (a target, a label); they must be there.

    Raises:
        DataError: the file is missing, damaged or of another kind, has no such column, or none that holds numbers.
    """
    found = read_columns(source)
    for name in (*columns, *apart):
        require_column(name, found, source)
    both = next((name for name in columns if name in apart), None)
    if both is not None:
        raise DataError(f"{both!r} cannot be among --columns: it is the target or the label")
    numeric = [name for name, values in found.items() if not isinstance(values, list)]
    chosen = list(columns) or [name for name in numeric if name not in apart]
    for name in chosen:
        if name not in numeric:
            raise DataError(f"{source}: column {name!r} holds text ({_first_text(found[name])}), not numbers")
    if not chosen:
        raise DataError(f"{source} has no column of numbers to use; it has {_listed(list(found))}")
    import numpy as np

    x = np.stack([found[name] for name in chosen], axis=1)
    others = {name: values for name, values in found.items() if name not in chosen}
    left_out = () if columns else tuple(name for name in others if name not in numeric and name not in apart)
    return Table(source, x, tuple(chosen), others, left_out=left_out)


def with_target(table: Table, target: str | None, label: str | None, *, classes: bool = False) -> Table:
    """The table with its `target` and `label` taken from the other columns.

    Args:
        classes: whether the target is a class (any text or number) rather than a number.

    Raises:
        DataError: the target holds text or missing values where numbers are needed.
    """
    if target is not None:
        values = table.others[target]
        made = as_classes(target, values, table.source) if classes else _numbers(target, values, table.source)
        table = replace(table, target=made, target_name=target)
    if label is not None:
        table = replace(table, labels=as_classes(label, table.others[label], table.source))
    return table


def _numbers(name: str, values: Any, source: str) -> npt.NDArray[np.float64]:
    import numpy as np

    if isinstance(values, list):
        raise DataError(f"{source}: the target {name!r} holds text ({_first_text(values)}), but numbers are needed")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(f"{source}: the target {name!r} is missing or not finite in row {bad[0] + 1}")
    array: npt.NDArray[np.float64] = values
    return array


def as_classes(name: str, values: Any, source: str) -> Classes:
    """Each distinct value of a column as a class, in order; numbers by size.

    Raises:
        DataError: a value is missing.
    """
    import numpy as np

    if not isinstance(values, list):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(f"{source}: {name!r} is missing or not finite in row {bad[0] + 1}")
        levels, places = np.unique(values, return_inverse=True)
        return Classes(name, places.astype(np.int64), tuple(f"{level:.15g}" for level in levels))
    from jensen.data.table_file import MISSING

    empty = next((place for place, value in enumerate(values) if value.strip().lower() in MISSING), None)
    if empty is not None:
        raise DataError(f"{source}: {name!r} is missing in row {empty + 1}")
    texts, places = np.unique(np.array(values), return_inverse=True)
    return Classes(name, places.astype(np.int64), tuple(str(text) for text in texts))


def refuse_missing(name: str, values: Any, source: str) -> None:
    """Raise DataError, with the row, where a value of a column of numbers or texts is missing."""
    import numpy as np

    from jensen.data.table_file import MISSING

    if isinstance(values, list):
        missing = [place for place, value in enumerate(values) if value.strip().lower() in MISSING]
    else:
        missing = np.flatnonzero(np.isnan(values)).tolist()
    if missing:
        raise DataError(f"{source}: column {name!r} is missing in row {missing[0] + 1}")


def read_columns(source: str) -> dict[str, Any]:
    """Every column by name: float64 (N,) where it holds numbers, else a list of texts.

    Raises:
        DataError: the file is missing, damaged or of another kind.
    """
    from jensen.data.declared import require_file

    path = Path(source)
    if is_shipped(source):
        return _shipped(source)
    if not path.exists():
        close = difflib.get_close_matches(path.name.replace("-", "_").lower(), SHIPPED, n=1)
        hint = f"did you mean {close[0]}?" if close else f"give a file, or one of {', '.join(SHIPPED)}"
        raise DataError(f"{source}: no such file; {hint}")
    if path.is_dir():
        raise DataError(f"{source} is a folder; give a file")
    require_file(path)
    suffix = path.suffix.lower()
    if suffix in TEXTS:
        return _read_text(path)
    if suffix in (".npy", ".npz"):
        return _read_arrays(path)
    raise DataError(f"{source}: cannot read this kind of file; give .csv, .tsv, .npy or .npz")


def _shipped(name: str) -> dict[str, Any]:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    found: dict[str, Any] = {
        str(column): bunch.data[:, place].astype("float64") for place, column in enumerate(bunch.feature_names)
    }
    names = getattr(bunch, "target_names", None)
    found["target"] = (
        bunch.target.astype("float64") if names is None else [str(names[place]) for place in bunch.target.tolist()]
    )
    return found


def _read_arrays(path: Path) -> dict[str, Any]:
    import numpy as np

    arrays = load_npz(path) if path.suffix.lower() == ".npz" else {"x": load_npy(path)}
    if "indptr" in arrays:
        raise DataError(f"{path} holds sparse counts; only lda and ratings read those")
    matrix = next((key for key in MATRIX_KEYS if key in arrays), None)
    matrix = matrix or next((key for key, array in arrays.items() if array.ndim == 2), None)
    if matrix is None:
        raise DataError(f"{path} holds {_listed(list(arrays))}, none of it a table; call the table 'x'")
    x = arrays.pop(matrix)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or x.dtype.kind not in "fiub" or not x.size:
        raise DataError(f"{path}: {matrix} should be a table of numbers, but has shape {x.shape} and type {x.dtype}")
    found: dict[str, Any] = {f"column {place}": x[:, place].astype(np.float64) for place in range(x.shape[1])}
    for name, array in arrays.items():
        if array.shape == (len(x),):
            found[name] = array.astype(np.float64) if array.dtype.kind in "fiub" else [str(value) for value in array]
    return found


def _read_text(path: Path) -> dict[str, Any]:
    from jensen.data.table_file import as_numbers, read_text

    cells = read_text(path)
    columns = {name: [row[place] for row in cells.rows] for place, name in enumerate(cells.names)}
    numbers = {name: as_numbers(column) for name, column in columns.items()}
    return {name: columns[name] if found is None else found for name, found in numbers.items()}


def _first_text(values: Any) -> str:
    """The first entry that is no number, to show."""
    from jensen.data.table_file import MISSING, is_number

    place = next((i for i, v in enumerate(values) if v.strip().lower() not in MISSING and not is_number(v)), 0)
    return f"row {place + 1}: {values[place]!r}"


def require_column(name: str, found: Collection[str], source: str) -> None:
    """Raise DataError, with what was probably meant, unless there is such a column."""
    from jensen.data.table_file import require_column as require

    require(name, found, source)


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence, not too many."""
    from jensen.data.table_file import listed as join

    return join(names)
