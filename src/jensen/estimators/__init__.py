"""Every scikit-learn face of Jensen's models."""

from __future__ import annotations

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

__all__ = [
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
    "VariationalEstimator",
]
