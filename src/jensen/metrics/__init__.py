"""Evaluation of trained models."""

from __future__ import annotations

from jensen.metrics.bits import bits_per_dim
from jensen.metrics.classification import Classification, class_log_likelihood, classify
from jensen.metrics.classifier import Classifier, fit_classifier
from jensen.metrics.codes import BookUsage, CodeUsage, code_usage
from jensen.metrics.evaluation import Evaluation, active_units, evaluate
from jensen.metrics.generation import KernelDistance, frechet_distance, kernel_distance
from jensen.metrics.importance import importance_weighted_log_likelihood
from jensen.metrics.information import Information, information
from jensen.metrics.manifold import manifold_precision
from jensen.metrics.quality import GenerationQuality, Quality, generation_quality

__all__ = [
    "BookUsage",
    "Classification",
    "Classifier",
    "CodeUsage",
    "Evaluation",
    "GenerationQuality",
    "Information",
    "KernelDistance",
    "Quality",
    "active_units",
    "bits_per_dim",
    "class_log_likelihood",
    "classify",
    "code_usage",
    "evaluate",
    "fit_classifier",
    "frechet_distance",
    "generation_quality",
    "importance_weighted_log_likelihood",
    "information",
    "kernel_distance",
    "manifold_precision",
]
