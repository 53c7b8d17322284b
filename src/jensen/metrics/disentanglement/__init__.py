"""How far codes and the factors that made the data correspond one to one."""

from __future__ import annotations

from jensen.metrics.disentanglement.beta_vae import beta_vae_score
from jensen.metrics.disentanglement.dci import dci
from jensen.metrics.disentanglement.evaluation import Disentanglement, evaluate_disentanglement
from jensen.metrics.disentanglement.factor_vae import factor_vae_score
from jensen.metrics.disentanglement.irs import irs
from jensen.metrics.disentanglement.mig import mig
from jensen.metrics.disentanglement.modularity_explicitness import explicitness, modularity
from jensen.metrics.disentanglement.pool import Pool, encode_pool
from jensen.metrics.disentanglement.sap import sap
from jensen.metrics.disentanglement.score import Score
from jensen.metrics.disentanglement.udr import udr

__all__ = [
    "Disentanglement",
    "Pool",
    "Score",
    "beta_vae_score",
    "dci",
    "encode_pool",
    "evaluate_disentanglement",
    "explicitness",
    "factor_vae_score",
    "irs",
    "mig",
    "modularity",
    "sap",
    "udr",
]
