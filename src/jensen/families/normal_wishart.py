"""Normal-Wishart distributions: a mean vector and a precision matrix together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

from jensen.families.base import ExponentialFamily
from jensen.families.checks import AboveDimension
from jensen.families.linear import from_factor, half_log_determinant, inverse, inverse_factor, outer, times
from jensen.families.wishart import expected_half_log_det, log_normaliser, match_df, standard_bartlett

__all__ = [
    "NormalWishart",
    "NormalWishartDraw",
    "NormalWishartMean",
    "NormalWishartNatural",
    "NormalWishartStandard",
]


class NormalWishartNatural(NamedTuple):
    """eta = (kappa m, kappa, V^-1 + kappa m m^T, df - D), shapes (*batch, D), (*batch), (*batch, D, D), (*batch)."""

    kappa_mean: Tensor
    kappa: Tensor
    inverse_scale_plus_outer: Tensor
    df_minus_dim: Tensor


class NormalWishartMean(NamedTuple):
    """E[T], T(mu, L) = (L mu, -mu^T L mu / 2, -L / 2, log det(L) / 2)."""

    precision_mean: Tensor
    minus_half_quadratic: Tensor
    minus_half_precision: Tensor
    half_log_det: Tensor

    @property
    def quadratic(self) -> Tensor:
        """E[mu^T L mu]."""
        return -2 * self.minus_half_quadratic

    @property
    def precision(self) -> Tensor:
        """E[L]."""
        return -2 * self.minus_half_precision

    @property
    def log_det(self) -> Tensor:
        """E[log det L]."""
        return 2 * self.half_log_det


class NormalWishartStandard(NamedTuple):
    """Mean m (*batch, D), its weight kappa (*batch), degrees of freedom (*batch), scale V (*batch, D, D)."""

    loc: Tensor
    kappa: Tensor
    df: Tensor
    scale: Tensor


class NormalWishartDraw(NamedTuple):
    """mu (..., D) and L (..., D, D)."""

    loc: Tensor
    precision: Tensor


class NormalWishart(ExponentialFamily[NormalWishartNatural, NormalWishartMean, NormalWishartStandard]):
    """L ~ Wishart(df n, scale V) and mu | L ~ N(m, (kappa L)^-1); n > D - 1.

    T = (L mu, -mu^T L mu / 2, -L / 2, log det(L) / 2), eta = (kappa m, kappa, V^-1 + kappa m m^T, n - D),
    A = n/2 log det(2 V) + log Gamma_D(n/2) - D/2 log kappa, h = (2 pi)^(-D/2). Draws are named tuples (loc, precision).
    """

    Natural = NormalWishartNatural
    Mean = NormalWishartMean
    Standard = NormalWishartStandard
    event_dims = (1, 0, 2, 0)
    constraints: ClassVar = {
        "loc": constraints.real_vector,
        "kappa": constraints.positive,
        "df": constraints.positive,
        "scale": constraints.positive_definite,
    }

    @classmethod
    def _constraints(cls, size: int) -> Mapping[str, Constraint]:
        return {**cls.constraints, "df": AboveDimension(size)}

    @classmethod
    def from_standard(cls, loc: Tensor, kappa: Tensor | float, df: Tensor | float, scale: Tensor) -> Self:
        """From m (*batch, D), kappa, degrees of freedom above D - 1 and scale (*batch, D, D); raises ValueError."""
        return cls._from_standard(loc, kappa, df, scale)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """m, kappa in closed form, Newton's method for the degrees of freedom alone; differentiable.

        Raises:
            ValueError: no member has these expectations.
        """
        mean = cls._checked_mean(*fields)
        covariance = inverse(mean.precision)
        loc = times(covariance, mean.precision_mean)
        kappa = loc.shape[-1] / (mean.quadratic - (loc * mean.precision_mean).sum(-1))
        df, inverse_scale = match_df(mean.precision, mean.log_det)
        return cls._possible(_natural(loc, kappa, df, inverse_scale))

    @classmethod
    def _to_natural(cls, standard: NormalWishartStandard) -> NormalWishartNatural:
        loc, kappa, df, scale = standard
        return _natural(loc, kappa, df, inverse(scale))

    @property
    def _df(self) -> Tensor:
        return self.natural_parameters.df_minus_dim + self.event_shape[0]

    @property
    def _loc(self) -> Tensor:
        return self.natural_parameters.kappa_mean / self.natural_parameters.kappa.unsqueeze(-1)

    @property
    def _factor(self) -> Tensor:
        """W with V = W^T W."""

        def compute() -> Tensor:
            kappa_mean, kappa, inverse_scale_plus_outer, _ = self.natural_parameters
            return inverse_factor(inverse_scale_plus_outer - outer(kappa_mean) / kappa[..., None, None])

        return self._once("factor", compute)

    @property
    def standard_parameters(self) -> NormalWishartStandard:
        """m, kappa, degrees of freedom and scale; NaN where the inverse scale is not positive definite."""
        return NormalWishartStandard(self._loc, self.natural_parameters.kappa, self._df, from_factor(self._factor))

    @property
    def event_shape(self) -> torch.Size:
        """(D,), that of mu; L is D x D."""
        return self.natural_parameters.kappa_mean.shape[-1:]

    def log_partition(self) -> Tensor:
        """n/2 log det(2 V) + log Gamma_D(n/2) - D/2 log kappa."""
        kappa = self.natural_parameters.kappa
        return log_normaliser(self._df, self._factor) - 0.5 * self.event_shape[0] * kappa.log()

    def _mean_parameters(self) -> NormalWishartMean:
        df, loc, factor = self._df, self._loc, self._factor
        precision = df[..., None, None] * from_factor(factor)
        precision_mean = times(precision, loc)
        quadratic = loc.shape[-1] / self.natural_parameters.kappa + (precision_mean * loc).sum(-1)
        return NormalWishartMean(precision_mean, -0.5 * quadratic, -0.5 * precision, expected_half_log_det(df, factor))

    def sufficient_statistics(self, z: NormalWishartDraw) -> NormalWishartMean:
        """(L mu, -mu^T L mu / 2, -L / 2, log det(L) / 2) of z = (mu, L)."""
        loc, precision = z
        precision_mean = times(precision, loc)
        return NormalWishartMean(
            precision_mean,
            -0.5 * (precision_mean * loc).sum(-1),
            -0.5 * precision,
            -half_log_determinant(inverse_factor(precision)),
        )

    def log_base_measure(self, z: NormalWishartDraw) -> float:
        """-D log(2 pi) / 2."""
        return -0.5 * self.event_shape[0] * math.log(2 * math.pi)

    def expected_log_base_measure(self) -> float:
        """-D log(2 pi) / 2."""
        return -0.5 * self.event_shape[0] * math.log(2 * math.pi)

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> NormalWishartDraw:
        """Differentiable draws: L by Bartlett's decomposition, mu given L; shapes (*shape, *batch_shape, D[, D])."""
        loc = self._loc
        factor = self._factor
        triangle = standard_bartlett(self._df.expand((*shape, *self.batch_shape)), loc.shape[-1], generator)
        root = factor.mT @ triangle
        noise = torch.randn((*shape, *loc.shape), dtype=loc.dtype, device=loc.device, generator=generator)
        # L = R R^T with R = W^T A, so R^-T noise = W^-1 A^-T noise has covariance L^-1
        centred = torch.linalg.solve_triangular(triangle.mT, noise.unsqueeze(-1), upper=True)
        centred = torch.linalg.solve_triangular(factor, centred, upper=False).squeeze(-1)
        return NormalWishartDraw(loc + centred * self.natural_parameters.kappa.rsqrt().unsqueeze(-1), root @ root.mT)

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> NormalWishartDraw:
        """Draws (loc, precision) of shapes (*shape, *batch_shape, D) and (*shape, *batch_shape, D, D)."""
        with torch.no_grad():
            return self.rsample(shape, generator)

    def to_torch(self) -> Distribution:
        """TypeError: `torch.distributions` has no Normal-Wishart distribution."""
        raise TypeError("torch.distributions has no Normal-Wishart distribution; use log_prob() and sample()")


def _natural(loc: Tensor, kappa: Tensor, df: Tensor, inverse_scale: Tensor) -> NormalWishartNatural:
    kappa_mean = kappa.unsqueeze(-1) * loc
    plus_outer = inverse_scale + kappa[..., None, None] * outer(loc)
    return NormalWishartNatural(kappa_mean, kappa, plus_outer, df - loc.shape[-1])
