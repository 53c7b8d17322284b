"""Sequences as people hand them over: one array with lengths, or a list of arrays, data frames or lists of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from jensen.inference.models.sequences import Sequences

__all__ = ["as_sequences", "as_symbols", "is_list_of_sequences"]

_SEVERAL = "several sequences are a list of one array each, [np.array([0, 1]), np.array([1, 0, 0])]"


def is_list_of_sequences(X: Any, dimensions: Sequence[int]) -> bool:
    """Whether X is a list (or tuple) of sequences: arrays or data frames of so many dimensions, or lists of rows.

    Lists of numbers are rows, so that a list of them is one sequence.
    """
    if not isinstance(X, list | tuple) or not X:
        return False
    return all(_is_sequence(x, dimensions) for x in X)


def _is_sequence(x: Any, dimensions: Sequence[int]) -> bool:
    if isinstance(x, list | tuple):
        return bool(x) and all(isinstance(row, list | tuple) for row in x)
    return hasattr(x, "__array__") and not sp.issparse(x) and np.ndim(x) in dimensions


def as_sequences(estimator: BaseEstimator, X: Any, lengths: Any, *, reset: bool) -> Sequences:
    """Numbers in D columns: X (N, D) with `lengths`, or a list of (T, D) arrays, frames, lists of rows. NaN passes.

    Raises:
        ValueError: infinity, other shapes or columns' names, a sequence without observations, lengths that do not fit.
    """
    if is_list_of_sequences(X, (2,)):
        if lengths is not None:
            raise ValueError("lengths belong to one array X; a list of arrays has its own")
        arrays = [np.array(x, dtype=np.float64, order="C") for x in X]  # what a frame shows may be read-only
        together = Sequences.from_list([torch.from_numpy(x) for x in arrays])
        X, lengths = _named_alike(X, together.values.numpy()), together.lengths
    values = validate_data(estimator, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=reset)
    return Sequences(torch.tensor(values), lengths)


def as_symbols(X: Any, lengths: Any, count: int | None) -> Sequences:
    """Symbols 0, 1, ...: X (N,) or (N, 1) with `lengths`, or a list of such arrays or series; NaN becomes -1, missing.

    Args:
        count: how many symbols there are; None: not known yet.

    Raises:
        ValueError: symbols that are no whole numbers, negative, or not below `count`; names the first one.
    """
    if is_list_of_sequences(X, (1, 2)):
        if lengths is not None:
            raise ValueError("lengths belong to one array X; a list of arrays has its own")
        parts = [_column(x) for x in X]
        empty = [number for number, part in enumerate(parts) if not len(part)]
        if empty:
            raise ValueError(f"every sequence needs at least one observation: sequence {empty[0]} has 0")
        values, lengths = np.concatenate(parts), [len(part) for part in parts]
    else:
        values = _column(X)
    if not len(values):
        raise ValueError("found no observation: at least 1 is needed")
    missing = np.isnan(values)
    for wrong, expected in (
        (~missing & (values != np.round(values)), "whole numbers"),
        (np.isinf(values), "finite"),
        (values < 0, "0 or more"),
        (values >= (np.inf if count is None else count), f"below {count}, the number of symbols"),
    ):
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"symbols must be {expected}: observation {place} is {values[place]:g}")
    if missing.all():
        raise ValueError("every observation is missing (NaN)")
    return Sequences(torch.as_tensor(np.where(missing, -1, values).astype(np.int64)), lengths)


def _named_alike(sequences: Sequence[Any], together: Any) -> Any:
    """All observations, as a data frame where the sequences are data frames, whose columns must then be the same."""
    names = [list(x.columns) if hasattr(x, "iloc") else None for x in sequences]
    for number, columns in enumerate(names):
        if columns != names[0]:
            raise ValueError(
                f"columns of sequence {number} are {columns}, those of the first {names[0]}: make them equal"
            )
    return together if names[0] is None else type(sequences[0])(together, columns=names[0])


def _column(X: Any) -> Any:
    try:
        values = np.asarray(X)
    except ValueError:
        raise ValueError(f"symbols have different shapes; {_SEVERAL}") from None
    if values.dtype.kind not in "fiub":
        raise ValueError(f"symbols must be numbers 0, 1, ..., got an array of {values.dtype}; encode them first")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"symbols must have shape (N,) or (N, 1), got {values.shape}; {_SEVERAL}")
    return values.astype(np.float64)
