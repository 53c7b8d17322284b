"""Normal distributions of one dimension; a vector with a diagonal covariance is a batch of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import constraints

from jensen.families.base import ExponentialFamily
from jensen.families.checks import as_tensors

__all__ = ["Normal", "NormalMean", "NormalNatural", "NormalStandard"]

_LOG_BASE = -0.5 * math.log(2 * math.pi)


class NormalNatural(NamedTuple):
    """eta = (precision x mean, precision)."""

    precision_mean: Tensor
    precision: Tensor


class NormalMean(NamedTuple):
    """E[T], T(z) = (z, -z^2 / 2)."""

    mean: Tensor
    minus_half_square: Tensor

    @property
    def square(self) -> Tensor:
        """E[z^2]."""
        return -2 * self.minus_half_square


class NormalStandard(NamedTuple):
    """Mean and standard deviation."""

    loc: Tensor
    scale: Tensor


class Normal(ExponentialFamily[NormalNatural, NormalMean, NormalStandard]):
    """N(loc, scale^2) for each element of a batch.

    T(z) = (z, -z^2/2), eta = (loc / scale^2, 1 / scale^2), A = eta_1^2 / (2 eta_2) - log(eta_2) / 2,
    h = (2 pi)^(-1/2).
    """

    Natural = NormalNatural
    Mean = NormalMean
    Standard = NormalStandard
    event_dims = (0, 0)
    constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}

    @classmethod
    def from_standard(cls, loc: Tensor | float, scale: Tensor | float) -> Self:
        """From mean and standard deviation, of shapes that broadcast; raises ValueError."""
        return cls._from_standard(loc, scale)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """In closed form: the variance is E[z^2] - E[z]^2; raises ValueError where that is not positive."""
        mean = NormalMean(*as_tensors(fields))
        variance = mean.square - mean.mean**2
        return cls._from_standard(mean.mean, torch.where(variance > 0, variance, torch.nan).sqrt())

    @classmethod
    def _to_natural(cls, standard: NormalStandard) -> NormalNatural:
        precision = standard.scale**-2
        return NormalNatural(standard.loc * precision, precision)

    @property
    def standard_parameters(self) -> NormalStandard:
        """Mean and standard deviation."""
        precision_mean, precision = self.natural_parameters
        return NormalStandard(precision_mean / precision, precision.rsqrt())

    @property
    def event_shape(self) -> torch.Size:
        """()."""
        return torch.Size()

    def log_partition(self) -> Tensor:
        """eta_1^2 / (2 eta_2) - log(eta_2) / 2."""
        precision_mean, precision = self.natural_parameters
        return 0.5 * (precision_mean**2 / precision - precision.log())

    def _mean_parameters(self) -> NormalMean:
        precision_mean, precision = self.natural_parameters
        loc = precision_mean / precision
        return NormalMean(loc, -0.5 * (loc**2 + 1 / precision))

    def sufficient_statistics(self, z: Tensor) -> NormalMean:
        """(z, -z^2 / 2)."""
        return NormalMean(z, -0.5 * z**2)

    def log_base_measure(self, z: Tensor) -> float:
        """-log(2 pi) / 2."""
        return _LOG_BASE

    def expected_log_base_measure(self) -> float:
        """-log(2 pi) / 2."""
        return _LOG_BASE

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """loc + scale * noise."""
        loc, scale = self.standard_parameters
        noise = torch.randn((*shape, *self.batch_shape), dtype=loc.dtype, device=loc.device, generator=generator)
        return loc + scale * noise

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws of shape (*shape, *batch_shape)."""
        with torch.no_grad():
            return self.rsample(shape, generator)

    def to_torch(self) -> torch.distributions.Normal:
        """`torch.distributions.Normal`."""
        return torch.distributions.Normal(*self.standard_parameters)
