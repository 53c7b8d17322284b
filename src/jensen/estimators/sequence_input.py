"""Sequences as people hand them over: one array with lengths, or a list of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from jensen.inference.models.sequences import Sequences

__all__ = ["as_sequences", "as_symbols", "is_list_of_sequences"]


def is_list_of_sequences(X: Any, dimensions: Sequence[int]) -> bool:
    """Whether X is a list (or tuple) of arrays with so many dimensions, each a sequence; lists of numbers are rows."""
    if not isinstance(X, list | tuple) or not X:
        return False
    return all(isinstance(x, np.ndarray | Tensor) and x.ndim in dimensions for x in X)


def as_sequences(estimator: BaseEstimator, X: Any, lengths: Any, *, reset: bool) -> Sequences:
    """Numbers in D columns: X (N, D) with `lengths`, or a list of (T, D) arrays. NaN passes.

    Raises:
        ValueError: infinity, other shapes, a sequence without observations, lengths that do not fit.
    """
    if is_list_of_sequences(X, (2,)):
        if lengths is not None:
            raise ValueError("lengths belong to one array X; a list of arrays has its own")
        arrays = [np.asarray(x, dtype=np.float64) for x in X]
        together = Sequences.from_list([torch.from_numpy(x) for x in arrays])
        X, lengths = together.values.numpy(), together.lengths
    values = validate_data(estimator, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=reset)
    return Sequences(torch.tensor(values), lengths)


def as_symbols(X: Any, lengths: Any, count: int | None) -> Sequences:
    """Symbols 0, 1, ...: X (N,) or (N, 1) with `lengths`, or a list of such arrays; NaN becomes -1, missing.

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


def _column(X: Any) -> Any:
    values = np.asarray(X)
    if values.dtype.kind not in "fiub":
        raise ValueError(f"symbols must be numbers 0, 1, ..., got an array of {values.dtype}; encode them first")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"symbols must have shape (N,) or (N, 1), got {values.shape}")
    return values.astype(np.float64)
