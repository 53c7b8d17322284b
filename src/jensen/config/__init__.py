"""Typed configuration of a run: what `jensen train` takes from flags and YAML, and what a run directory keeps.

Each section is immutable and validated on construction: an unknown key, a wrong type or an impossible combination
raises a `ConfigError` of one line that names the key.
"""

from __future__ import annotations

from jensen.config.codes import QUANTISER_KNOBS, AutoregressiveConfig, QuantiserConfig
from jensen.config.data import DataConfig
from jensen.config.model import ModelConfig, NetConfig
from jensen.config.names import (
    LIKELIHOODS,
    Activation,
    Corruption,
    DataTransform,
    LikelihoodName,
    ModelKind,
    ObjectiveKind,
)
from jensen.config.objective import KNOBS, ObjectiveConfig
from jensen.config.presets import PRESETS, preset
from jensen.config.prior import PriorConfig
from jensen.config.schedule import Schedule
from jensen.config.train import TrainConfig
from jensen.config.whole import Config

__all__ = [
    "KNOBS",
    "LIKELIHOODS",
    "PRESETS",
    "QUANTISER_KNOBS",
    "Activation",
    "AutoregressiveConfig",
    "Config",
    "Corruption",
    "DataConfig",
    "DataTransform",
    "LikelihoodName",
    "ModelConfig",
    "ModelKind",
    "NetConfig",
    "ObjectiveConfig",
    "ObjectiveKind",
    "PriorConfig",
    "QuantiserConfig",
    "Schedule",
    "TrainConfig",
    "preset",
]
