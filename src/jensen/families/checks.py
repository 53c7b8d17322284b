"""Parameters as a user gives them: made into tensors, and refused with the name and index of what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

__all__ = ["as_tensors", "check_standard", "first_violation"]


def as_tensors(fields: Sequence[Any]) -> tuple[Tensor, ...]:
    """Tensors of one floating dtype and device: those of the floating tensors among them, else float64."""
    given = [f for f in fields if isinstance(f, Tensor)]
    floating = [f.dtype for f in given if f.is_floating_point()]
    dtype = max(floating, key=lambda d: torch.finfo(d).bits) if floating else torch.float64
    device = given[0].device if given else None
    return tuple(torch.as_tensor(f, dtype=dtype, device=device) for f in fields)


def check_standard(family: str, standard: tuple[Tensor, ...], constraints: Mapping[str, Constraint]) -> None:
    """Refuse standard parameters (a named tuple) of a wrong shape or outside their constraints with ValueError."""
    sizes: dict[str, torch.Size] = {}
    for (name, constraint), value in zip(constraints.items(), standard, strict=True):
        dims = constraint.event_dim
        if value.dim() < dims:
            kind = ("a number", "a vector", "a matrix")[dims]
            raise ValueError(f"{family}: {name} must be {kind} for each distribution, got shape {tuple(value.shape)}")
        if dims:
            sizes[name] = value.shape[value.dim() - dims :]
    if len({n for shape in sizes.values() for n in shape}) > 1:
        found = ", ".join(f"{name} {tuple(shape)}" for name, shape in sizes.items())
        raise ValueError(f"{family}: parameters of different dimension: {found}")
    try:
        torch.broadcast_shapes(
            *(v.shape[: v.dim() - c.event_dim] for v, c in zip(standard, constraints.values(), strict=True))
        )
    except RuntimeError:
        found = ", ".join(f"{n} {tuple(v.shape)}" for n, v in zip(constraints, standard, strict=True))
        raise ValueError(f"{family}: batch shapes do not broadcast: {found}") from None
    fault = first_violation(standard, constraints)
    if fault:
        raise ValueError(f"{family}: {fault}")


def first_violation(standard: Sequence[Tensor], constraints: Mapping[str, Constraint]) -> str | None:
    """The first parameter that breaks its constraint or is not finite, in words; None if there is none."""
    for (name, constraint), value in zip(constraints.items(), standard, strict=True):
        finite = value.isfinite()
        if not bool(finite.all()):
            return _describe(name, finite, value, "must be finite")
        holds = constraint.check(value)
        if not bool(holds.all()):
            wanted = {"PositiveDefinite": "positive definite"}.get(str(constraint).rstrip("()"), str(constraint))
            return _describe(name, holds, value, f"must be {_words(wanted)}")
    return None


def _words(constraint: str) -> str:
    """What torch calls a constraint, as a person says it."""
    return (
        constraint.replace("GreaterThan(lower_bound=", "greater than ")
        .replace("Simplex", "on the simplex")
        .rstrip("()")
    )


def _describe(name: str, holds: Tensor, value: Tensor, wanted: str) -> str:
    index = tuple((~holds).nonzero()[0].tolist())
    where = f"{name}[{', '.join(map(str, index))}]" if index else name
    entry = value[index]
    given = f"is {entry.item():g}" if entry.dim() == 0 else f"of shape {tuple(entry.shape)} is not"
    return f"{where} {given}; it {wanted}"
