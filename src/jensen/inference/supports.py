"""Latent variables of black-box models: their shapes and supports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint

__all__ = [
    "Variable",
    "bernoulli",
    "bounded",
    "categorical",
    "correlation_cholesky",
    "ordered",
    "poisson",
    "positive",
    "real",
    "simplex",
    "unit_interval",
]


class _Ordered(Constraint):
    """Vectors whose entries increase."""

    event_dim = 1

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return (value[..., 1:] > value[..., :-1]).all(-1)


class _OrderedTransform(torch.distributions.Transform):
    """Reals to increasing vectors: the first as it is, then steps exp(x)."""

    domain = constraints.real_vector
    codomain = _Ordered()
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _OrderedTransform)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[..., :1], x[..., 1:].exp()], -1).cumsum(-1)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([y[..., :1], (y[..., 1:] - y[..., :-1]).log()], -1)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x[..., 1:].sum(-1)


@dataclass(frozen=True)
class Variable:
    """One latent of a model.

    Attributes:
        shape: of one draw (of one row, if there is a plate), the support's own dimensions included.
        support: a constraint of `torch.distributions`.
        plate: there is one for each row of this plate, along a first dimension before `shape`.
        family: of a discrete latent: "bernoulli", "categorical" or "poisson"; None for a continuous one.
        size: values that a discrete latent can take; None if they are not finitely many.
    """

    shape: tuple[int, ...]
    support: Constraint
    plate: str | None = None
    family: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if not all(isinstance(n, int) and n > 0 for n in self.shape):
            raise ValueError(f"a latent's shape must be of positive whole numbers, got {self.shape}")
        if self.support.event_dim > len(self.shape):
            raise ValueError(f"a latent on {self.support} needs at least {self.support.event_dim} dimensions")

    @property
    def discrete(self) -> bool:
        """Whether it has no density."""
        return self.family is not None

    @property
    def unbounded(self) -> bool:
        """Whether the support has no finite volume: nothing is uniform on it."""
        flat = (constraints.real, constraints.positive, constraints.nonnegative_integer)
        return isinstance(self.support, _Ordered) or any(self.support is each for each in flat)

    @property
    def event_dim(self) -> int:
        """Last dimensions of `shape` that belong together."""
        return int(self.support.event_dim)

    @property
    def transform(self) -> Any:
        """From real numbers to the support (`biject_to`); TypeError for a discrete latent."""
        if self.discrete:
            raise TypeError("a discrete latent has no transform from the real numbers")
        return _OrderedTransform() if isinstance(self.support, _Ordered) else biject_to(self.support)

    def full_shape(self, sizes: Mapping[str, int]) -> torch.Size:
        """Shape of one draw for plates of these sizes."""
        return torch.Size((*(() if self.plate is None else (sizes[self.plate],)), *self.shape))

    def elements(self, sizes: Mapping[str, int]) -> torch.Size:
        """Shape of the independent parts: `full_shape` less the support's own dimensions."""
        full = self.full_shape(sizes)
        return full[: len(full) - self.event_dim]

    def unconstrained_shape(self, sizes: Mapping[str, int]) -> torch.Size:
        """Shape of one draw's real coordinates."""
        shape = self.full_shape(sizes)
        # Elementwise transforms keep it; asking them would import a computer algebra system.
        return torch.Size(self.transform.inverse_shape(shape)) if self.event_dim else shape

    def varying(self, sizes: Mapping[str, int]) -> torch.Tensor:
        """Which numbers of `full_shape` can take more than one value, bool.

        All but the first row and the upper triangle of Cholesky factors of correlations: 1 and zeros.
        """
        found = torch.ones(self.full_shape(sizes), dtype=torch.bool)
        if self.support is constraints.corr_cholesky:
            found = found.tril()
            found[..., 0, :] = False
        return found


def real(*shape: int, plate: str | None = None) -> Variable:
    """Any real numbers."""
    return Variable(shape, constraints.real, plate)


def positive(*shape: int, plate: str | None = None) -> Variable:
    """Positive numbers."""
    return Variable(shape, constraints.positive, plate)


def unit_interval(*shape: int, plate: str | None = None) -> Variable:
    """Numbers between 0 and 1."""
    return Variable(shape, constraints.unit_interval, plate)


def bounded(low: float, high: float, *shape: int, plate: str | None = None) -> Variable:
    """Numbers between `low` and `high`; ValueError unless low < high, both finite."""
    if not (-float("inf") < low < high < float("inf")):
        raise ValueError(f"bounds must be finite and low < high, got {low} and {high}")
    return Variable(shape, constraints.interval(low, high), plate)


def simplex(*shape: int, plate: str | None = None) -> Variable:
    """Probability vectors along the last dimension, at least two entries each."""
    if not shape or shape[-1] < 2:
        raise ValueError(f"a simplex needs at least two entries in its last dimension, got shape {shape}")
    return Variable(shape, constraints.simplex, plate)


def ordered(*shape: int, plate: str | None = None) -> Variable:
    """Vectors along the last dimension whose entries increase."""
    if not shape:
        raise ValueError("ordered needs the vector's length: ordered(3)")
    return Variable(shape, _Ordered(), plate)


def correlation_cholesky(dim: int, plate: str | None = None) -> Variable:
    """Lower Cholesky factors of correlation matrices, (dim, dim)."""
    if dim < 2:
        raise ValueError(f"a correlation matrix needs at least two dimensions, got {dim}")
    return Variable((dim, dim), constraints.corr_cholesky, plate)


def bernoulli(*shape: int, plate: str | None = None) -> Variable:
    """Zeros and ones (floating)."""
    return Variable(shape, constraints.boolean, plate, "bernoulli", 2)


def categorical(size: int, *shape: int, plate: str | None = None) -> Variable:
    """Whole numbers 0, ..., size - 1 (int64, to index with)."""
    if not isinstance(size, int) or size < 2:
        raise ValueError(f"a categorical latent needs a whole number of at least two values, got {size!r}")
    return Variable(shape, constraints.integer_interval(0, size - 1), plate, "categorical", size)


def poisson(*shape: int, plate: str | None = None) -> Variable:
    """Counts 0, 1, 2, ... (floating)."""
    return Variable(shape, constraints.nonnegative_integer, plate, "poisson")
