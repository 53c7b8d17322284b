"""Wishart distributions, of a precision matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from jensen.families.base import ExponentialFamily
from jensen.families.checks import AboveDimension
from jensen.families.gamma import log_gamma_draws
from jensen.families.linear import from_factor, half_log_determinant, inverse, inverse_factor
from jensen.families.special import log_multigamma, match_log_ratio, multidigamma

__all__ = [
    "Wishart",
    "WishartMean",
    "WishartNatural",
    "WishartStandard",
    "bartlett",
    "expected_half_log_det",
    "log_normaliser",
    "match_df",
    "standard_bartlett",
]


class WishartNatural(NamedTuple):
    """eta = (V^-1, df - D - 1), shapes (*batch, D, D) and (*batch)."""

    inverse_scale: Tensor
    df_minus_dim_minus_one: Tensor


class WishartMean(NamedTuple):
    """E[T], T(L) = (-L / 2, log det(L) / 2)."""

    minus_half_precision: Tensor
    half_log_det: Tensor

    @property
    def precision(self) -> Tensor:
        """E[L]."""
        return -2 * self.minus_half_precision

    @property
    def log_det(self) -> Tensor:
        """E[log det L]."""
        return 2 * self.half_log_det


class WishartStandard(NamedTuple):
    """Degrees of freedom (*batch) and scale matrix V (*batch, D, D)."""

    df: Tensor
    scale: Tensor


class Wishart(ExponentialFamily[WishartNatural, WishartMean, WishartStandard]):
    """Wishart(df n, scale V) of a positive definite D x D matrix L with mean n V; n > D - 1.

    T(L) = (-L/2, log det(L) / 2), eta = (V^-1, n - D - 1), A = n/2 log det(2 V) + log Gamma_D(n/2), h = 1; densities
    are with respect to the lower triangle of L.
    """

    Natural = WishartNatural
    Mean = WishartMean
    Standard = WishartStandard
    event_dims = (2, 0)
    constraints: ClassVar = {"df": constraints.positive, "scale": constraints.positive_definite}

    @classmethod
    def _constraints(cls, size: int) -> Mapping[str, Constraint]:
        return {**cls.constraints, "df": AboveDimension(size)}

    @classmethod
    def from_standard(cls, df: Tensor | float, scale: Tensor) -> Self:
        """From degrees of freedom (*batch), above D - 1, and scale (*batch, D, D); raises ValueError."""
        return cls._from_standard(df, scale)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """From E[-L/2] and E[log det L] / 2: Newton's method for the degrees of freedom alone, differentiable.

        Raises:
            ValueError: E[L] is not positive definite, or E[log det L] >= log det E[L].
        """
        mean = cls._checked_mean(*fields)
        df, inverse_scale = match_df(mean.precision, mean.log_det)
        return cls._possible(WishartNatural(inverse_scale, df - inverse_scale.shape[-1] - 1))

    @classmethod
    def _to_natural(cls, standard: WishartStandard) -> WishartNatural:
        return WishartNatural(inverse(standard.scale), standard.df - standard.scale.shape[-1] - 1)

    @property
    def _df(self) -> Tensor:
        inverse_scale, df_minus_dim_minus_one = self.natural_parameters
        return df_minus_dim_minus_one + inverse_scale.shape[-1] + 1

    @property
    def _factor(self) -> Tensor:
        """W with V = W^T W."""
        return self._once("factor", lambda: inverse_factor(self.natural_parameters.inverse_scale))

    @property
    def standard_parameters(self) -> WishartStandard:
        """Degrees of freedom and scale; NaN where the inverse scale is not positive definite."""
        return WishartStandard(self._df, from_factor(self._factor))

    @property
    def event_shape(self) -> torch.Size:
        """(D, D)."""
        return self.natural_parameters.inverse_scale.shape[-2:]

    def log_partition(self) -> Tensor:
        """n/2 log det(2 V) + log Gamma_D(n/2)."""
        return log_normaliser(self._df, self._factor)

    def _mean_parameters(self) -> WishartMean:
        df, factor = self._df, self._factor
        return WishartMean(-0.5 * df[..., None, None] * from_factor(factor), expected_half_log_det(df, factor))

    def sufficient_statistics(self, z: Tensor) -> WishartMean:
        """(-z/2, log det(z) / 2)."""
        return WishartMean(-0.5 * z, -half_log_determinant(inverse_factor(z)))

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws (*shape, *batch_shape, D, D) by Bartlett's decomposition, differentiable.

        With less than D degrees of freedom, draws may be singular to rounding: their log_prob is then NaN.
        """
        root = bartlett(self._df.expand((*shape, *self.batch_shape)), self._factor, generator)
        return root @ root.mT

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws of shape (*shape, *batch_shape, D, D)."""
        with torch.no_grad():
            return self.rsample(shape, generator)

    def to_torch(self) -> torch.distributions.Wishart:
        """`torch.distributions.Wishart`."""
        return torch.distributions.Wishart(self._df, precision_matrix=self.natural_parameters.inverse_scale)


def log_normaliser(df: Tensor, factor: Tensor) -> Tensor:
    """n/2 log det(2 V) + log Gamma_D(n/2) for V = W^T W, nats."""
    dim = factor.shape[-1]
    constant = dim * (dim - 1) / 4 * math.log(math.pi)
    return df * (half_log_determinant(factor) + 0.5 * dim * math.log(2)) + log_multigamma(df / 2, dim) + constant


def expected_half_log_det(df: Tensor, factor: Tensor) -> Tensor:
    """E[log det L] / 2 for V = W^T W."""
    dim = factor.shape[-1]
    return half_log_determinant(factor) + 0.5 * (multidigamma(df / 2, dim) + dim * math.log(2))


def bartlett(df: Tensor, factor: Tensor, generator: Generator | None) -> Tensor:
    """R with R R^T ~ Wishart(df, W^T W), shape (*df.shape, D, D): W^T times `standard_bartlett`."""
    return factor.mT @ standard_bartlett(df, factor.shape[-1], generator)


def standard_bartlett(df: Tensor, dim: int, generator: Generator | None) -> Tensor:
    """Lower triangular A with A A^T ~ Wishart(df, identity) (Bartlett 1933), shape (*df.shape, D, D).

    Roots of chi-squared draws with df - i degrees of freedom on the diagonal (never 0), normal draws below it.
    """
    concentration = (df.unsqueeze(-1) - torch.arange(dim, dtype=df.dtype, device=df.device)) / 2
    diagonal = (0.5 * (log_gamma_draws(concentration, generator) + math.log(2))).exp()
    below = torch.randn((*df.shape, dim, dim), dtype=df.dtype, device=df.device, generator=generator).tril(-1)
    return below + torch.diag_embed(diagonal.clamp(min=torch.finfo(df.dtype).tiny ** 0.5))


def match_df(precision: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
    """Degrees of freedom and inverse scale of the Wishart distribution with this E[L] and E[log det L]."""
    factor = inverse_factor(precision)
    df = 2 * match_log_ratio(-2 * half_log_determinant(factor) - log_det, precision.shape[-1])
    return df, df[..., None, None] * from_factor(factor)
