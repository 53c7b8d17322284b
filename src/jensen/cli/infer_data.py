"""From a file to what an estimator's `fit` takes, and what a run remembers of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jensen.cli.infer_corpora import documents, pairs, ratings
from jensen.cli.infer_facts import Facts, Loaded
from jensen.cli.infer_models import Model
from jensen.cli.tables import (
    Classes,
    Table,
    as_classes,
    is_shipped,
    read_columns,
    read_table,
    refuse_missing,
    require_column,
    with_target,
)
from jensen.errors import DataError

__all__ = ["again", "load_inputs"]


def load_inputs(model: Model, variant: str, source: str, flags: Mapping[str, Any]) -> Loaded:
    """Read what a model is to be fitted to.

    Args:
        flags: those about data that were given: columns (names with commas between them), target, label, sequence,
            standardise; for texts min_df and stop_words.

    Raises:
        DataError: the data cannot be read or lack what the model needs.
    """
    given = dict(flags)
    texts: dict[str, Any] = {name: given.pop(name) for name in ("min_df", "stop_words") if name in given}
    if "columns" in given:
        given["columns"] = names = tuple(name.strip() for name in given["columns"].split(","))
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"--columns names {twice!r} twice; give each column once")
    facts = Facts(model=model.name, variant=variant, source=_place(source), **given)
    if model.reads == "documents":
        return documents(facts, texts)
    return _READERS[model.reads](facts)


def again(facts: Facts, source: str | None = None) -> Loaded:
    """The data of a run, or other data (`source`) of the same columns, for predictions: a target may be missing there.

    Raises:
        DataError: they cannot be read, or are not like those of the run.
    """
    if source is None:
        return documents(facts, {}) if facts.spec.reads == "documents" else _READERS[facts.spec.reads](facts)
    facts = facts.model_copy(update={"source": _place(source)})
    match facts.spec.reads:
        case "number" | "class" | "count":
            facts, table = _scaled(facts, read_table(facts.source, facts.columns))
            return Loaded(facts, {}, {"X": table.x}, table)
        case "documents":
            return documents(facts, {})
        case "ratings":
            return pairs(facts)
        case "series":
            return _series(facts)
    return _rows(facts.model_copy(update={"label": None}))


def _place(source: str) -> str:
    return source if is_shipped(source) else str(Path(source).resolve())


def _rows(facts: Facts) -> Loaded:
    """Rows of numbers, perhaps with a label that the model does not see."""
    label, apart = facts.label, [facts.label] if facts.label else []
    if is_shipped(facts.source) and not facts.columns:
        apart = list({"target", *apart})
        label = label or ("target" if isinstance(read_columns(facts.source)["target"], list) else None)
    facts, table = _scaled(facts, with_target(read_table(facts.source, facts.columns, apart=apart), None, label))
    facts = facts.model_copy(update={"columns": table.columns, "label": label, "rows": len(table.x)})
    return Loaded(facts, {"X": table.x}, {"X": table.x}, table, _left_out(table))


def _targets(facts: Facts) -> Loaded:
    target = facts.target or ("target" if is_shipped(facts.source) else None)
    if target is None:
        table = read_table(facts.source, facts.columns)
        names = ", ".join((*table.columns, *table.others)[:12])
        raise DataError(f"--target is missing: which column is to be predicted? There are {names}")
    classes = facts.spec.reads == "class"
    found = read_table(facts.source, facts.columns, apart=[target])
    facts, table = _scaled(facts, with_target(found, target, None, classes=classes))
    known = table.target.names if isinstance(table.target, Classes) else ()
    y = table.target.places if isinstance(table.target, Classes) else table.target
    if classes and len(known) < 2:
        raise DataError(
            f"{facts.source}: every row has the same {target!r} ({known[0]}); there is nothing to tell apart"
        )
    facts = facts.model_copy(
        update={"columns": table.columns, "target": target, "classes": known, "rows": len(table.x)}
    )
    return Loaded(facts, {"X": table.x, "y": y}, {"X": table.x}, table, _left_out(table))


def _series(facts: Facts) -> Loaded:
    """Rows in the order of time; `sequence` names a column that changes where a new sequence begins."""
    apart = [facts.sequence] if facts.sequence else []
    if facts.variant == "categorical":
        return _symbols(facts, apart)
    facts, table = _scaled(facts, read_table(facts.source, facts.columns, apart=apart))
    facts = facts.model_copy(update={"columns": table.columns, "rows": len(table.x)})
    arguments = {"X": table.x, "lengths": _lengths(facts, table.others)}
    return Loaded(facts, arguments, arguments, table, _left_out(table))


def _scaled(facts: Facts, table: Table) -> tuple[Facts, Table]:
    """Columns in units of their standard deviations, if asked for; the first data say what these are."""
    _check_gaps(facts, table)
    if not facts.standardise:
        return facts, table
    import numpy as np

    if not facts.centre:
        with np.errstate(all="ignore"):
            centre, scale = np.nanmean(table.x, axis=0), np.nanstd(table.x, axis=0)
        centre, scale = np.nan_to_num(centre), np.where(scale > 0, scale, 1.0)
        facts = facts.model_copy(update={"centre": tuple(centre.tolist()), "scale": tuple(scale.tolist())})
    return facts, replace(table, x=(table.x - np.array(facts.centre)) / np.array(facts.scale))


def _check_gaps(facts: Facts, table: Table) -> None:
    """Refuse infinity, and missing values where the model does not integrate them out.

    Raises:
        DataError: with the column's name and the row, counted from 1.
    """
    import numpy as np

    missing = np.isnan(table.x)
    advice = f"{facts.model} needs every value: fill it in, or leave the row out"
    if facts.spec.gaps == "cells":
        missing = np.zeros_like(missing)
    elif facts.spec.gaps == "rows":
        missing &= ~missing.all(axis=1, keepdims=True)
        advice = "a time that was not observed should be missing in every column"
    for wrong, what in ((missing, f"missing in row {{}}; {advice}"), (np.isinf(table.x), "infinite in row {}")):
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise DataError(f"{facts.source}: column {table.columns[column]!r} is {what.format(row + 1)}")


def _symbols(facts: Facts, apart: list[str]) -> Loaded:
    """One column of symbols, texts or whole numbers, as places in `facts.classes`."""
    import numpy as np

    found = read_columns(facts.source)
    for column in (*facts.columns, *apart):
        require_column(column, found, facts.source)
    names = list(facts.columns) or [column for column in found if column not in apart]
    if len(names) != 1:
        raise DataError(f"categorical emissions need one column of symbols, not {len(names)}: name it with --columns")
    name = names[0]
    symbols = as_classes(name, found[name], facts.source)
    known = facts.classes or symbols.names
    new = next((symbol for symbol in symbols.names if symbol not in known), None)
    if new is not None:
        raise DataError(f"{facts.source}: the symbol {new!r} was not among those that the model learned from")
    x = np.array([known.index(symbol) for symbol in symbols.names])[symbols.places]
    facts = facts.model_copy(update={"columns": (name,), "classes": known, "rows": len(x)})
    arguments = {"X": x, "lengths": _lengths(facts, found)}
    table = Table(facts.source, x[:, None].astype(np.float64), (name,), found)
    return Loaded(facts, arguments, arguments, table)


def _lengths(facts: Facts, columns: Mapping[str, Any]) -> list[int] | None:
    """How many rows after one another have the same value in the column `sequence`; None if there is no such column."""
    if not facts.sequence:
        return None
    refuse_missing(facts.sequence, columns[facts.sequence], facts.source)
    lengths: list[int] = []
    before: object = object()
    for value in columns[facts.sequence]:
        if value != before:
            lengths.append(0)
        lengths[-1] += 1
        before = value
    return lengths


def _left_out(table: Table) -> tuple[str, ...]:
    left = [name for name in table.left_out if table.labels is None or name != table.labels.column]
    return (f"left out, because they are no numbers: {', '.join(left)}",) if left else ()


_READERS: Mapping[str, Callable[[Facts], Loaded]] = {
    "table": _rows,
    "number": _targets,
    "class": _targets,
    "count": _targets,
    "series": _series,
    "ratings": ratings,
}
