"""Positive definite matrices by one Cholesky factorisation."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["from_factor", "half_log_determinant", "inverse", "inverse_factor", "outer", "times"]


def inverse_factor(matrix: Tensor) -> Tensor:
    """The lower triangular W with matrix^-1 = W^T W, shape (*batch, D, D); NaN where `matrix` is not positive definite.

    Only the lower triangle of `matrix` is read.
    """
    factor, info = torch.linalg.cholesky_ex(matrix)
    factor = torch.where((info == 0)[..., None, None], factor, torch.nan)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    solved: Tensor = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    return solved


def from_factor(factor: Tensor) -> Tensor:
    """W^T W: the inverse of the matrix that `inverse_factor` was given."""
    return factor.mT @ factor


def half_log_determinant(factor: Tensor) -> Tensor:
    """log det(W^T W) / 2 = sum of the logarithms of W's diagonal, shape (*batch)."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def inverse(matrix: Tensor) -> Tensor:
    """The inverse of a positive definite matrix; NaN where it is not."""
    return from_factor(inverse_factor(matrix))


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrix times vector, for each of a batch."""
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def outer(vector: Tensor) -> Tensor:
    """v v^T, for each of a batch."""
    return vector.unsqueeze(-1) * vector.unsqueeze(-2)
