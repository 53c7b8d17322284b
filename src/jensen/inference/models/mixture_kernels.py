"""A Gaussian mixture's data passes as two matrix products: T(x) eta for the responsibilities r, r^T T(x) for the sums.

With q fixed, the expected log density of row n in component k is linear in features of the row,

    E_q[log pi_k + log N(x_n | mu_k, Lambda_k^-1)] = <coefficients_k, T(x_n)>,

with T(x) = (1, x, products x_i x_j for i <= j) for full covariances, (1, x, x^2) for diagonal ones, (1, x, |x|^2) for
spherical ones, and (1, x) for a shared covariance, whose quadratic part is the same in all components. Rows are taken
in chunks that stay in the processor's cache, so nothing of size N x K is ever held, and N x K x D not even for a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

__all__ = [
    "Covariance",
    "Points",
    "evidence_and_statistics",
    "feature_count",
    "features",
    "log_evidence",
    "log_joint",
    "statistics",
]

Covariance: TypeAlias = Literal["full", "diag", "spherical", "tied"]

_CORE_BYTES, _DEVICE_BYTES = 2 << 20, 256 << 20
"""of the features and responsibilities of one chunk: about a core's cache; elsewhere enough to keep the device busy"""


def feature_count(covariance: Covariance, dim: int) -> int:
    """P, the number of features of a row of `dim` columns."""
    return 1 + dim + {"full": dim * (dim + 1) // 2, "diag": dim, "spherical": 1, "tied": 0}[covariance]


def features(x: Tensor, covariance: Covariance, out: Tensor | None = None) -> Tensor:
    """T(x) of shape (P, B) for `x` (B, D): features lead, so that each is formed in one contiguous pass."""
    rows, dim = x.shape
    shape = (feature_count(covariance, dim), rows)
    result = x.new_empty(shape) if out is None else out[: shape[0] * rows].view(shape)
    result[0] = 1
    linear = result[1 : 1 + dim]
    linear.copy_(x.T)
    rest = result[1 + dim :]
    if covariance == "full":
        start = 0
        for i in range(dim):
            torch.mul(linear[i:], linear[i], out=rest[start : start + dim - i])
            start += dim - i
    elif covariance == "diag":
        torch.mul(linear, linear, out=rest)
    elif covariance == "spherical":
        torch.linalg.vecdot(linear, linear, dim=0, out=rest[0])
    return result


class Points:
    """The rows of a data set, with what the passes over them need.

    Args:
        x: (N, D), best centred and of unit scale: products of columns are formed (see `features`).
        covariance: which features.
        chunk_size: rows at a time; default: what fits into the cache.
        cache: keep the features of all rows, N x P numbers, instead of forming them in every pass.
        log_scale: log |det| of the map from `x` to the rows whose density is meant, nats a row.
    """

    def __init__(
        self,
        x: Tensor,
        covariance: Covariance,
        chunk_size: int | None = None,
        *,
        cache: bool = False,
        log_scale: float = 0.0,
    ) -> None:
        self.x, self.covariance, self.chunk_size, self.log_scale = x, covariance, chunk_size, log_scale
        self._scatter: Tensor | None = None
        self._cached: list[Tensor] | None = None
        self._cached_for = 0
        self._cache = cache

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Points:
        if isinstance(index, slice) and index.indices(len(self)) == (0, len(self), 1):
            return self
        return Points(self.x[index], self.covariance, self.chunk_size, log_scale=self.log_scale)

    @property
    def scatter(self) -> Tensor:
        """sum_n x_n x_n^T, shape (D, D)."""
        if self._scatter is None:
            self._scatter = self.x.T @ self.x
        return self._scatter

    def rows_at_a_time(self, components: int) -> int:
        """Rows in a chunk."""
        if self.chunk_size is not None:
            return self.chunk_size
        dim = self.x.shape[1]
        size = _CORE_BYTES * torch.get_num_threads() if self.x.device.type == "cpu" else _DEVICE_BYTES
        per_row = (feature_count(self.covariance, dim) + components) * self.x.element_size()
        return max(64, size // per_row)

    def chunks(self, components: int) -> Iterator[tuple[slice, Tensor]]:
        """Which rows, and their features (P, B), valid until the next chunk."""
        rows = self.rows_at_a_time(components)
        slices = [slice(i, min(i + rows, len(self))) for i in range(0, len(self), rows)]
        if self._cache:
            if self._cached is None or self._cached_for != rows:
                self._cached = [features(self.x[part], self.covariance) for part in slices]
                self._cached_for = rows
            yield from zip(slices, self._cached, strict=True)
            return
        count = feature_count(self.covariance, self.x.shape[1])
        buffer = self.x.new_empty(count * min(rows, len(self)))
        for part in slices:
            yield part, features(self.x[part], self.covariance, buffer)


def log_evidence(coefficients: Tensor, points: Points) -> Tensor:
    """sum_n log sum_k exp <coefficients_k, T(x_n)>, nats; differentiable (once) in the coefficients (K, P).

    Its gradient, sum_n r_nk T(x_n), is formed in the same pass over the data as the value.
    """
    result: Tensor = _LogEvidence.apply(coefficients, points)  # type: ignore[no-untyped-call]
    return result


class _LogEvidence(torch.autograd.Function):
    """The responsibilities of a chunk live in one buffer, written in place; only the sums outlive it."""

    @staticmethod
    def forward(ctx: FunctionCtx, coefficients: Tensor, points: Points) -> Tensor:
        wanted = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        total, sums = _sweep(coefficients.detach(), points, with_statistics=wanted)
        if sums is not None:
            ctx.save_for_backward(sums)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (sums,) = ctx.saved_tensors
        return gradient * sums, None


def _sweep(coefficients: Tensor, points: Points, *, with_statistics: bool) -> tuple[Tensor, Tensor | None]:
    """The sum of log-sum-exps, and sum_n r_nk T(x_n), shape (K, P)."""
    components = len(coefficients)
    total = coefficients.new_zeros(())
    sums = torch.zeros_like(coefficients) if with_statistics else None
    buffer = coefficients.new_empty(components * min(points.rows_at_a_time(components), len(points)))
    # Responsibilities below the smallest normal number would make the second product many times slower.
    lowest = 0.5 * math.log(torch.finfo(coefficients.dtype).tiny)
    for _, t in points.chunks(components):
        r = buffer[: components * t.shape[1]].view(components, t.shape[1])
        torch.mm(coefficients, t, out=r)
        largest = r.amax(0)
        r.sub_(largest).clamp_(min=lowest).exp_()
        normaliser = r.sum(0)
        total += largest.sum() + normaliser.log().sum()
        if sums is not None:
            sums.addmm_(r.div_(normaliser), t.T)
    return total, sums


def log_joint(coefficients: Tensor, points: Points) -> Tensor:
    """<coefficients_k, T(x_n)> of every row, shape (N, K): for predictions on batches."""
    result = coefficients.new_empty(len(points), len(coefficients))
    for part, t in points.chunks(len(coefficients)):
        torch.mm(t.T, coefficients.T, out=result[part])
    return result


def statistics(assigned: Tensor, points: Points, components: int) -> Tensor:
    """sum_n r_nk T(x_n), shape (K, P).

    Args:
        assigned: responsibilities r (N, K), or integer labels (N,), which stand for ones and zeros.
        components: K.
    """
    sums = points.x.new_zeros(components, feature_count(points.covariance, points.x.shape[1]))
    for part, t in points.chunks(components):
        rows = assigned[part]
        r = torch.nn.functional.one_hot(rows, components) if rows.dim() == 1 else rows
        sums.addmm_(r.T.to(sums), t.T)
    return sums


def evidence_and_statistics(coefficients: Tensor, points: Points) -> tuple[Tensor, Tensor]:
    """`log_evidence` and its gradient, without autograd."""
    total, sums = _sweep(coefficients.detach(), points, with_statistics=True)
    assert sums is not None
    return total, sums
