"""Sparse ratings or counts of users (rows) for items (columns), in batches of users."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

__all__ = ["Ratings", "as_ratings", "is_triples", "log_sums", "row_sums"]

Integers = npt.NDArray[np.int64]

_LOWEST = -340.0
"""the product of two numbers exp(_LOWEST) is still a normal one"""
_CHUNK = 1 << 17
"""products that are worked on at a time: they fit the processor's cache"""


@dataclass(frozen=True, eq=False)
class Ratings:
    """The entries that are stored, zeros among them, are what was observed.

    Attributes:
        matrix: (users, items), float64, each entry at most once.
    """

    matrix: sp.csr_matrix

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def __getitem__(self, index: Any) -> Ratings:
        """Some of the users, by a slice or an index tensor."""
        return Ratings(self.matrix[index.numpy() if isinstance(index, Tensor) else index])

    @cached_property
    def offsets(self) -> Tensor:
        """(users + 1,): user i has the entries offsets[i] to offsets[i + 1]."""
        return torch.from_numpy(self.matrix.indptr.astype(np.int64))

    @cached_property
    def items(self) -> Tensor:
        """The item of each entry."""
        return torch.from_numpy(self.matrix.indices.astype(np.int64))

    @cached_property
    def users(self) -> Tensor:
        """The user of each entry."""
        return torch.repeat_interleave(torch.arange(len(self)), self.offsets.diff())

    @cached_property
    def values(self) -> Tensor:
        """The number of each entry."""
        return torch.from_numpy(self.matrix.data)


