"""What is maximised."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from jensen.config.names import Count, NonNegative, ObjectiveKind, Positive
from jensen.config.schedule import Schedule
from jensen.sections import Section

__all__ = ["KNOBS", "ObjectiveConfig"]

KNOBS: dict[str, dict[str, Any]] = {
    "elbo": {},
    "iwae": {},
    "beta": {"beta": 4.0},
    "capacity": {"gamma": 1000.0, "max_capacity": 25.0, "capacity_steps": 100_000},
    "total-correlation": {"alpha": 1.0, "beta": 6.0, "gamma": 1.0, "estimator": "stratified"},
    "factor": {"gamma": 10.0, "discriminator_lr": 1e-4, "discriminator_width": 1000, "discriminator_depth": 6},
    "dip": {"dip": "ii", "off_diagonal": 10.0, "diagonal": 10.0},
    "free-bits": {"free_bits": 0.5},
    "balanced": {},
    "mmd": {"alpha": 0.0, "mmd_weight": 1000.0, "kernel": "imq"},
}
"""The knobs of each objective, with their defaults; any other knob is refused."""


class ObjectiveConfig(Section):
    """What is maximised."""

    kind: ObjectiveKind = Field(
        "elbo",
        description="elbo; iwae (the importance-weighted bound); beta, capacity, total-correlation (beta-TCVAE), "
        "factor (FactorVAE), dip (DIP-VAE), free-bits, balanced (levels of a deep VAE), mmd (InfoVAE): the ELBO with "
        "another price for the code",
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
