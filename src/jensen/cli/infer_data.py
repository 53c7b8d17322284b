"""From a file to what an estimator's `fit` takes, and what a run remembers of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.infer_models import MODELS, Model
from jensen.cli.tables import (
    Classes,
    Table,
    as_classes,
    is_shipped,
    read_columns,
    read_table,
    require_column,
    with_target,
)
from jensen.config import Section
from jensen.errors import CheckpointError, DataError
from jensen.files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FACTS_FILE", "Facts", "Loaded", "again", "load_inputs"]

FACTS_FILE = "inference.json"


class Facts(Section):
    """What an inference run remembers beside its posterior; inference.json in the run."""

    model: str
    variant: str = ""
    source: str
    """absolute path, or the name of a set that comes with scikit-learn"""
    columns: tuple[str, ...] = ()
    """for documents the words"""
    target: str | None = None
    label: str | None = None
    sequence: str | None = None
    standardise: bool = False
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    """what is subtracted from each column, and what it is then divided by, where they are standardised"""
    classes: tuple[str, ...] = ()
    """names of the target's classes, or of the symbols"""
    rows: int = 0
    seconds: float = 0.0
    level: float = 0.95

    def write(self, folder: Path) -> None:
        """Into `folder`, atomically."""
        write_text(folder / FACTS_FILE, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """From the `folder` of a run; raises CheckpointError where it is missing or damaged."""
        path = folder / FACTS_FILE
        try:
            facts = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is missing or damaged: {error}") from None
        if facts.model not in MODELS:
            raise CheckpointError(f"{path} is about a model {facts.model!r} that this version does not have")
        return facts

    @property
    def spec(self) -> Model:
        """The model's entry."""
        return MODELS[self.model]


@dataclass(frozen=True)
class Loaded:
    """Data as an estimator takes them.

    `fit` are the arguments of `fit`, `predict` those of `predict` and the like.
    """

    facts: Facts
    fit: Mapping[str, Any]
    predict: Mapping[str, Any]
    table: Table
    """empty where the data are no table"""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What to call a run on these data by."""
        return Path(self.facts.source).stem


def load_inputs(
    model: Model,
    variant: str,
    source: str,
    *,
    columns: str | None = None,
    target: str | None = None,
    label: str | None = None,
    sequence: str | None = None,
    standardise: bool = False,
    min_df: int = 1,
    stop_words: str | None = None,
) -> Loaded:
    """Read what a model is to be fitted to.

    Args:
        columns: names with commas between them; None: all that are not something else.
        standardise: whether each column is shifted to mean 0 and divided by its standard deviation.
        min_df: of texts, documents that a word must occur in to be counted.
        stop_words: of texts, the language whose most frequent words are left out.

    Raises:
        DataError: the data cannot be read or lack what the model needs.
    """
    chosen = tuple(name.strip() for name in columns.split(",")) if columns else ()
    facts = Facts(
        model=model.name,
        variant=variant,
        source=_place(source),
        columns=chosen,
        target=target,
        label=label,
        sequence=sequence,
    )
    if model.reads in ("number", "class", "count"):
        return _targets(facts)
    if model.reads == "documents":
        options = {"min_df": min_df, "stop_words": stop_words}
        return _documents(facts, {name: value for name, value in options.items() if value not in (1, None)})
    return _series(facts) if model.reads == "series" else _rows(facts)


def again(facts: Facts, source: str | None = None) -> Loaded:
    """The data of a run, or other data (`source`) of the same columns, for predictions: a target may be missing there.

    Raises:
        DataError: they cannot be read, or are not like those of the run.
    """
    new = source is not None
    if source is not None:
        facts = facts.model_copy(update={"source": _place(source)})
    if facts.spec.reads in ("number", "class", "count"):
        if new:
            facts, table = _scaled(facts, read_table(facts.source, facts.columns))
            return Loaded(facts, {}, {"X": table.x}, table)
        return _targets(facts)
    if facts.spec.reads == "documents":
        return _documents(facts, {})
    if facts.spec.reads == "series":
        return _series(facts)
    return _rows(facts.model_copy(update={"label": None}) if new else facts)


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
    arguments = {"X": table.x, "lengths": _lengths(table.others[facts.sequence]) if facts.sequence else None}
    return Loaded(facts, arguments, arguments, table, _left_out(table))


def _scaled(facts: Facts, table: Table) -> tuple[Facts, Table]:
    """Columns in units of their standard deviations, if asked for; the first data say what these are."""
    if not facts.standardise:
        return facts, table
    import numpy as np

    if not facts.centre:
        with np.errstate(all="ignore"):
            centre, scale = np.nanmean(table.x, axis=0), np.nanstd(table.x, axis=0)
        centre, scale = np.nan_to_num(centre), np.where(scale > 0, scale, 1.0)
        facts = facts.model_copy(update={"centre": tuple(centre.tolist()), "scale": tuple(scale.tolist())})
    return facts, replace(table, x=(table.x - np.array(facts.centre)) / np.array(facts.scale))


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
    lengths = _lengths(found[facts.sequence]) if facts.sequence else None
    arguments = {"X": x, "lengths": lengths}
    table = Table(facts.source, x[:, None].astype(np.float64), (name,), found)
    return Loaded(facts, arguments, arguments, table)


def _documents(facts: Facts, options: Mapping[str, Any]) -> Loaded:
    """Word counts; those of a run keep its vocabulary, and what is not in it is left out."""
    import numpy as np

    from jensen.inference.corpus import load_documents

    path = Path(facts.source)
    known = list(facts.columns)
    is_text = path.suffix.lower() != ".npz"
    corpus = load_documents(path, **({"vocabulary": known} if known and is_text else options))
    matrix = corpus.documents.to_scipy()
    notes: tuple[str, ...] = ()
    if known and corpus.vocabulary != known:
        matrix, notes = _matched(matrix, corpus.vocabulary, known)
    facts = facts.model_copy(
        update={"columns": tuple(known or corpus.vocabulary), "rows": matrix.shape[0], "source": str(path)}
    )
    table = Table(facts.source, np.zeros((matrix.shape[0], 0)), (), {})
    return Loaded(facts, {"X": matrix}, {"X": matrix}, table, notes)


def _matched(matrix: Any, words: list[str], known: list[str]) -> tuple[Any, tuple[str, ...]]:
    """The columns of `known` words, in their order."""
    from scipy import sparse

    places = {word: place for place, word in enumerate(known)}
    there = [place for place, word in enumerate(words) if word in places]
    if not there:
        raise DataError("none of the words in these documents is one that the model knows")
    entries = matrix[:, there].tocoo()
    columns = [places[words[place]] for place in there]
    kept = sparse.csr_matrix(
        (entries.data, (entries.row, [columns[column] for column in entries.col])), shape=(matrix.shape[0], len(known))
    )
    lost = matrix.sum() - kept.sum()
    return kept, (f"{lost:,.0f} of {matrix.sum():,.0f} tokens are left out: the model does not know them",)


def _lengths(values: Any) -> list[int]:
    """How many rows after one another have the same value."""
    lengths: list[int] = []
    before: object = object()
    for value in values:
        if value != before:
            lengths.append(0)
        lengths[-1] += 1
        before = value
    return lengths


def _left_out(table: Table) -> tuple[str, ...]:
    left = [name for name in table.left_out if table.labels is None or name != table.labels.column]
    return (f"left out, because they are no numbers: {', '.join(left)}",) if left else ()
