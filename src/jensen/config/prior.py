"""The prior over the codes of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, model_validator

from jensen.config.codes import AutoregressiveConfig
from jensen.config.train import TrainConfig
from jensen.sections import Section, read_yaml

__all__ = ["PRIOR_TRAINING", "PriorConfig"]

PRIOR_TRAINING: dict[str, Any] = {"decay": "cosine", "clip": 1.0}
"""Where the defaults of `train` are others than those of a model."""


class PriorConfig(Section):
    """An autoregressive prior over the codes of a run, fitted after its model. Saved as config.yaml in RUN/prior."""

    seed: int = Field(0, ge=0, lt=2**62, description="seed of weights, order of the data, and noise")
    condition: str | None = Field(
        None,
        description="what the prior is told where the model is told nothing: label, or names of properties (x,radius); "
        "a prior of a model that is told something is told the same",
    )
    net: AutoregressiveConfig = AutoregressiveConfig()
    train: TrainConfig = TrainConfig(**PRIOR_TRAINING)

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("train"), dict):
            return {**values, "train": {**PRIOR_TRAINING, **values["train"]}}
        return values

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read a YAML file; raises `ConfigError` where it is not a valid configuration."""
        return cls(**read_yaml(path))

    def to_yaml(self) -> str:
        """The whole configuration, defaults included, as YAML that ends with its end mark, ``...``."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, explicit_end=True)
