"""Estimators of the ELBO's gradient: any with any model and family that allow it."""

from __future__ import annotations

from jensen.gradients.dependence import Dependence, trace
from jensen.gradients.enumeration import Enumeration
from jensen.gradients.estimator import Estimate, Estimator
from jensen.gradients.mixed import Mixed, automatic
from jensen.gradients.pathwise import Pathwise
from jensen.gradients.posterior import Draw, FactorPosterior, Posterior
from jensen.gradients.score_function import ScoreFunction
from jensen.gradients.variance import VarianceReport, variance_report

__all__ = [
    "Dependence",
    "Draw",
    "Enumeration",
    "Estimate",
    "Estimator",
    "FactorPosterior",
    "Mixed",
    "Pathwise",
    "Posterior",
    "ScoreFunction",
    "VarianceReport",
    "automatic",
    "trace",
    "variance_report",
]
