"""Inverse Gamma distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import constraints

from jensen.families.base import ExponentialFamily
from jensen.families.gamma import log_gamma_draws
from jensen.families.special import match_log_ratio

__all__ = ["InverseGamma", "InverseGammaMean", "InverseGammaNatural", "InverseGammaStandard"]


class InverseGammaNatural(NamedTuple):
    """eta = (-concentration - 1, -rate)."""

    minus_concentration_minus_one: Tensor
    minus_rate: Tensor


class InverseGammaMean(NamedTuple):
    """E[T], T(z) = (log z, 1 / z)."""

    log: Tensor
    inverse: Tensor


class InverseGammaStandard(NamedTuple):
    """Concentration (shape) and rate (the scale of z)."""

    concentration: Tensor
    rate: Tensor


class InverseGamma(ExponentialFamily[InverseGammaNatural, InverseGammaMean, InverseGammaStandard]):
    """1 / z ~ Gamma(concentration a, rate b) for each element of a batch.

    T(z) = (log z, 1/z), eta = (-a - 1, -b), A = log Gamma(a) - a log b, h = 1.
    """

    Natural = InverseGammaNatural
    Mean = InverseGammaMean
    Standard = InverseGammaStandard
    event_dims = (0, 0)
    constraints: ClassVar = {"concentration": constraints.positive, "rate": constraints.positive}

    @classmethod
    def from_standard(cls, concentration: Tensor | float, rate: Tensor | float) -> Self:
        """From concentration and rate, of shapes that broadcast; raises ValueError."""
        return cls._from_standard(concentration, rate)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """From (E[log z], E[1/z]): Newton's method for the concentration alone, differentiable.

        Raises:
            ValueError: E[1/z] is not positive, or -E[log z] >= log E[1/z].
        """
        mean = cls._checked_mean(*fields)
        concentration = match_log_ratio(mean.inverse.log() + mean.log)
        return cls._possible(cls._to_natural(InverseGammaStandard(concentration, concentration / mean.inverse)))

    @classmethod
    def _to_natural(cls, standard: InverseGammaStandard) -> InverseGammaNatural:
        return InverseGammaNatural(-standard.concentration - 1, -standard.rate)

    @property
    def standard_parameters(self) -> InverseGammaStandard:
        """Concentration and rate."""
        natural = self.natural_parameters
        return InverseGammaStandard(-natural.minus_concentration_minus_one - 1, -natural.minus_rate)

    @property
    def event_shape(self) -> torch.Size:
        """()."""
        return torch.Size()

    def log_partition(self) -> Tensor:
        """log Gamma(a) - a log b."""
        concentration, rate = self.standard_parameters
        return torch.lgamma(concentration) - concentration * rate.log()

    def _mean_parameters(self) -> InverseGammaMean:
        concentration, rate = self.standard_parameters
        return InverseGammaMean(rate.log() - torch.digamma(concentration), concentration / rate)

    def sufficient_statistics(self, z: Tensor) -> InverseGammaMean:
        """(log z, 1 / z)."""
        return InverseGammaMean(z.log(), 1 / z)

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws differentiable in both parameters (implicit reparameterisation); finite."""
        concentration, rate = self.standard_parameters
        draws = rate * (-log_gamma_draws(concentration.expand((*shape, *self.batch_shape)), generator)).exp()
        return draws.clamp(max=torch.finfo(draws.dtype).max)

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws of shape (*shape, *batch_shape); finite."""
        with torch.no_grad():
            return self.rsample(shape, generator)

    def to_torch(self) -> torch.distributions.InverseGamma:
        """`torch.distributions.InverseGamma`."""
        return torch.distributions.InverseGamma(*self.standard_parameters)
