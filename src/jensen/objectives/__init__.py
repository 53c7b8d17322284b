"""What is maximised: one file an objective, each from the terms of the bound."""

from __future__ import annotations

from jensen.config import ObjectiveConfig, Schedule
from jensen.objectives.base import Context, Loss, Objective
from jensen.objectives.elbo import Elbo, elbo_terms
from jensen.objectives.iwae import Iwae

__all__ = ["Context", "Elbo", "Iwae", "Loss", "Objective", "Schedule", "elbo_terms", "make_objective"]


def make_objective(config: ObjectiveConfig) -> Objective:
    """The objective that a configuration names."""
    if config.kind == "iwae":
        return Iwae(config.samples)
    return Elbo(config.samples, config.kl, config.kl_weight)
