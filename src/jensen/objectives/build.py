"""An objective from a configuration."""

from __future__ import annotations

from typing import Any

from jensen.config import KNOBS, ObjectiveConfig
from jensen.errors import ConfigError
from jensen.objectives.balanced import Balanced
from jensen.objectives.base import Objective
from jensen.objectives.beta import Beta
from jensen.objectives.capacity import Capacity
from jensen.objectives.dip import Dip
from jensen.objectives.elbo import Elbo
from jensen.objectives.factor import Factor
from jensen.objectives.free_bits import FreeBits
from jensen.objectives.iwae import Iwae
from jensen.objectives.mmd import Mmd
from jensen.objectives.total_correlation import TotalCorrelation

__all__ = ["make_objective", "name_of"]

KINDS: dict[str, type[Elbo]] = {
    "elbo": Elbo,
    "beta": Beta,
    "capacity": Capacity,
    "total-correlation": TotalCorrelation,
    "factor": Factor,
    "dip": Dip,
    "free-bits": FreeBits,
    "balanced": Balanced,
    "mmd": Mmd,
}


def name_of(objective: Objective) -> str:
    """What the configuration calls an objective of this class, or of the nearest one above it; empty: nothing."""
    names: dict[type, str] = {kind: name for name, kind in KINDS.items()} | {Iwae: "iwae"}
    return next((names[kind] for kind in type(objective).__mro__ if kind in names), "")


def make_objective(config: ObjectiveConfig, latent: int = 16) -> Objective:
    """The objective that a configuration names.

    Args:
        config: kind and knobs.
        latent: dimension of the codes, for what looks at them by a net of its own.

    Raises:
        ConfigError: knobs that do not go together.
    """
    if config.kind == "iwae":
        return Iwae(config.samples)
    chosen: dict[str, Any] = {name: getattr(config, name) for name in KNOBS[config.kind]}
    chosen |= {"samples": config.samples, "kl_weight": config.kl_weight}
    if config.kind != "total-correlation":
        chosen["kl"] = config.kl
    if config.kind == "factor":
        chosen["latent"] = latent
    try:
        return KINDS[config.kind](**chosen)
    except ValueError as error:
        raise ConfigError(f"objective {config.kind}: {error}") from None
