"""Part I: conjugate models (`infer`) and log joints of one's own (`fit`), and the ways up their bounds."""

from __future__ import annotations

from jensen.inference.amortisation import amortisation_gap
from jensen.inference.checks import check_conjugate
from jensen.inference.conjugate import Columns, ConjugateModel, Data, Latent, Moments, Parameter, State
from jensen.inference.evaluation import evaluate
from jensen.inference.fit import fit, prepare
from jensen.inference.fit_result import Expectation, FitResult
from jensen.inference.fit_store import is_fit, load_fit
from jensen.inference.methods import Result, infer
from jensen.inference.model import Batch, Model, Values
from jensen.inference.objective import Bound
from jensen.inference.optimisers import AdaGrad, Adam, NaturalGradient, RMSProp
from jensen.inference.posterior_summary import Summary
from jensen.inference.steps import Adaptive, RobbinsMonro
from jensen.inference.stochastic import Svi
from jensen.inference.store import load_posterior, save_posterior
from jensen.inference.summary import marginals
from jensen.inference.supports import (
    bernoulli,
    bounded,
    categorical,
    correlation_cholesky,
    ordered,
    poisson,
    positive,
    real,
    simplex,
    unit_interval,
)
from jensen.inference.target import Target
from jensen.inference.variational import amortised, blocks, flow, full_rank, low_rank, mean_field
from jensen.inference.verdict import ParetoK

__all__ = [
    "AdaGrad",
    "Adam",
    "Adaptive",
    "Batch",
    "Bound",
    "Columns",
    "ConjugateModel",
    "Data",
    "Expectation",
    "FitResult",
    "Latent",
    "Model",
    "Moments",
    "NaturalGradient",
    "Parameter",
    "ParetoK",
    "RMSProp",
    "Result",
    "RobbinsMonro",
    "State",
    "Summary",
    "Svi",
    "Target",
    "Values",
    "amortisation_gap",
    "amortised",
    "bernoulli",
    "blocks",
    "bounded",
    "categorical",
    "check_conjugate",
    "correlation_cholesky",
    "evaluate",
    "fit",
    "flow",
    "full_rank",
    "infer",
    "is_fit",
    "load_fit",
    "load_posterior",
    "low_rank",
    "marginals",
    "mean_field",
    "ordered",
    "poisson",
    "positive",
    "prepare",
    "real",
    "save_posterior",
    "simplex",
    "unit_interval",
]
