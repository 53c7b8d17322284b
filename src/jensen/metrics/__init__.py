"""Evaluation of trained models."""

from __future__ import annotations

from jensen.metrics.anomaly import AnomalyScorer, Scores
from jensen.metrics.bits import bits_per_dim
from jensen.metrics.classification import Classification, class_log_likelihood, classify
from jensen.metrics.classifier import Classifier, fit_classifier
from jensen.metrics.codes import BookUsage, CodeUsage, code_usage
from jensen.metrics.complexity import code_length
from jensen.metrics.detection import Detection, detection, isolation_forest_scores, pca_scores, roc
from jensen.metrics.evaluation import Evaluation, active_units, evaluate
from jensen.metrics.generation import KernelDistance, frechet_distance, kernel_distance
from jensen.metrics.importance import importance_weighted_log_likelihood
from jensen.metrics.information import Information, information
from jensen.metrics.manifold import manifold_precision
from jensen.metrics.quality import GenerationQuality, Quality, generation_quality

__all__ = [
    "AnomalyScorer",
    "BookUsage",
    "Classification",
    "Classifier",
    "CodeUsage",
    "Detection",
    "Evaluation",
    "GenerationQuality",
    "Information",
    "KernelDistance",
    "Quality",
    "Scores",
    "active_units",
    "bits_per_dim",
    "class_log_likelihood",
    "classify",
    "code_length",
    "code_usage",
    "detection",
    "evaluate",
    "fit_classifier",
    "frechet_distance",
    "generation_quality",
    "importance_weighted_log_likelihood",
    "information",
    "isolation_forest_scores",
    "kernel_distance",
    "manifold_precision",
    "pca_scores",
    "roc",
]
