"""Quantisers by their configuration."""

from __future__ import annotations

from jensen.config import QuantiserConfig
from jensen.config.codes import QUANTISER_KNOBS
from jensen.nn.quantiser.base import Quantiser
from jensen.nn.quantiser.finite_scalar import FiniteScalarQuantiser
from jensen.nn.quantiser.gumbel import GumbelQuantiser
from jensen.nn.quantiser.residual import ResidualQuantiser
from jensen.nn.quantiser.vector import VectorQuantiser

__all__ = ["make_quantiser"]


def make_quantiser(config: QuantiserConfig) -> Quantiser:
    """The quantiser that a configuration describes."""
    knobs = {name: getattr(config, name) for name in QUANTISER_KNOBS[config.kind]}
    if config.kind == "finite-scalar":
        return FiniteScalarQuantiser(knobs["values"], config.dim)
    levels = knobs.pop("codes")
    if config.kind == "gumbel":
        return GumbelQuantiser(levels, config.dim, **knobs)
    if config.kind == "residual":
        return ResidualQuantiser(levels, config.dim, **knobs)
    return VectorQuantiser(levels, config.dim, **knobs)
