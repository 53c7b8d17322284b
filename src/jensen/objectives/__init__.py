"""What is maximised: one file an objective, each from the terms of the bound."""

from __future__ import annotations

from jensen.config import Schedule
from jensen.objectives.balanced import Balanced
from jensen.objectives.base import Context, Loss, Objective
from jensen.objectives.beta import Beta
from jensen.objectives.build import make_objective
from jensen.objectives.capacity import Capacity
from jensen.objectives.dip import Dip
from jensen.objectives.elbo import Elbo, Price, elbo_terms
from jensen.objectives.factor import Factor
from jensen.objectives.free_bits import FreeBits
from jensen.objectives.iwae import Iwae
from jensen.objectives.mmd import Mmd
from jensen.objectives.total_correlation import TotalCorrelation

__all__ = [
    "Balanced",
    "Beta",
    "Capacity",
    "Context",
    "Dip",
    "Elbo",
    "Factor",
    "FreeBits",
    "Iwae",
    "Loss",
    "Mmd",
    "Objective",
    "Price",
    "Schedule",
    "TotalCorrelation",
    "elbo_terms",
    "make_objective",
]
