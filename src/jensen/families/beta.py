"""Beta distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import constraints

from jensen.families.base import ExponentialFamily
from jensen.families.gamma import log_gamma_draws
from jensen.families.special import match_log_proportions

__all__ = ["Beta", "BetaMean", "BetaNatural", "BetaStandard"]


class BetaNatural(NamedTuple):
    """eta = (concentration1 - 1, concentration0 - 1)."""

    concentration1_minus_one: Tensor
    concentration0_minus_one: Tensor


class BetaMean(NamedTuple):
    """E[T], T(z) = (log z, log(1 - z))."""

    log: Tensor
    log_complement: Tensor


class BetaStandard(NamedTuple):
    """Concentrations of z and of 1 - z."""

    concentration1: Tensor
    concentration0: Tensor


class Beta(ExponentialFamily[BetaNatural, BetaMean, BetaStandard]):
    """Beta(concentration1 a, concentration0 b) for each element of a batch: mean a / (a + b).

    T(z) = (log z, log(1 - z)), eta = (a - 1, b - 1), A = log Gamma(a) + log Gamma(b) - log Gamma(a + b), h = 1.
    """

    Natural = BetaNatural
    Mean = BetaMean
    Standard = BetaStandard
    event_dims = (0, 0)
    constraints: ClassVar = {"concentration1": constraints.positive, "concentration0": constraints.positive}

    @classmethod
    def from_standard(cls, concentration1: Tensor | float, concentration0: Tensor | float) -> Self:
        """From both concentrations, of shapes that broadcast; raises ValueError."""
        return cls._from_standard(concentration1, concentration0)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """From (E[log z], E[log(1 - z)]): Newton's method for a + b, differentiable.

        Raises:
            ValueError: exp(E[log z]) + exp(E[log(1 - z)]) >= 1, which Jensen's inequality forbids.
        """
        mean = cls._checked_mean(*fields)
        concentration = match_log_proportions(torch.stack(torch.broadcast_tensors(*mean), dim=-1))
        return cls._possible(cls._to_natural(BetaStandard(*concentration.unbind(-1))))

    @classmethod
    def _to_natural(cls, standard: BetaStandard) -> BetaNatural:
        return BetaNatural(standard.concentration1 - 1, standard.concentration0 - 1)

    @property
    def standard_parameters(self) -> BetaStandard:
        """Both concentrations."""
        return BetaStandard(*(field + 1 for field in self.natural_parameters))

    @property
    def event_shape(self) -> torch.Size:
        """()."""
        return torch.Size()

    def log_partition(self) -> Tensor:
        """log Gamma(a) + log Gamma(b) - log Gamma(a + b)."""
        a, b = self.standard_parameters
        return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

    def _mean_parameters(self) -> BetaMean:
        a, b = self.standard_parameters
        total = torch.digamma(a + b)
        return BetaMean(torch.digamma(a) - total, torch.digamma(b) - total)

    def sufficient_statistics(self, z: Tensor) -> BetaMean:
        """(log z, log(1 - z))."""
        return BetaMean(z.log(), torch.log1p(-z))

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws of shape (*shape, *batch_shape) from two Gamma draws in log space, differentiable; never 0 or 1."""
        one, zero = (
            log_gamma_draws(c.expand((*shape, *self.batch_shape)), generator) for c in self.standard_parameters
        )
        draws = torch.sigmoid(one - zero)
        precision = torch.finfo(draws.dtype)
        return draws.clamp(min=precision.tiny, max=1 - precision.eps / 2)

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws of shape (*shape, *batch_shape); never 0 or 1."""
        with torch.no_grad():
            return self.rsample(shape, generator)

    def to_torch(self) -> torch.distributions.Beta:
        """`torch.distributions.Beta`."""
        return torch.distributions.Beta(*self.standard_parameters)
