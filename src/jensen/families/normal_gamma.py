"""Normal-Gamma distributions: a vector and the number that scales its precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, constraints

from jensen.families.base import ExponentialFamily
from jensen.families.gamma import log_gamma_draws
from jensen.families.linear import from_factor, half_log_determinant, inverse, inverse_factor, outer, times
from jensen.families.special import match_log_ratio

__all__ = ["NormalGamma", "NormalGammaDraw", "NormalGammaMean", "NormalGammaNatural", "NormalGammaStandard"]


class NormalGammaNatural(NamedTuple):
    """eta = (P m, P, rate + m^T P m / 2, concentration - 1 + D/2), of a D-vector, a D x D matrix, two numbers."""

    precision_mean: Tensor
    precision: Tensor
    rate_plus_half_quadratic: Tensor
    concentration_minus_one_plus_half_dim: Tensor


class NormalGammaMean(NamedTuple):
    """E[T], T(b, t) = (t b, -t b b^T / 2, -t, log t)."""

    precision_mean: Tensor
    minus_half_precision_outer: Tensor
    minus_precision: Tensor
    log_precision: Tensor

    @property
    def precision(self) -> Tensor:
        """E[t]."""
        return -self.minus_precision

    @property
    def precision_outer(self) -> Tensor:
        """E[t b b^T]."""
        return -2 * self.minus_half_precision_outer


class NormalGammaStandard(NamedTuple):
    """Mean m (*batch, D), precision P (*batch, D, D) in units of t, concentration and rate (*batch) of t."""

    loc: Tensor
    precision: Tensor
    concentration: Tensor
    rate: Tensor


class NormalGammaDraw(NamedTuple):
    """b (..., D) and t (...)."""

    loc: Tensor
    precision: Tensor


class NormalGamma(ExponentialFamily[NormalGammaNatural, NormalGammaMean, NormalGammaStandard]):
    """t ~ Gamma(concentration a, rate r) and b | t ~ N(m, (t P)^-1), b a D-vector.

    T = (t b, -t b b^T / 2, -t, log t), eta = (P m, P, r + m^T P m / 2, a - 1 + D/2),
    A = log Gamma(a) - a log r - log det(P) / 2, h = (2 pi)^(-D/2). Draws are named tuples (loc, precision) = (b, t).
    """

    Natural = NormalGammaNatural
    Mean = NormalGammaMean
    Standard = NormalGammaStandard
    event_dims = (1, 2, 0, 0)
    constraints: ClassVar = {
        "loc": constraints.real_vector,
        "precision": constraints.positive_definite,
        "concentration": constraints.positive,
        "rate": constraints.positive,
    }

    @classmethod
    def from_standard(cls, loc: Tensor, precision: Tensor, concentration: Tensor | float, rate: Tensor | float) -> Self:
        """From m (*batch, D), P (*batch, D, D), concentration and rate; raises ValueError."""
        return cls._from_standard(loc, precision, concentration, rate)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """m and P in closed form, Newton's method for the concentration alone; differentiable.

        Raises:
            ValueError: no member has these expectations.
        """
        mean = cls._checked_mean(*fields)
        loc = mean.precision_mean / mean.precision.unsqueeze(-1)
        precision = inverse(mean.precision_outer - mean.precision[..., None, None] * outer(loc))
        concentration = match_log_ratio(mean.precision.log() - mean.log_precision)
        standard = NormalGammaStandard(loc, precision, concentration, concentration / mean.precision)
        return cls._possible(cls._to_natural(standard))

    @classmethod
    def _to_natural(cls, standard: NormalGammaStandard) -> NormalGammaNatural:
        loc, precision, concentration, rate = standard
        precision_mean = times(precision, loc)
        return NormalGammaNatural(
            precision_mean,
            precision,
            rate + 0.5 * (precision_mean * loc).sum(-1),
            concentration - 1 + 0.5 * loc.shape[-1],
        )

    @property
    def _factor(self) -> Tensor:
        """W with P^-1 = W^T W."""
        return self._once("factor", lambda: inverse_factor(self.natural_parameters.precision))

    @property
    def standard_parameters(self) -> NormalGammaStandard:
        """m, P, concentration and rate; NaN where P is not positive definite."""
        precision_mean, precision, rate_plus_half_quadratic, count = self.natural_parameters
        whitened = times(self._factor, precision_mean)
        rate = rate_plus_half_quadratic - 0.5 * whitened.square().sum(-1)
        concentration = count + 1 - 0.5 * precision_mean.shape[-1]
        return NormalGammaStandard(times(self._factor.mT, whitened), precision, concentration, rate)

    @property
    def event_shape(self) -> torch.Size:
        """(D,), that of b; t is a number."""
        return self.natural_parameters.precision_mean.shape[-1:]

    def log_partition(self) -> Tensor:
        """log Gamma(a) - a log r - log det(P) / 2."""
        _, _, concentration, rate = self.standard_parameters
        return torch.lgamma(concentration) - concentration * rate.log() + half_log_determinant(self._factor)

    def _mean_parameters(self) -> NormalGammaMean:
        loc, _, concentration, rate = self.standard_parameters
        t = concentration / rate
        precision_outer = from_factor(self._factor) + t[..., None, None] * outer(loc)
        log = torch.digamma(concentration) - rate.log()
        return NormalGammaMean(t.unsqueeze(-1) * loc, -0.5 * precision_outer, -t, log)

    def sufficient_statistics(self, z: NormalGammaDraw) -> NormalGammaMean:
        """(t b, -t b b^T / 2, -t, log t) of z = (b, t)."""
        b, t = z
        scaled = t.unsqueeze(-1) * b
        # scaled before squaring: where t is tiny, b b^T overflows and t b b^T does not
        return NormalGammaMean(scaled, -0.5 * scaled.unsqueeze(-1) * b.unsqueeze(-2), -t, t.log())

    def log_base_measure(self, z: NormalGammaDraw) -> float:
        """-D log(2 pi) / 2."""
        return -0.5 * self.event_shape[0] * math.log(2 * math.pi)

    def expected_log_base_measure(self) -> float:
        """-D log(2 pi) / 2."""
        return -0.5 * self.event_shape[0] * math.log(2 * math.pi)

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> NormalGammaDraw:
        """Differentiable draws (loc, precision) of shapes (*shape, *batch_shape, D) and (*shape, *batch_shape)."""
        loc, _, concentration, rate = self.standard_parameters
        t = log_gamma_draws(concentration.expand((*shape, *self.batch_shape)), generator).exp() / rate
        t = t.clamp(min=torch.finfo(t.dtype).tiny)
        noise = torch.randn((*shape, *loc.shape), dtype=loc.dtype, device=loc.device, generator=generator)
        return NormalGammaDraw(loc + times(self._factor.mT, noise) * t.rsqrt().unsqueeze(-1), t)

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> NormalGammaDraw:
        """Draws (loc, precision) of shapes (*shape, *batch_shape, D) and (*shape, *batch_shape)."""
        with torch.no_grad():
            return self.rsample(shape, generator)

    def to_torch(self) -> Distribution:
        """TypeError: `torch.distributions` has no Normal-Gamma distribution."""
        raise TypeError("torch.distributions has no Normal-Gamma distribution; use log_prob() and sample()")