def row_sums(ratings: Ratings, table: Tensor, weights: Tensor | None = None) -> Tensor:
    """The sum of table[item] (times an entry's weight) over each user's entries, (users, columns); differentiable."""
    return torch.nn.functional.embedding_bag(
        ratings.items, table, ratings.offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def log_sums(user_logs: Tensor, item_logs: Tensor, ratings: Ratings) -> Tensor:
    """sum over entries (i, j) of y_ij log sum_k exp(user_logs_ik + item_logs_jk); differentiable in both.

    The entries x K allocations are never held: sparse products of exp(logs), scaled row by row, give the sums and their
    gradients. Where that would underflow, they are computed one by one.
    """
    users, items = (logs - logs.amax(1, keepdim=True) for logs in (user_logs.detach(), item_logs.detach()))
    if len(ratings.values) and float(torch.minimum(users.min(), items.min())) >= _LOWEST:
        result: Tensor = _LogSums.apply(user_logs, item_logs, ratings)  # type: ignore[no-untyped-call]
        return result
    return (ratings.values * (user_logs[ratings.users] + item_logs[ratings.items]).logsumexp(1)).sum()


class _LogSums(torch.autograd.Function):
    """See `log_sums`."""

    @staticmethod
    def forward(ctx: Any, user_logs: Tensor, item_logs: Tensor, ratings: Ratings) -> Tensor:
        shifts = user_logs.amax(1), item_logs.amax(1)
        users, items = (user_logs - shifts[0][:, None]).exp(), (item_logs - shifts[1][:, None]).exp()
        sums = torch.empty_like(ratings.values)
        size = max(1, _CHUNK // users.shape[1])
        for begin in range(0, len(sums), size):
            part = slice(begin, begin + size)
            products = users.index_select(0, ratings.users[part])
            products *= items.index_select(0, ratings.items[part])
            torch.sum(products, 1, out=sums[part])
        ctx.save_for_backward(users, items, ratings.values / sums)
        ctx.ratings = ratings
        return (ratings.values * (sums.log() + shifts[0][ratings.users] + shifts[1][ratings.items])).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        users, items, ratio = ctx.saved_tensors
        matrix = ctx.ratings.matrix
        entries = sp.csr_matrix((ratio.numpy(), matrix.indices, matrix.indptr), shape=matrix.shape)
        of_users = of_items = None
        if ctx.needs_input_grad[0]:
            of_users = gradients[0] * users * torch.from_numpy(entries @ items.numpy())
        if ctx.needs_input_grad[1]:
            of_items = gradients[0] * items * torch.from_numpy(entries.T @ users.numpy())
        return of_users, of_items, None


def as_ratings(
    X: Any,
    *,
    counts: bool,
    fractional: bool = False,
    n_users: int | None = None,
    n_items: int | None = None,
    empty: bool = False,
) -> Ratings:
    """Ratings from what a user may have them in.

    Args:
        X: a SciPy sparse matrix, of which the stored entries are observed; a tuple of three arrays (users, items,
            values); or a dense array, in which NaN marks what is not observed (of counts everything is). A list is a
            dense array, also one of three rows.
        counts: numbers must not be negative, pairs given twice are added up, and zeros are left out (they cost
            nothing). Otherwise a pair given twice is an error, and a stored zero is a rating.
        fractional: counts may be other than whole numbers.
        n_users: rows; default the matrix's, or the largest user number + 1.
        n_items: the same of columns.
        empty: accept users of whom nothing is observed.

    Raises:
        ValueError: another form or shape, NaN, infinity, negative or fractional counts, a pair twice, nothing observed.
    """
    entries = _entries(X, counts)
    shape = [entries.shape[0] if n_users is None else n_users, entries.shape[1] if n_items is None else n_items]
    for axis, (what, limit) in enumerate(zip(("users", "items"), shape, strict=True)):
        if entries.shape[axis] > limit:
            raise ValueError(f"{entries.shape[axis]} {what}, but there are {limit}: unknown ones cannot be used")
    rows, columns, values = entries.row.astype(np.int64), entries.col.astype(np.int64), entries.data.astype(np.float64)
    if len(values) == 0 and not (empty and shape[0]):
        raise ValueError(f"nothing is observed in X of shape {entries.shape}: at least one entry is needed")
    _check_values(rows, columns, values, counts, fractional)
    keys, first = np.unique(rows * shape[1] + columns, return_index=True)
    if len(keys) < len(values) and not counts:
        again = int(np.setdiff1d(np.arange(len(values)), first)[0])
        raise ValueError(
            f"user {rows[again]} has rated item {columns[again]} more than once: keep one rating of each pair, or "
            "their mean"
        )
    matrix = sp.coo_matrix((values, (rows, columns)), shape=shape).tocsr()
    if counts:
        matrix.eliminate_zeros()
    matrix.sort_indices()
    return Ratings(matrix)


def is_triples(X: Any) -> bool:
    """Whether X is a tuple of three arrays (users, items, values); a list of three rows is three users."""
    return isinstance(X, tuple) and len(X) == 3 and all(np.ndim(part) == 1 for part in X)


def _entries(X: Any, counts: bool) -> sp.coo_matrix:
    """As coordinates, not yet summed."""
    if sp.issparse(X):
        if X.dtype.kind not in "biuf":
            raise ValueError(f"X must hold real numbers, got {X.dtype}")
        return sp.coo_matrix(X)
    if is_triples(X):
        users, items, values = (np.asarray(part) for part in X)
        if not len(users) == len(items) == len(values):
            raise ValueError(f"users, items, values must be equally many: {len(users)}, {len(items)}, {len(values)}")
        for name, numbers in (("users", users), ("items", items)):
            if numbers.dtype.kind not in "iu" or (len(numbers) and numbers.min() < 0):
                raise ValueError(f"{name} must be whole numbers from 0; got {numbers.dtype}, number your {name} first")
        size = (int(users.max()) + 1, int(items.max()) + 1) if len(users) else (0, 0)
        return sp.coo_matrix((values.astype(np.float64), (users, items)), shape=size)
    array = np.asarray(X, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(
            "X must be users by items, or a tuple (not a list) of three arrays (users, items, values); got shape "
            f"{array.shape}"
        )
    rows, columns = np.nonzero(array if counts else ~np.isnan(array))
    return sp.coo_matrix((array[rows, columns], (rows, columns)), shape=array.shape)


def _check_values(
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    counts: bool,
    fractional: bool,
) -> None:
    kinds = [("NaN or infinity", ~np.isfinite(values))]
    if counts:
        kinds.append(("Negative values in data, which must be counts", values < 0))
        if not fractional:
            kinds.append(
                ("counts that are no whole numbers (give counts, or fractional=True)", values != np.round(values))
            )
    for what, wrong in kinds:
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"X has {what}: X[{rows[at]}, {columns[at]}] is {values[at]:g} (of {int(wrong.sum())} such)"
            )
