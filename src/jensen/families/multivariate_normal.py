"""Normal distributions of a vector with a full covariance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import constraints

from jensen.families.base import ExponentialFamily
from jensen.families.linear import from_factor, half_log_determinant, inverse, inverse_factor, outer, times

__all__ = [
    "MultivariateNormal",
    "MultivariateNormalMean",
    "MultivariateNormalNatural",
    "MultivariateNormalStandard",
]


class MultivariateNormalNatural(NamedTuple):
    """eta = (precision x mean, precision), shapes (*batch, D) and (*batch, D, D)."""

    precision_mean: Tensor
    precision: Tensor


class MultivariateNormalMean(NamedTuple):
    """E[T], T(z) = (z, -z z^T / 2)."""

    mean: Tensor
    minus_half_outer: Tensor

    @property
    def outer(self) -> Tensor:
        """E[z z^T]."""
        return -2 * self.minus_half_outer


class MultivariateNormalStandard(NamedTuple):
    """Mean (*batch, D) and covariance (*batch, D, D)."""

    loc: Tensor
    covariance: Tensor


class MultivariateNormal(
    ExponentialFamily[MultivariateNormalNatural, MultivariateNormalMean, MultivariateNormalStandard]
):
    """N(loc m, covariance P^-1) of D-vectors.

    T(z) = (z, -z z^T / 2), eta = (P m, P), A = m^T P m / 2 - log det(P) / 2, h = (2 pi)^(-D/2).
    """

    Natural = MultivariateNormalNatural
    Mean = MultivariateNormalMean
    Standard = MultivariateNormalStandard
    event_dims = (1, 2)
    constraints: ClassVar = {"loc": constraints.real_vector, "covariance": constraints.positive_definite}

    @classmethod
    def from_standard(cls, loc: Tensor, covariance: Tensor) -> Self:
        """From mean (*batch, D) and covariance (*batch, D, D); raises ValueError."""
        return cls._from_standard(loc, covariance)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """In closed form: the covariance is E[z z^T] - E[z] E[z]^T; raises ValueError where it is not positive."""
        mean = cls._checked_mean(*fields)
        covariance = mean.outer - outer(mean.mean)
        return cls._from_standard(mean.mean, covariance)

    @classmethod
    def _to_natural(cls, standard: MultivariateNormalStandard) -> MultivariateNormalNatural:
        precision = inverse(standard.covariance)
        return MultivariateNormalNatural(times(precision, standard.loc), precision)

    @property
    def standard_parameters(self) -> MultivariateNormalStandard:
        """Mean and covariance; NaN where the precision is not positive definite."""
        covariance = from_factor(self._factor)
        return MultivariateNormalStandard(times(covariance, self.natural_parameters.precision_mean), covariance)

    @property
    def _factor(self) -> Tensor:
        """W with covariance W^T W."""
        return self._once("factor", lambda: inverse_factor(self.natural_parameters.precision))

    @property
    def event_shape(self) -> torch.Size:
        """(D,)."""
        return self.natural_parameters.precision_mean.shape[-1:]

    def log_partition(self) -> Tensor:
        """m^T P m / 2 - log det(P) / 2."""
        whitened = times(self._factor, self.natural_parameters.precision_mean)
        return 0.5 * whitened.square().sum(-1) + half_log_determinant(self._factor)

    def _mean_parameters(self) -> MultivariateNormalMean:
        loc, covariance = self.standard_parameters
        return MultivariateNormalMean(loc, -0.5 * (covariance + outer(loc)))

    def sufficient_statistics(self, z: Tensor) -> MultivariateNormalMean:
        """(z, -z z^T / 2)."""
        return MultivariateNormalMean(z, -0.5 * outer(z))

    def log_base_measure(self, z: Tensor) -> float:
        """-D log(2 pi) / 2."""
        return -0.5 * self.event_shape[0] * math.log(2 * math.pi)

    def expected_log_base_measure(self) -> float:
        """-D log(2 pi) / 2."""
        return -0.5 * self.event_shape[0] * math.log(2 * math.pi)

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) in nats, shape (*anything, *batch_shape), without the D x D statistics of every z."""
        loc = self.standard_parameters.loc
        centred = z - loc
        quadratic = (centred * times(self.natural_parameters.precision, centred)).sum(-1)
        return -0.5 * quadratic - half_log_determinant(self._factor) + self.log_base_measure(z)

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """loc + W^T noise with covariance W^T W, shape (*shape, *batch_shape, D)."""
        loc = self.standard_parameters.loc
        noise = torch.randn((*shape, *loc.shape), dtype=loc.dtype, device=loc.device, generator=generator)
        return loc + times(self._factor.mT, noise)

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws of shape (*shape, *batch_shape, D)."""
        with torch.no_grad():
            return self.rsample(shape, generator)

    def to_torch(self) -> torch.distributions.MultivariateNormal:
        """`torch.distributions.MultivariateNormal`."""
        loc = self.standard_parameters.loc
        return torch.distributions.MultivariateNormal(loc, precision_matrix=self.natural_parameters.precision)
