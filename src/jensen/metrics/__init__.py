"""Evaluation of trained models."""

from __future__ import annotations

from jensen.metrics.classification import Classification, class_log_likelihood, classify
from jensen.metrics.evaluation import (
    Evaluation,
    active_units,
    bits_per_dim,
    evaluate,
    importance_weighted_log_likelihood,
)
from jensen.metrics.information import Information, information
from jensen.metrics.manifold import manifold_precision

__all__ = [
    "Classification",
    "Evaluation",
    "Information",
    "active_units",
    "bits_per_dim",
    "class_log_likelihood",
    "classify",
    "evaluate",
    "importance_weighted_log_likelihood",
    "information",
    "manifold_precision",
]
