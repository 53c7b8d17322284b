"""The contract of an objective."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jensen.bound import Output

__all__ = ["Context", "Loss", "Objective", "check_weight"]


def _alone(values: Tensor) -> Tensor:
    return values


def check_weight(name: str, value: float) -> float:
    """The value, if it can weigh something; ValueError if it is negative or not finite."""
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} should be 0 or more and finite, got {value}")
    return value


@dataclass(frozen=True, slots=True)
class Context:
    """What an objective may need beside the model's output.

    Attributes:
        step: optimiser steps taken so far.
        dataset_size: number of training examples, N.
        generator: randomness of the objective's own; None: torch's global generator.
        gather: collects a tensor from all devices, stacked along its first dimension.
    """

    step: int = 0
    dataset_size: int = 1
    generator: torch.Generator | None = None
    gather: Callable[[Tensor], Tensor] = _alone

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` over all devices, of their shape.

        Its gradient is that of this device's own part: with gradients averaged over devices, that of the mean.
        """
        if self.gather is _alone:
            return values
        everywhere = self.gather(values.detach().unsqueeze(0)).reshape(-1, *values.shape).mean(0)
        return values + (everywhere - values.detach())


class Loss(NamedTuple):
    """What an objective returns, averaged over the batch.

    Attributes:
        value: the scalar to minimise.
        score: the scalar by which models are compared on validation data, higher is better (nats per example).
        terms: named scalars to log, nats per example where they are terms of the bound.
        auxiliary: a scalar that trains what the objective itself owns, and must not move the model; None: nothing.
    """

    value: Tensor
    score: Tensor
    terms: Mapping[str, Tensor]
    auxiliary: Tensor | None = None


class Objective(nn.Module, ABC):
    """What is maximised, called as `objective(output, context)`; asks the model for `samples` draws of z a datum.

    Attributes:
        samples: draws of z a datum.
        optimiser: settings (lr, betas) of the optimiser for what the objective itself owns, where they differ.
        schedule_steps: optimiser steps that a schedule of its own takes, of which `describe` speaks; 0: it has none.
    """

    samples: int = 1
    schedule_steps: int = 0
    optimiser: Mapping[str, Any] = MappingProxyType({})

    def describe(self, latent: int, dims: int) -> str:
        """What the choices mean for codes of `latent` numbers and data of `dims`; empty where nothing is to be said."""
        return ""

    def prepare(self, latent: int) -> None:
        """Make what the objective owns, for codes of `latent` numbers; called before training."""
        return None

    def extra_repr(self) -> str:
        return ", ".join(
            f"{name}={value}"
            for name, value in vars(self).items()
            if isinstance(value, (int, float, str)) and not name.startswith("_") and name != "training"
        )

    @abstractmethod
    def forward(self, output: Output, context: Context) -> Loss:
        """The loss of a batch and its terms."""

    def __call__(self, output: Output, context: Context | None = None) -> Loss:
        loss: Loss = super().__call__(output, context or Context())
        return loss
