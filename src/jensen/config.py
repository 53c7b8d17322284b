"""Typed configuration of a run: what `jensen train` takes from flags and YAML, and what a run directory keeps.

Each section is immutable and validated on construction: an unknown key, a wrong type or an impossible combination
raises a `ConfigError` of one line that names the key.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import Field, model_validator

from jensen.sections import Section, read_yaml

__all__ = [
    "Config",
    "DataConfig",
    "ModelConfig",
    "NetConfig",
    "ObjectiveConfig",
    "Schedule",
    "TrainConfig",
]

DataTransform = Literal["auto", "none", "binarise", "binarise-static", "dequantise"]
Corruption = Literal["none", "gaussian", "salt-and-pepper", "masking"]
LikelihoodName = Literal[
    "auto", "bernoulli", "gaussian", "gaussian-learned", "gaussian-per-pixel", "discretised-logistic"
]
NetKind = Literal["auto", "mlp", "conv", "resnet"]
ModelKind = Literal["vae", "autoencoder", "semi-supervised"]
ObjectiveKind = Literal["elbo", "iwae", "beta", "capacity", "total-correlation", "factor", "dip", "free-bits", "mmd"]
Activation = Literal["relu", "leaky-relu", "elu", "gelu", "silu", "softplus", "tanh"]

LIKELIHOODS: tuple[str, ...] = tuple(name for name in get_args(LikelihoodName) if name != "auto")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Schedule(Section):
    """A number that depends on the training step: a KL weight, a capacity, a learning-rate factor.

    With t = step / steps clipped to [0, 1]:

    - ``constant``: `end`, whatever the step;
    - ``linear``: start + (end - start) t (deterministic warm-up, Sønderby et al. 2016);
    - ``cosine``: half a cosine from start to end;
    - ``cyclical``: `cycles` equal cycles over `steps`, each rising linearly over its first `ramp` share and then
      staying at `end` (Fu et al. 2019, eq. 6); `end` after the last.

    Calling it with a step gives the value there.
    """

    kind: Literal["constant", "linear", "cosine", "cyclical"] = Field("constant", description="shape of the schedule")
    start: float = Field(0.0, allow_inf_nan=False, description="value at step 0")
    end: float = Field(1.0, allow_inf_nan=False, description="value at the end (of each cycle)")
    steps: int = Field(0, ge=0, description="optimiser steps from start to end")
    cycles: Count = Field(4, description="cyclical: number of cycles")
    ramp: float = Field(0.5, gt=0, le=1, description="cyclical: share of a cycle spent rising")

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        if self.kind != "constant" and self.steps == 0:
            raise ValueError(f"a {self.kind} schedule needs steps >= 1")
        if self.kind == "constant" and (self.start != 0.0 or self.steps != 0):
            raise ValueError("a constant schedule has only an end: choose kind linear, cosine or cyclical")
        if self.kind != "cyclical" and (self.cycles != 4 or self.ramp != 0.5):
            raise ValueError(f"cycles and ramp are for kind cyclical, not {self.kind}")
        return self

    def __call__(self, step: int) -> float:
        """Value at optimiser step `step` (0 is the first)."""
        if self.kind == "constant" or step >= self.steps:
            return self.end
        progress = max(step, 0) / self.steps
        if self.kind == "cosine":
            progress = 0.5 * (1.0 - math.cos(math.pi * progress))
        elif self.kind == "cyclical":
            progress = min(1.0, (progress * self.cycles % 1.0) / self.ramp)
        return self.start + (self.end - self.start) * progress


class DataConfig(Section):
    """Which data, and how a stored value becomes the number that the model sees."""

    name: str = Field("digits", description="data set: see `jensen data list`")
    directory: Path | None = Field(
        None, description="folder with NAME.npz files already there (else JENSEN_DATA, else download)"
    )
    transform: DataTransform = Field(
        "auto",
        description="auto: binarise for bernoulli, none otherwise; binarise draws anew in every epoch, "
        "binarise-static once; dequantise adds uniform noise of one grey level, for continuous densities",
    )
    corruption: Corruption = Field("none", description="corrupts the input; the target stays clean (denoising)")
    corruption_strength: float = Field(
        0.3, gt=0, le=1, description="gaussian: standard deviation; otherwise the share of values hit"
    )
    target: str | None = Field(None, description="predict this property of the datum instead of the datum itself")
    condition: str | None = Field(
        None,
        description="what the model is told beside the datum: label, names of properties (x,radius), or the visible "
        "part of an image (upper-half, upper-left, all-but-upper-left, ...), whose rest is then to be predicted",
    )
    labelled: Count | None = Field(
        None,
        description="condition label: keep this many training labels, as equally many a class as possible; the rest "
        "is unknown",
    )
    labelled_share: float = Field(
        0.25, gt=0, lt=1, description="share of an epoch's examples that are labelled, repeated as often as it takes"
    )
    limit: Count | None = Field(
        None, description="use at most this many training and this many validation examples (the first of each)"
    )
    validation: float = Field(0.1, gt=0, lt=1, description="share of the training data held out for validation")


class NetConfig(Section):
    """Encoder and decoder networks."""

    kind: NetKind = Field("auto", description="auto: conv for images of 32 pixels or more, mlp otherwise")
    width: Count | None = Field(None, description="units a layer (mlp: 400) or channels (conv: 32, resnet: 32)")
    depth: Count | None = Field(
        None, description="hidden layers (mlp: 1), stride-2 layers (conv) or residual blocks a stage (resnet: 1)"
    )
    activation: Activation = Field("relu", description="nonlinearity")
    normalisation: Literal["none", "batch", "group"] = Field(
        "none", description="after each hidden layer (group: layer normalisation for mlp)"
    )


class ModelConfig(Section):
    """The model p(x, z) and the family q(z | x)."""

    kind: ModelKind = Field(
        "vae", description="vae, a plain autoencoder, or semi-supervised (a vae that guesses unknown labels)"
    )
    latent: Count = Field(16, description="dimension of the latent space")
    likelihood: LikelihoodName = Field(
        "auto", description="p(x | z); auto: bernoulli for images and yes/no targets, gaussian-learned for tables"
    )
    sigma: Positive = Field(1.0, description="standard deviation of the gaussian likelihood (initial one if learned)")
    conditioning: Literal["concat", "embedding", "film"] = Field(
        "concat",
        description="how a condition enters the nets: concat with their input, a learned embedding of it, or film "
        "(scale and shift of every hidden layer)",
    )
    prior: Literal["standard", "learned"] = Field(
        "standard", description="p(z): standard normal, or learned from the condition, p(z | c)"
    )
    classifier_weight: NonNegative = Field(
        1.0, description="semi-supervised: weight of -log q(y | x) of the known labels"
    )
    net: NetConfig = NetConfig()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.kind == "autoencoder" and self.prior != "standard":
            raise ValueError("prior has no meaning for model autoencoder, which has none; use model vae")
        if self.kind != "semi-supervised" and self.classifier_weight != 1.0:
            raise ValueError(f"classifier_weight is for model semi-supervised, not {self.kind}")
        if self.sigma != 1.0 and self.likelihood not in ("auto", "gaussian", "gaussian-learned"):
            raise ValueError(f"sigma has no meaning for likelihood {self.likelihood}; use gaussian or gaussian-learned")
        return self


KNOBS: dict[str, dict[str, Any]] = {
    "elbo": {},
    "iwae": {},
    "beta": {"beta": 4.0},
    "capacity": {"gamma": 1000.0, "max_capacity": 25.0, "capacity_steps": 100_000},
    "total-correlation": {"alpha": 1.0, "beta": 6.0, "gamma": 1.0, "estimator": "stratified"},
    "factor": {"gamma": 10.0, "discriminator_lr": 1e-4, "discriminator_width": 1000, "discriminator_depth": 6},
    "dip": {"dip": "ii", "off_diagonal": 10.0, "diagonal": 10.0},
    "free-bits": {"free_bits": 0.5},
    "mmd": {"alpha": 0.0, "mmd_weight": 1000.0, "kernel": "imq"},
}
"""The knobs of each objective, with their defaults; any other knob is refused."""


class ObjectiveConfig(Section):
    """What is maximised."""

    kind: ObjectiveKind = Field(
        "elbo",
        description="elbo; iwae (the importance-weighted bound); beta, capacity, total-correlation (beta-TCVAE), "
        "factor (FactorVAE), dip (DIP-VAE), free-bits, mmd (InfoVAE): the ELBO with another price for the code",
    )
    samples: Count = Field(1, description="samples of z a datum (k of iwae)")
    kl: Literal["analytic", "monte-carlo"] = Field("analytic", description="how the KL term is had")
    kl_weight: Schedule = Field(
        default_factory=Schedule, description="weight of the KL term and what stands for it, e.g. linear warm-up"
    )
    beta: NonNegative | None = Field(None, description="beta: weight of the KL (4); total-correlation: of TC (6)")
    alpha: float | None = Field(
        None,
        allow_inf_nan=False,
        description="total-correlation: weight of the mutual information (1); mmd: 1 - weight of the KL (0)",
    )
    gamma: NonNegative | None = Field(
        None,
        description="capacity: weight of |KL - C| (1000); total-correlation: of the dimension-wise KL (1); "
        "factor: of TC (10)",
    )
    max_capacity: NonNegative | None = Field(None, description="capacity: C at the end, in nats (25)")
    capacity_steps: Count | None = Field(None, description="capacity: steps over which C rises from 0 (100000)")
    estimator: Literal["stratified", "weighted"] | None = Field(
        None, description="total-correlation: how q(z) is had from a minibatch (stratified)"
    )
    discriminator_lr: Positive | None = Field(None, description="factor: learning rate of the discriminator (1e-4)")
    discriminator_width: Count | None = Field(None, description="factor: units a layer of the discriminator (1000)")
    discriminator_depth: Count | None = Field(None, description="factor: hidden layers of the discriminator (6)")
    dip: Literal["i", "ii"] | None = Field(
        None, description="dip: covariance of the posterior means (i) or of z (ii, the default)"
    )
    off_diagonal: NonNegative | None = Field(None, description="dip: weight of squared covariances (10)")
    diagonal: NonNegative | None = Field(None, description="dip: weight of squared (variance - 1) (10)")
    free_bits: NonNegative | None = Field(
        None, description="free-bits: nats that each latent dimension has for nothing (0.5)"
    )
    mmd_weight: NonNegative | None = Field(
        None, description="mmd: lambda of InfoVAE; the MMD weighs alpha + lambda - 1 (1000)"
    )
    kernel: Literal["imq", "rbf"] | None = Field(
        None, description="mmd: inverse multiquadratics of several widths (imq), or one Gaussian (rbf)"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        own = KNOBS.get(str(values.get("kind", "elbo")), {})
        return {**values, **{name: value for name, value in own.items() if values.get(name) is None}}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        every = {name for knobs in KNOBS.values() for name in knobs}
        for name in sorted(every - set(KNOBS[self.kind])):
            if getattr(self, name) is not None:
                kinds = ", ".join(kind for kind, knobs in KNOBS.items() if name in knobs)
                raise ValueError(f"{name} has no meaning for {self.kind}; it is for kind {kinds}")
        if min(self.kl_weight.start, self.kl_weight.end) < 0:
            raise ValueError("kl_weight should be 0 or more: a negative one would reward the KL")
        if self.kind == "iwae" and self.kl_weight != Schedule():
            raise ValueError("kl_weight has no meaning for iwae: its bound has no separate KL term; use kind elbo")
        if self.kind == "iwae" and self.kl != "analytic":
            raise ValueError("kl has no meaning for iwae: its bound has no separate KL term; use kind elbo")
        if self.kind == "total-correlation" and self.kl != "analytic":
            raise ValueError("kl has no meaning for total-correlation: its terms are Monte Carlo already")
        if self.kind == "mmd":
            self._check_mmd(self.alpha or 0.0, self.mmd_weight or 0.0)
        return self

    @staticmethod
    def _check_mmd(alpha: float, weight: float) -> None:
        if alpha > 1:
            raise ValueError(f"alpha should be at most 1, or the KL would be sought, got {alpha:g}")
        if alpha + weight < 1:
            raise ValueError(
                f"alpha + mmd_weight should be at least 1, or the MMD would be sought, got {alpha:g} + {weight:g}"
            )


class TrainConfig(Section):
    """How the bound is climbed, and on which machine."""

    epochs: Count = Field(20, description="passes over the training data")
    batch_size: Count = Field(128, description="examples a step (over all devices)")
    optimiser: Literal["adam", "adamw", "adamax"] = Field("adam", description="optimiser")
    lr: Positive = Field(1e-3, description="learning rate")
    weight_decay: NonNegative = Field(0.0, description="weight decay (adamw: decoupled)")
    warmup: int = Field(0, ge=0, description="steps over which the learning rate rises linearly")
    decay: Literal["none", "cosine", "plateau"] = Field(
        "none", description="learning-rate decay: cosine to 0 at the last step, or halved when validation stalls"
    )
    clip: Positive | None = Field(None, description="largest gradient norm")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of an exponential moving average of the weights")
    patience: Count | None = Field(
        None,
        description="stop once this many epochs in a row have had no better validation score (the ELBO, or what the "
        "objective seeks in its place)",
    )
    plateau_patience: Count = Field(
        5, description="decay plateau: epochs without a better validation score that it bears before it halves the rate"
    )
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: autocast; sums stay in float32")
    channels_last: bool = Field(False, description="memory layout of images (often faster with conv nets)")
    compile: bool = Field(False, description="torch.compile the training step")
    accelerator: str = Field("auto", description="cpu, cuda, mps, or auto")
    devices: Count = Field(1, description="devices a machine")
    nodes: Count = Field(1, description="machines")
    strategy: str = Field("auto", description="Lightning Fabric strategy, e.g. ddp")
    tensorboard: bool = Field(False, description="also write TensorBoard events")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.decay == "plateau" and self.patience is not None and self.patience <= self.plateau_patience + 1:
            raise ValueError(
                f"patience {self.patience} stops the training before decay plateau, with plateau_patience "
                f"{self.plateau_patience}, can act: give a larger patience"
            )
        return self


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
        if self.data.condition is None and self.model.prior == "learned":
            raise ValueError("prior learned is p(z | c): give data.condition, e.g. label")
        if self.data.target is not None and self.data.corruption != "none":
            raise ValueError("target and corruption exclude each other: denoising predicts the clean datum itself")
        if self.data.transform.startswith("binarise") and self.model.likelihood not in ("auto", "bernoulli"):
            raise ValueError(f"transform {self.data.transform} needs likelihood bernoulli, not {self.model.likelihood}")
        if self.data.transform == "dequantise" and not self.model.likelihood.startswith("gaussian"):
            raise ValueError(
                f"transform dequantise needs a continuous likelihood (gaussian...), not {self.model.likelihood}"
            )
        return self

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read a YAML file; raises `ConfigError` where it is not a valid configuration."""
        return cls(**read_yaml(path))

    def to_yaml(self) -> str:
        """The whole configuration, defaults included, as YAML that ends with its end mark, ``...``."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, explicit_end=True)
