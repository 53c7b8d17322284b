"""Every scikit-learn face of Jensen's models.

The faces of neural networks are loaded when first used, as training them takes as long to import as all the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from jensen.estimators.base import VariationalEstimator
from jensen.estimators.factor_analysis import BayesianFactorAnalysis, BayesianPCA
from jensen.estimators.factorisation import GaussianFactorisation, PoissonFactorisation
from jensen.estimators.gaussian_fit import GaussianFit
from jensen.estimators.hmm import BayesianCategoricalHMM, BayesianGaussianHMM
from jensen.estimators.lda import TopicModel
from jensen.estimators.linear_regression import BayesianLinearRegression
from jensen.estimators.logistic_regression import BayesianLogisticRegression
from jensen.estimators.mixture import BayesianMixture
from jensen.estimators.poisson_regression import BayesianPoissonRegression

if TYPE_CHECKING:
    from jensen.estimators.autoencoder import AutoEncoderEstimator
    from jensen.estimators.vae import VAEEstimator

__all__ = [
    "AutoEncoderEstimator",
    "BayesianCategoricalHMM",
    "BayesianFactorAnalysis",
    "BayesianGaussianHMM",
    "BayesianLinearRegression",
    "BayesianLogisticRegression",
    "BayesianMixture",
    "BayesianPCA",
    "BayesianPoissonRegression",
    "GaussianFactorisation",
    "GaussianFit",
    "PoissonFactorisation",
    "TopicModel",
    "VAEEstimator",
    "VariationalEstimator",
]

_LATER = {"AutoEncoderEstimator": "autoencoder", "VAEEstimator": "vae"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'jensen.estimators' has no attribute {name!r}")
    return getattr(import_module(f"jensen.estimators.{_LATER[name]}"), name)
