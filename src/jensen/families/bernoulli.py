"""Bernoulli distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor

from jensen.families.base import ExponentialFamily
from jensen.families.checks import OpenUnitInterval

__all__ = ["Bernoulli", "BernoulliMean", "BernoulliNatural", "BernoulliStandard"]


class BernoulliNatural(NamedTuple):
    """eta = log odds of 1."""

    logits: Tensor


class BernoulliMean(NamedTuple):
    """E[T], T(z) = z: the probability of 1."""

    probs: Tensor


class BernoulliStandard(NamedTuple):
    """The probability of 1."""

    probs: Tensor


class Bernoulli(ExponentialFamily[BernoulliNatural, BernoulliMean, BernoulliStandard]):
    """1 with probability `probs`, else 0, for each element of a batch.

    T(z) = z, eta = log(p / (1 - p)), A = log(1 + exp(eta)), h = 1. Probabilities of exactly 0 or 1 have no natural
    parameter and are refused.
    """

    Natural = BernoulliNatural
    Mean = BernoulliMean
    Standard = BernoulliStandard
    event_dims = (0,)
    constraints: ClassVar = {"probs": OpenUnitInterval()}
    has_rsample = False

    @classmethod
    def from_standard(cls, probs: Tensor | float) -> Self:
        """From probabilities of 1, strictly between 0 and 1; raises ValueError."""
        return cls._from_standard(probs)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """In closed form; raises ValueError where they are not strictly between 0 and 1."""
        return cls._from_standard(*fields)

    @classmethod
    def _to_natural(cls, standard: BernoulliStandard) -> BernoulliNatural:
        return BernoulliNatural(torch.logit(standard.probs))

    @property
    def standard_parameters(self) -> BernoulliStandard:
        """The probability of 1."""
        return BernoulliStandard(torch.sigmoid(self.natural_parameters.logits))

    @property
    def event_shape(self) -> torch.Size:
        """()."""
        return torch.Size()

    def log_partition(self) -> Tensor:
        """log(1 + exp(eta))."""
        return _softplus(self.natural_parameters.logits)

    def _mean_parameters(self) -> BernoulliMean:
        return BernoulliMean(torch.sigmoid(self.natural_parameters.logits))

    def entropy(self) -> Tensor:
        """-E_q[log q(z)] in nats, without the cancellation of <eta, m> - A where a probability is near 1."""
        logits = self.natural_parameters.logits
        return torch.sigmoid(logits) * _softplus(-logits) + torch.sigmoid(-logits) * _softplus(logits)

    def sufficient_statistics(self, z: Tensor) -> BernoulliMean:
        """z."""
        return BernoulliMean(z.to(self.natural_parameters.logits.dtype))

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) in nats, shape (*anything, *batch_shape)."""
        logits = self.natural_parameters.logits
        return -_softplus(torch.where(z == 1, -logits, logits))

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Zeros and ones (floating) of shape (*shape, *batch_shape)."""
        probs = self.standard_parameters.probs.detach().expand((*shape, *self.batch_shape))
        return torch.bernoulli(probs, generator=generator)

    def to_torch(self) -> torch.distributions.Bernoulli:
        """`torch.distributions.Bernoulli`."""
        return torch.distributions.Bernoulli(logits=self.natural_parameters.logits)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), exact and smooth to any order (torch's softplus and logsigmoid are not both)."""
    return torch.logaddexp(x, torch.zeros_like(x))
