"""Part I: models as expected log joints, and the ways up their evidence lower bound."""

from __future__ import annotations

from jensen.inference.checks import check_conjugate
from jensen.inference.conjugate import Columns, ConjugateModel, Data, Latent, Moments, Parameter, State
from jensen.inference.evaluation import evaluate
from jensen.inference.methods import Result, infer
from jensen.inference.steps import Adaptive, RobbinsMonro
from jensen.inference.stochastic import Svi
from jensen.inference.store import load_posterior, save_posterior
from jensen.inference.summary import marginals

__all__ = [
    "Adaptive",
    "Columns",
    "ConjugateModel",
    "Data",
    "Latent",
    "Moments",
    "Parameter",
    "Result",
    "RobbinsMonro",
    "State",
    "Svi",
    "check_conjugate",
    "evaluate",
    "infer",
    "load_posterior",
    "marginals",
    "save_posterior",
]
