"""Evaluation of trained models."""

from __future__ import annotations

from jensen.metrics.evaluation import (
    Evaluation,
    active_units,
    bits_per_dim,
    evaluate,
    importance_weighted_log_likelihood,
)
from jensen.metrics.manifold import manifold_precision

__all__ = [
    "Evaluation",
    "active_units",
    "bits_per_dim",
    "evaluate",
    "importance_weighted_log_likelihood",
    "manifold_precision",
]
