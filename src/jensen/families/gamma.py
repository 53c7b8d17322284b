"""Gamma distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import constraints

from jensen.families.base import ExponentialFamily
from jensen.families.special import match_log_ratio

__all__ = ["Gamma", "GammaMean", "GammaNatural", "GammaStandard", "log_gamma_draws"]


class GammaNatural(NamedTuple):
    """eta = (concentration - 1, -rate)."""

    concentration_minus_one: Tensor
    minus_rate: Tensor


class GammaMean(NamedTuple):
    """E[T], T(z) = (log z, z)."""

    log: Tensor
    mean: Tensor


class GammaStandard(NamedTuple):
    """Concentration (shape) and rate."""

    concentration: Tensor
    rate: Tensor


class Gamma(ExponentialFamily[GammaNatural, GammaMean, GammaStandard]):
    """Gamma(concentration a, rate b) for each element of a batch: mean a / b.

    T(z) = (log z, z), eta = (a - 1, -b), A = log Gamma(a) - a log b, h = 1.
    """

    Natural = GammaNatural
    Mean = GammaMean
    Standard = GammaStandard
    event_dims = (0, 0)
    constraints: ClassVar = {"concentration": constraints.positive, "rate": constraints.positive}

    @classmethod
    def from_standard(cls, concentration: Tensor | float, rate: Tensor | float) -> Self:
        """From concentration and rate, of shapes that broadcast; raises ValueError."""
        return cls._from_standard(concentration, rate)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """From (E[log z], E[z]): Newton's method for the concentration alone, differentiable.

        Raises:
            ValueError: E[z] is not positive, or E[log z] >= log E[z].
        """
        mean = cls._checked_mean(*fields)
        concentration = match_log_ratio(mean.mean.log() - mean.log)
        return cls._possible(cls._to_natural(GammaStandard(concentration, concentration / mean.mean)))

    @classmethod
    def _to_natural(cls, standard: GammaStandard) -> GammaNatural:
        return GammaNatural(standard.concentration - 1, -standard.rate)

    @property
    def standard_parameters(self) -> GammaStandard:
        """Concentration and rate."""
        return GammaStandard(self.natural_parameters.concentration_minus_one + 1, -self.natural_parameters.minus_rate)

    @property
    def event_shape(self) -> torch.Size:
        """()."""
        return torch.Size()

    def log_partition(self) -> Tensor:
        """log Gamma(a) - a log b."""
        concentration, rate = self.standard_parameters
        return torch.lgamma(concentration) - concentration * rate.log()

    def _mean_parameters(self) -> GammaMean:
        concentration, rate = self.standard_parameters
        return GammaMean(torch.digamma(concentration) - rate.log(), concentration / rate)

    def sufficient_statistics(self, z: Tensor) -> GammaMean:
        """(log z, z)."""
        return GammaMean(z.log(), z)

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws differentiable in both parameters (implicit reparameterisation); never 0."""
        concentration, rate = self.standard_parameters
        draws = log_gamma_draws(concentration.expand((*shape, *self.batch_shape)), generator).exp() / rate
        return draws.clamp(min=torch.finfo(draws.dtype).tiny)

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws of shape (*shape, *batch_shape); never 0."""
        with torch.no_grad():
            return self.rsample(shape, generator)

    def to_torch(self) -> torch.distributions.Gamma:
        """`torch.distributions.Gamma`."""
        return torch.distributions.Gamma(*self.standard_parameters)


def log_gamma_draws(concentration: Tensor, generator: Generator | None = None) -> Tensor:
    """log z for z ~ Gamma(concentration, 1), one for each element, differentiable.

    In log space, because z itself underflows: with concentration 0.001 half of the draws are below 1e-300. Gamma(a) is
    Gamma(a + 1) U^(1/a), U uniform (Marsaglia & Tsang 2000, section 6).
    """
    small = concentration < 1
    raised = torch._standard_gamma(torch.where(small, concentration + 1, concentration), generator=generator)
    minus_log_uniform = torch.empty_like(raised).exponential_(generator=generator)
    return raised.log() - torch.where(small, minus_log_uniform / concentration, 0.0)
