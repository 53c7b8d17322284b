"""Parameters as a user gives them: made into tensors, and refused with the name and index of what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import AffineTransform, ComposeTransform, ExpTransform, SigmoidTransform

__all__ = [
    "AboveDimension",
    "OpenUnitInterval",
    "as_tensors",
    "check_shapes",
    "check_symmetric",
    "derived_violation",
    "first_violation",
    "positive_vector",
]

positive_vector = constraints.independent(constraints.positive, 1)


class AboveDimension(Constraint):
    """Greater than D - 1, as the degrees of freedom of a D x D Wishart matrix are."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def check(self, value: Tensor) -> Tensor:
        """Elementwise."""
        return value > self.size - 1


class OpenUnitInterval(Constraint):
    """Greater than 0 and less than 1."""

    def check(self, value: Tensor) -> Tensor:
        """Elementwise."""
        return (value > 0) & (value < 1)


def _above(constraint: AboveDimension) -> ComposeTransform:
    return ComposeTransform([ExpTransform(), AffineTransform(constraint.size - 1, 1)])


def _sigmoid(constraint: OpenUnitInterval) -> SigmoidTransform:
    return SigmoidTransform()


for registry in (biject_to, transform_to):
    registry.register(AboveDimension, _above)
    registry.register(OpenUnitInterval, _sigmoid)


def as_tensors(fields: Sequence[Any]) -> tuple[Tensor, ...]:
    """Tensors of one floating dtype and device: those of the floating tensors among them, else float64."""
    given = [f for f in fields if isinstance(f, Tensor)]
    floating = [f.dtype for f in given if f.is_floating_point()]
    dtype = max(floating, key=lambda d: torch.finfo(d).bits) if floating else torch.float64
    device = given[0].device if given else None
    return tuple(torch.as_tensor(f, dtype=dtype, device=device) for f in fields)


def check_shapes(family: str, fields: tuple[Tensor, ...], event_dims: Sequence[int]) -> None:
    """Refuse parameters (a named tuple) of shapes that do not fit together with ValueError."""
    names: tuple[str, ...] = fields._fields  # type: ignore[attr-defined]
    sizes: dict[str, torch.Size] = {}
    for name, dims, value in zip(names, event_dims, fields, strict=True):
        if value.dim() < dims:
            kind = ("a number", "a vector", "a matrix")[dims]
            raise ValueError(f"{family}: {name} must be {kind} for each distribution, got shape {tuple(value.shape)}")
        if dims:
            sizes[name] = value.shape[value.dim() - dims :]
    if len({n for shape in sizes.values() for n in shape}) > 1:
        found = ", ".join(f"{name} {tuple(shape)}" for name, shape in sizes.items())
        raise ValueError(f"{family}: parameters of different dimension: {found}")
    if any(0 in shape for shape in sizes.values()):
        raise ValueError(f"{family}: {next(iter(sizes))} must have at least one element")
    try:
        torch.broadcast_shapes(*(v.shape[: v.dim() - dims] for v, dims in zip(fields, event_dims, strict=True)))
    except RuntimeError:
        found = ", ".join(f"{n} {tuple(v.shape)}" for n, v in zip(names, fields, strict=True))
        raise ValueError(f"{family}: batch shapes do not broadcast: {found}") from None


def check_symmetric(family: str, fields: tuple[Tensor, ...], event_dims: Sequence[int]) -> None:
    """Refuse fields that are not finite, or matrices among them that are not symmetric, with ValueError."""
    limits = [constraints.real, constraints.real_vector, constraints.symmetric]
    names: tuple[str, ...] = fields._fields  # type: ignore[attr-defined]
    fault = first_violation(fields, {name: limits[dims] for name, dims in zip(names, event_dims, strict=True)})
    if fault:
        raise ValueError(f"{family}: {fault}")


def first_violation(standard: Sequence[Tensor], limits: Mapping[str, Constraint]) -> str | None:
    """The first parameter that breaks its constraint or is not finite, in words; None if there is none."""
    for (name, constraint), value in zip(limits.items(), standard, strict=True):
        finite = value.isfinite()
        if not bool(finite.all()):
            return _describe(name, finite, value, "finite")
        if isinstance(constraint, constraints.independent):
            constraint = constraint.base_constraint  # each element by itself, to name the one
        holds = constraint.check(value)
        if not bool(holds.all()):
            if isinstance(constraint, type(constraints.positive_definite)):
                symmetric = constraints.symmetric.check(value)
                if not bool(symmetric.all()):
                    return _describe(name, symmetric, value, "symmetric")
            return _describe(name, holds, value, _words(constraint))
    return None


def derived_violation(standard: Sequence[Tensor], limits: Mapping[str, Constraint]) -> str | None:
    """As `first_violation`, for parameters computed from others: a matrix that came out as NaN had no inverse.

    Matrices come first: they are the cause of what else is NaN.
    """
    ordered = sorted(zip(limits.items(), standard, strict=True), key=lambda entry: -entry[0][1].event_dim)
    for (name, constraint), value in ordered:
        if isinstance(constraint, type(constraints.positive_definite)):
            holds = ~value.isnan().any(-1).any(-1)
            if not bool(holds.all()):
                return _describe(name, holds, value, "positive definite")
    return first_violation([v for _, v in ordered], dict(entry for entry, _ in ordered))


def _words(constraint: Constraint) -> str:
    """What a constraint asks, as a person says it."""
    if isinstance(constraint, AboveDimension):
        return f"greater than D - 1 = {constraint.size - 1}"
    if isinstance(constraint, OpenUnitInterval):
        return "greater than 0 and less than 1"
    known = {
        "PositiveDefinite": "positive definite",
        "Symmetric": "symmetric",
        "Simplex": "on the simplex (not negative, sum 1)",
        "GreaterThan": f"greater than {getattr(constraint, 'lower_bound', 0):g}",
    }
    return known.get(type(constraint).__name__.lstrip("_"), str(constraint))


def _describe(name: str, holds: Tensor, value: Tensor, wanted: str) -> str:
    index = tuple((~holds).nonzero()[0].tolist())
    where = f"{name}[{', '.join(map(str, index))}]" if index else name
    entry = value[index]
    if entry.dim() == 0:
        return f"{where} is {entry.item():g}; it must be {wanted}"
    return f"{where}, of shape {tuple(entry.shape)}, must be {wanted}"
