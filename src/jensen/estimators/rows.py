"""Rows and targets of regressions as users give them: checked, and refused with the place of what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length, validate_data
from torch import Tensor

__all__ = ["checked_numbers", "checked_rows", "checked_targets"]

Floats = npt.NDArray[np.float64]


def checked_rows(estimator: Any, X: Any, *, reset: bool = False) -> Tensor:
    """X as a float64 tensor (N, D); `reset` remembers D and the columns' names, else they must be the same.

    Raises:
        ValueError: wrong shape, no rows, or NaN or infinity, whose row and column are named.
    """
    rows = np.asarray(validate_data(estimator, X, reset=reset, dtype=np.float64, ensure_all_finite=False))
    wrong = ~np.isfinite(rows)
    if wrong.any():
        n, d = (int(i) for i in np.argwhere(wrong)[0])
        names = getattr(estimator, "feature_names_in_", None)
        column = f"column {d}" if names is None else f"column {d} ({names[d]})"
        kind = "NaN" if np.isnan(rows[n, d]) else "infinity"
        raise ValueError(
            f"X has {kind} in row {n}, {column} ({int(wrong.sum())} entries are NaN or infinity): remove such rows or "
            "fill them in"
        )
    return torch.from_numpy(np.require(rows, requirements=["C", "W"]))


def checked_targets(y: Any, rows: Tensor) -> npt.NDArray[Any]:
    """y as an array (N,), one for each of `rows`; raises ValueError."""
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    target: npt.NDArray[Any] = column_or_1d(y, warn=True)
    check_consistent_length(rows, target)
    return target


def checked_numbers(y: Any, rows: Tensor) -> Tensor:
    """y as a float64 tensor (N,).

    Raises:
        ValueError: another length than `rows`, not numbers, or NaN or infinity, whose row is named.
    """
    target = checked_targets(y, rows)
    try:
        numbers = target.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"y should hold numbers, but has dtype {target.dtype}") from None
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        n = int(np.flatnonzero(wrong)[0])
        kind = "NaN" if np.isnan(numbers[n]) else "infinity"
        raise ValueError(f"y has {kind} in row {n} ({int(wrong.sum())} entries are NaN or infinity)")
    return torch.from_numpy(np.require(numbers, requirements=["C", "W"]))
