"""Poisson distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import constraints

from jensen.families.base import ExponentialFamily

__all__ = ["Poisson", "PoissonMean", "PoissonNatural", "PoissonStandard"]

# Entropy = log(2 pi e rate) / 2 + sum_k c_k rate^-k, asymptotically: integrate d/d rate E[log z!] = E[log(z + 1)],
# expanded in central moments (as Evans & Boersma 1988, "The entropy of a Poisson distribution").
_SERIES = (
    *(-1 / 12, -1 / 24, -19 / 360, -9 / 80, -863 / 2520, -1375 / 1008),
    *(-33953 / 5040, -57281 / 1440, -3250433 / 11880, -378351 / 176),
)
_LARGE = 50.0  # from here on the series errs by less than 1e-14
_TERMS = 200  # below, the sum over z < 200 leaves out less than 1e-40


class PoissonNatural(NamedTuple):
    """eta = log rate."""

    log_rate: Tensor


class PoissonMean(NamedTuple):
    """E[T], T(z) = z: the rate."""

    mean: Tensor


class PoissonStandard(NamedTuple):
    """The rate."""

    rate: Tensor


class Poisson(ExponentialFamily[PoissonNatural, PoissonMean, PoissonStandard]):
    """Counts with mean `rate`, for each element of a batch.

    T(z) = z, eta = log rate, A = rate, h = 1/z!: the one family here whose base measure is not constant, so a conjugate
    model leaves log h out of its terms and of the entropy. `entropy()` is the true one.
    """

    Natural = PoissonNatural
    Mean = PoissonMean
    Standard = PoissonStandard
    event_dims = (0,)
    constraints: ClassVar = {"rate": constraints.positive}
    has_rsample = False
    constant_base_measure = False

    @classmethod
    def from_standard(cls, rate: Tensor | float) -> Self:
        """From the rate; raises ValueError."""
        return cls._from_standard(rate)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """In closed form; raises ValueError where the rate is not positive."""
        return cls._from_standard(*fields)

    @classmethod
    def _to_natural(cls, standard: PoissonStandard) -> PoissonNatural:
        return PoissonNatural(standard.rate.log())

    @property
    def standard_parameters(self) -> PoissonStandard:
        """The rate."""
        return PoissonStandard(self.natural_parameters.log_rate.exp())

    @property
    def event_shape(self) -> torch.Size:
        """()."""
        return torch.Size()

    def log_partition(self) -> Tensor:
        """The rate."""
        return self.natural_parameters.log_rate.exp()

    def _mean_parameters(self) -> PoissonMean:
        return PoissonMean(self.natural_parameters.log_rate.exp())

    def sufficient_statistics(self, z: Tensor) -> PoissonMean:
        """z."""
        return PoissonMean(z.to(self.natural_parameters.log_rate.dtype))

    def log_base_measure(self, z: Tensor) -> Tensor:
        """-log z!."""
        return -torch.lgamma(z.to(self.natural_parameters.log_rate.dtype) + 1)

    def expected_log_base_measure(self) -> Tensor:
        """-E[log z!], to rounding."""
        log_rate = self.natural_parameters.log_rate
        return -self.entropy() + log_rate.exp() * (1 - log_rate)

    def entropy(self) -> Tensor:
        """-E_q[log q(z)] in nats: a sum for small rates, an asymptotic series for large ones, to rounding."""
        log_rate = self.natural_parameters.log_rate
        large = log_rate >= math.log(_LARGE)
        few = torch.where(large, 0.0, log_rate).unsqueeze(-1)
        z = torch.arange(_TERMS, dtype=log_rate.dtype, device=log_rate.device)
        logs = z * few - few.exp() - torch.lgamma(z + 1)
        exact = -(logs.exp() * logs).sum(-1)
        inverse = (-torch.where(large, log_rate, math.log(_LARGE))).exp()
        series = torch.zeros_like(inverse)
        for coefficient in reversed(_SERIES):
            series = (series + coefficient) * inverse
        return torch.where(large, 0.5 * (math.log(2 * math.pi * math.e) + log_rate) + series, exact)

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Counts (floating) of shape (*shape, *batch_shape)."""
        rate = self.standard_parameters.rate.detach().expand((*shape, *self.batch_shape))
        return torch.poisson(rate, generator=generator)

    def to_torch(self) -> torch.distributions.Poisson:
        """`torch.distributions.Poisson`."""
        return torch.distributions.Poisson(self.standard_parameters.rate)
