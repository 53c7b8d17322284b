"""A whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import yaml
from pydantic import Field, model_validator

from jensen.config.data import DataConfig
from jensen.config.model import ModelConfig
from jensen.config.names import DEEP
from jensen.config.objective import ObjectiveConfig
from jensen.config.train import TrainConfig
from jensen.errors import ConfigError
from jensen.sections import Section, read_yaml

__all__ = ["Config", "check_levels"]

DENSITIES = ("gaussian", "laplace", "student-t", "continuous-bernoulli")
"""How the names of likelihoods of real numbers start, other than that of a table's columns."""


def check_levels(kind: str, objective: str) -> None:
    """Raise `ConfigError` for an objective, by its name here, that has no meaning for several levels of codes."""
    if kind in DEEP and objective in ("total-correlation", "factor", "dip", "mmd"):
        each = "" if kind == "hvae" else ", free-bits, balanced"
        raise ConfigError(
            f"objective {objective} compares all codes with one prior, but model {kind} has a prior at every level "
            f"that depends on those above: use elbo, beta, capacity{each} or iwae"
        )
    if kind == "hvae" and objective in ("free-bits", "balanced"):
        raise ConfigError(
            f"objective {objective} takes the term of each level for a KL, but in model hvae those below the top "
            "are none and may be negative: use elbo, beta, capacity or iwae, or model ladder or nvae"
        )


class Config(Section):
    """A whole run. Saved as config.yaml in the run directory."""

    seed: int = Field(0, ge=0, lt=2**62, description="seed of weights, order of the data, and noise")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        kind, objective = self.model.kind, self.objective.kind
        self._check_codes(kind, objective)
        check_levels(kind, objective)
        if kind == "autoencoder" and objective != "elbo":
            raise ValueError(f"objective {objective} needs a posterior, which model autoencoder has not; use model vae")
        if kind == "autoencoder" and self.objective != ObjectiveConfig():
            raise ValueError("objective samples, kl and kl_weight have no meaning for an autoencoder: use model vae")
        if objective in ("total-correlation", "factor", "dip", "mmd"):
            each = self.train.batch_size // (self.train.devices * self.train.nodes)
            if each < 2:
                raise ValueError(f"objective {objective} compares the codes of a batch: batch_size 2 a device or more")
        if kind == "semi-supervised" and (self.data.condition != "label" or self.data.labelled is None):
            raise ValueError("model semi-supervised needs condition label and labelled: how many labels are known")
        if kind != "semi-supervised" and self.data.labelled is not None:
            raise ValueError(f"labelled leaves labels unknown, which model {kind} cannot bear; use semi-supervised")
        if self.data.labelled is None and self.data.labelled_share != 0.25:
            raise ValueError("labelled_share has no meaning without labelled")
        if self.data.condition is None and self.model.conditioning != "concat":
            raise ValueError("conditioning has no meaning without a condition: give data.condition, e.g. label")
        self._check_chained(objective)
        if self.data.condition is None and self.model.prior == "learned":
            raise ValueError("prior learned is p(z | c): give data.condition, e.g. label")
        if self.data.target is not None and self.data.corruption != "none":
            raise ValueError("target and corruption exclude each other: denoising predicts the clean datum itself")
        of_two = ("auto", "bernoulli", "categorical", "autoregressive")
        if self.data.transform.startswith("binarise") and self.model.likelihood not in of_two:
            raise ValueError(
                f"transform {self.data.transform} needs likelihood bernoulli (or categorical, or autoregressive), not "
                f"{self.model.likelihood}"
            )
        if self.data.transform == "dequantise" and not self.model.likelihood.startswith(DENSITIES):
            raise ValueError(
                "transform dequantise needs a continuous likelihood (gaussian..., laplace, student-t, "
                f"continuous-bernoulli), not {self.model.likelihood}"
            )
        return self

    def _check_chained(self, objective: str) -> None:
        """Refuse what takes latents for independent where the prior or the posterior says that they are not."""
        model = self.model
        if self.data.condition is not None and model.prior == "vampprior":
            raise ValueError("prior vampprior goes without a condition: use prior learned, p(z | c), or mixture")
        dependent = [f"prior {model.prior}"] * (model.prior in ("mixture", "vampprior"))
        dependent += [f"posterior {model.posterior}"] * (model.posterior == "full")
        if dependent and objective in ("total-correlation", "dip", "free-bits", "balanced", "mmd"):
            raise ValueError(
                f"objective {objective} looks at one latent at a time, but those of {dependent[0]} depend on each "
                "other: use elbo, beta, capacity, factor or iwae"
            )

    def _check_codes(self, kind: str, objective: str) -> None:
        """Refuse what has no meaning for a discrete code, or where there is none."""
        if kind == "autoregressive" and self.objective != ObjectiveConfig():
            raise ValueError("model autoregressive is trained on its log-likelihood: leave the objective's keys away")
        if kind == "autoregressive" and self.data.corruption != "none":
            raise ValueError("corruption has no meaning for model autoregressive, which has no input beside its target")
        if kind == "vqvae" and self.model.quantiser.kind == "gumbel":
            if objective not in ("elbo", "beta", "capacity", "free-bits", "balanced"):
                raise ValueError(f"objective {objective} looks at continuous codes; a vqvae has integers: use elbo")
            if self.objective.kl == "monte-carlo":
                raise ValueError(
                    "kl monte-carlo has no gradient for the encoder where codes are integers that are drawn (quantiser "
                    "gumbel): use kl analytic"
                )
        elif kind == "vqvae" and self.objective != ObjectiveConfig():
            raise ValueError(
                "the code of a vqvae costs the same whatever x is, so there is nothing for an objective to choose: "
                "leave the objective's keys away (or use quantiser gumbel)"
            )

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read a YAML file; raises `ConfigError` where it is not a valid configuration."""
        return cls(**read_yaml(path))

    def to_yaml(self) -> str:
        """The whole configuration, defaults included, as YAML that ends with its end mark, ``...``."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, explicit_end=True)
