"""What every regression shares: the prior of its weights, and rows centred and extended by a constant column."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jensen.families import Gamma
from jensen.inference.conjugate import Latent

__all__ = ["Centring", "WeightPrior"]

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class WeightPrior:
    """w_d ~ N(0, 1 / alpha_d), independently; the precisions alpha are fixed, shared, or one each (ARD).

    In a linear regression they are relative to the noise: w_d ~ N(0, 1 / (tau alpha_d)).

    Args:
        ard: one precision a weight, each learned: automatic relevance determination (MacKay 1994; Bishop & Tipping
            2000). Otherwise one for all.
        precision: a fixed precision for all; None learns it. Not together with `ard`.
        concentration, rate: the Gamma prior of learned precisions.

    Raises:
        ValueError: a number that is not positive and finite; `ard` with a fixed precision.
    """

    ard: bool = True
    precision: float | None = None
    concentration: float = 1e-6
    rate: float = 1e-6

    def __post_init__(self) -> None:
        if self.ard and self.precision is not None:
            raise ValueError(f"ard=True learns the weights' precisions: precision must be None, got {self.precision}")
        named = {"precision": self.precision, "concentration": self.concentration, "rate": self.rate}
        for name, value in named.items():
            if value is not None and not (0 < value < math.inf):
                raise ValueError(f"the weights' prior: {name} must be positive and finite, got {value}")

    def latents(self, start: Tensor) -> dict[str, Latent]:
        """{"relevance": the learned precisions}, a batch of Gamma; empty where they are fixed.

        Args:
            start: first precisions, shape (*batch, D); where one is shared its start is their mean.
        """
        if self.precision is not None:
            return {}
        start = start if self.ard else start.mean(-1, keepdim=True)
        prior = Gamma.from_standard(start.new_tensor(self.concentration), start.new_tensor(self.rate))
        concentration = self.concentration + 0.5 * torch.ones_like(start)
        return {
            "relevance": Latent(Gamma.from_standard(concentration, concentration / start), prior.expand(start.shape))
        }

    def expected_log_density(self, m: Any, square: Tensor, log_noise_precision: Tensor | float = 0.0) -> Tensor:
        """E[log p(w | alpha)] in nats, one number.

        Args:
            m: the model's moments; `m.relevance` is read where the precisions are learned.
            square: E[w_d^2], or E[tau w_d^2] in a linear regression; shape (*batch, D).
            log_noise_precision: E[log tau] there.
        """
        if self.precision is not None:
            log, mean = square.new_tensor(math.log(self.precision)), square.new_tensor(self.precision)
        else:
            log, mean = m.relevance.log, m.relevance.mean
        return 0.5 * (log + log_noise_precision - _LOG_2PI - mean * square).sum()


@dataclass(frozen=True)
class Centring:
    """Rows as a regression with an intercept sees them: centred, and extended by a column of ones.

    Centring makes the intercept the predictor's value at the data's centre: its prior says the same wherever the
    origin is, and it is hardly correlated with the weights.

    Attributes:
        centre: what is subtracted, shape (D).
        intercept: whether the column of ones is added; without, `centre` is zero.
        precision: of the intercept's prior N(0, 1 / precision).
    """

    centre: Tensor
    intercept: bool
    precision: float

    @classmethod
    def of(cls, x: Tensor, *, intercept: bool, scale: float) -> Centring:
        """For rows x (N, D) and an intercept whose prior has the standard deviation `scale`; raises ValueError."""
        if not (0 < scale < math.inf):
            raise ValueError(f"intercept_scale must be positive and finite, got {scale}")
        return cls(x.mean(0) if intercept else x.new_zeros(x.shape[1]), intercept, scale**-2)

    @property
    def size(self) -> int:
        """How many weights there are, the intercept included."""
        return len(self.centre) + self.intercept

    def rows(self, x: Tensor) -> Tensor:
        """(N, D) as the model sees it: (N, size), the column of ones last."""
        if not self.intercept:
            return x
        return torch.cat([x - self.centre, torch.ones_like(x[:, :1])], dim=1)

    def weight_terms(self, prior: WeightPrior, m: Any, square: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The weights' prior as named terms; `square` = E[w^2], shape (*batch, size)."""
        size = len(self.centre)
        yield "prior of the weights", prior.expected_log_density(m, square[..., :size])
        if self.intercept:
            fixed = WeightPrior(ard=False, precision=self.precision)
            yield "prior of the intercept", fixed.expected_log_density(m, square[..., size:])

    def original(self, loc: Tensor) -> tuple[Tensor, Tensor]:
        """(weights (*, D), intercept (*)) for rows that are not centred, from weights of shape (*, size)."""
        weights = loc[..., : len(self.centre)]
        if not self.intercept:
            return weights, torch.zeros_like(loc[..., 0])
        return weights, loc[..., -1] - weights @ self.centre
