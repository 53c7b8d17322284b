"""Families of black-box inference: q as a product of factors."""

from __future__ import annotations

from jensen.inference.variational.amortised import amortised
from jensen.inference.variational.base import Factor, Family, FamilyMaker
from jensen.inference.variational.blocks import blocks
from jensen.inference.variational.flow import flow
from jensen.inference.variational.full_rank import full_rank
from jensen.inference.variational.low_rank import low_rank
from jensen.inference.variational.make import mean_field

__all__ = [
    "FAMILIES",
    "Factor",
    "Family",
    "FamilyMaker",
    "amortised",
    "blocks",
    "flow",
    "full_rank",
    "low_rank",
    "mean_field",
]

FAMILIES: dict[str, FamilyMaker] = {
    "mean_field": mean_field,
    "full_rank": full_rank,
    "low_rank": low_rank(),
    "flow": flow(),
}
"""Families by the names that `fit` takes."""
