"""Documents and ratings, as `jensen infer` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.infer_facts import Facts, Loaded
from jensen.cli.tables import Classes, Table, as_classes, read_columns, refuse_missing, require_column
from jensen.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["documents", "pairs", "ratings"]


def documents(facts: Facts, options: Mapping[str, Any]) -> Loaded:
    """Word counts; those of a run keep its vocabulary, and what is not in it is left out."""
    import numpy as np

    from jensen.inference.models.corpus import load_documents

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


def ratings(facts: Facts) -> Loaded:
    """Three columns of a table: user, item, rating; users and items are texts or numbers.

    A file of `scipy.sparse.save_npz` is a matrix of users by items, of which the stored entries are ratings.
    """
    if Path(facts.source).suffix.lower() == ".npz":
        return _matrix(facts)
    names, found = _three(facts, 3)
    users, items = (as_classes(name, found[name], facts.source) for name in names[:2])
    values = found[names[2]]
    if isinstance(values, list):
        raise DataError(f"{facts.source}: the ratings, column {names[2]!r}, are texts; numbers are needed")
    refuse_missing(names[2], values, facts.source)
    if facts.users:  # of a run: numbers as they were
        users, items = _known(users, facts.users, facts.source), _known(items, facts.items, facts.source)
    facts = facts.model_copy(update={"columns": names, "users": users.names, "items": items.names, "rows": len(values)})
    return _rated(facts, users.places, items.places, values)


def pairs(facts: Facts) -> Loaded:
    """Users and items to predict for; each must be one that the model learned from."""
    names, found = _three(facts, 2)
    users, items = (as_classes(name, found[name], facts.source) for name in names[:2])
    users, items = _known(users, facts.users, facts.source), _known(items, facts.items, facts.source)
    return Loaded(facts, {}, {"pairs": (users.places, items.places)}, _empty(facts, len(users.places)))


def _three(facts: Facts, least: int) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of the columns, and all columns."""
    found = read_columns(facts.source)
    names = facts.columns[:least] or tuple(found)[:3]
    for name in names:
        require_column(name, found, facts.source)
    if len(names) != least or len(facts.columns) > 3:
        raise DataError(
            f"{facts.source}: ratings need three columns, of users, items and numbers, in this order; name them with "
            f"--columns (it has {', '.join(tuple(found)[:12])})"
        )
    return names, found


def _matrix(facts: Facts) -> Loaded:
    from scipy import sparse

    from jensen.data.declared import reading_arrays, require_sizes

    source = Path(facts.source)
    with reading_arrays(f"{source} is no matrix of scipy.sparse.save_npz", source):
        require_sizes(source)
        matrix = sparse.load_npz(source).tocoo()
    users, items = (tuple(str(place) for place in range(size)) for size in matrix.shape)
    facts = facts.model_copy(
        update={"columns": ("user", "item", "rating"), "users": users, "items": items, "rows": matrix.nnz}
    )
    return _rated(facts, matrix.row.astype("int64"), matrix.col.astype("int64"), matrix.data.astype("float64"))


def _rated(
    facts: Facts, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], values: npt.NDArray[np.float64]
) -> Loaded:
    return Loaded(facts, {"X": (users, items, values)}, {"pairs": (users, items)}, _empty(facts, len(values)))


def _empty(facts: Facts, rows: int) -> Table:
    import numpy as np

    return Table(facts.source, np.zeros((rows, 0)), (), {})


def _known(classes: Classes, known: tuple[str, ...], source: str) -> Classes:
    """The same by the numbers of `known`; raises DataError at one that is not there."""
    import numpy as np

    numbers = {name: place for place, name in enumerate(known)}
    new = next((name for name in classes.names if name not in numbers), None)
    if new is not None:
        raise DataError(f"{source}: the {classes.column} {new!r} is none of those that the model learned from")
    return Classes(classes.column, np.array([numbers[name] for name in classes.names])[classes.places], known)
