"""Exponential families: natural and mean parameters, log-partition, entropy, KL, sampling; one file each."""

from __future__ import annotations

from jensen.families.base import ExponentialFamily
from jensen.families.bernoulli import Bernoulli
from jensen.families.beta import Beta
from jensen.families.categorical import Categorical
from jensen.families.dirichlet import Dirichlet
from jensen.families.forward import log_forward
from jensen.families.gamma import Gamma
from jensen.families.inverse_gamma import InverseGamma
from jensen.families.markov_chain import MarkovChain
from jensen.families.multivariate_normal import MultivariateNormal
from jensen.families.normal import Normal
from jensen.families.normal_gamma import NormalGamma
from jensen.families.normal_wishart import NormalWishart
from jensen.families.poisson import Poisson
from jensen.families.tied_normal_wishart import TiedNormalWishart
from jensen.families.wishart import Wishart

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "Dirichlet",
    "ExponentialFamily",
    "Gamma",
    "InverseGamma",
    "MarkovChain",
    "MultivariateNormal",
    "Normal",
    "NormalGamma",
    "NormalWishart",
    "Poisson",
    "TiedNormalWishart",
    "Wishart",
    "log_forward",
]
