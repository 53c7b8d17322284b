"""Posteriors with references: posteriordb's, and some on generated data."""

from __future__ import annotations

from pathlib import Path

from benchmarks.models import (
    database,
    gaussian_process,
    generated,
    hidden_markov,
    regressions,
    schools,
    stored,
    time_series,
)
from benchmarks.models.case import Case, Reference

__all__ = ["GENERATED", "case", "reference"]

GENERATED = tuple(generated.MAKERS)
"""names of those on generated data, which need no posteriordb"""

_MAKERS = {
    **regressions.MAKERS,
    **time_series.MAKERS,
    **schools.MAKERS,
    **gaussian_process.MAKERS,
    **hidden_markov.MAKERS,
}


def case(name: str, root: Path | None) -> Case:
    """The model and data of a posterior: one of `GENERATED`, or one of posteriordb's in the folder `root`.

    Raises:
        KeyError: posteriordb has it, but no model is written here.
        ValueError: it is posteriordb's, and there is no `root`.
    """
    if name in generated.MAKERS:
        return generated.MAKERS[name]()
    model = name.partition("-")[2]
    if model not in _MAKERS:
        raise KeyError(f"no model is written for posterior {name!r}; there are: {', '.join([*GENERATED, *_MAKERS])}")
    return _MAKERS[model](database.read_data(_needed(root, name), name))


def reference(name: str, root: Path | None) -> Reference:
    """What the reference draws of a posterior say; arguments and errors as in `case`."""
    return stored.read(name) if name in generated.MAKERS else database.read_reference(_needed(root, name), name)


def _needed(root: Path | None, name: str) -> Path:
    if root is None:
        raise ValueError(f"{name} is posteriordb's: give its folder (benchmarks.models.database.folder())")
    return root
