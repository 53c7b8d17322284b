"""The contract of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jensen.bound import Output

__all__ = ["Context", "Loss", "Objective"]


def _alone(values: Tensor) -> Tensor:
    return values


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


class Loss(NamedTuple):
    """What an objective returns, averaged over the batch.

    Attributes:
        value: the scalar to minimise.
        score: the scalar by which models are compared on validation data, higher is better (nats per example).
        terms: named scalars to log, nats per example where they are terms of the bound.
    """

    value: Tensor
    score: Tensor
    terms: Mapping[str, Tensor]


class Objective(nn.Module, ABC):
    """What is maximised, called as `objective(output, context)`; asks the model for `samples` draws of z a datum."""

    samples: int = 1

    @abstractmethod
    def forward(self, output: Output, context: Context) -> Loss:
        """The loss of a batch and its terms."""

    def __call__(self, output: Output, context: Context | None = None) -> Loss:
        loss: Loss = super().__call__(output, context or Context())
        return loss
