"""Quantisers: features to integer codes, and codes to embeddings."""

from __future__ import annotations

from jensen.nn.quantiser.base import Quantised, Quantiser
from jensen.nn.quantiser.build import make_quantiser
from jensen.nn.quantiser.codebook import Codebook
from jensen.nn.quantiser.finite_scalar import FiniteScalarQuantiser
from jensen.nn.quantiser.gumbel import GumbelQuantiser
from jensen.nn.quantiser.residual import ResidualQuantiser
from jensen.nn.quantiser.vector import VectorQuantiser

__all__ = [
    "Codebook",
    "FiniteScalarQuantiser",
    "GumbelQuantiser",
    "Quantised",
    "Quantiser",
    "ResidualQuantiser",
    "VectorQuantiser",
    "make_quantiser",
]
