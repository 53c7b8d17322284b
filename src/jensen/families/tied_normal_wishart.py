"""Several mean vectors and the one precision matrix that they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

from jensen.families.base import ExponentialFamily
from jensen.families.checks import AboveDimension, as_tensors, first_violation
from jensen.families.linear import from_factor, half_log_determinant, inverse, inverse_factor
from jensen.families.wishart import bartlett, expected_half_log_det, log_normaliser, match_df

__all__ = [
    "TiedNormalWishart",
    "TiedNormalWishartDraw",
    "TiedNormalWishartMean",
    "TiedNormalWishartNatural",
    "TiedNormalWishartStandard",
]


class TiedNormalWishartNatural(NamedTuple):
    """eta, shapes (*batch, K D), (*batch, K), (*batch, D, D), (*batch); kappa_k m_k stand one after the other."""

    kappa_mean: Tensor
    kappa: Tensor
    inverse_scale_plus_outers: Tensor
    df_plus_count_minus_dim_minus_one: Tensor


class TiedNormalWishartMean(NamedTuple):
    """E[T], T(mu, L) = (L mu_1, ..., L mu_K in one vector, -mu_k^T L mu_k / 2, -L / 2, log det(L) / 2)."""

    precision_mean: Tensor
    minus_half_quadratic: Tensor
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


class TiedNormalWishartStandard(NamedTuple):
    """Means (*batch, K, D), their weights kappa (*batch, K), degrees of freedom (*batch), scale V (*batch, D, D)."""

    loc: Tensor
    kappa: Tensor
    df: Tensor
    scale: Tensor


class TiedNormalWishartDraw(NamedTuple):
    """mu (..., K, D) and L (..., D, D)."""

    loc: Tensor
    precision: Tensor


class TiedNormalWishart(ExponentialFamily[TiedNormalWishartNatural, TiedNormalWishartMean, TiedNormalWishartStandard]):
    """L ~ Wishart(df n, scale V) and, given L, independent mu_k ~ N(m_k, (kappa_k L)^-1), k = 1..K.

    T = (L mu_k, -mu_k^T L mu_k / 2, -L / 2, log det(L) / 2),
    eta = (kappa_k m_k, kappa_k, V^-1 + sum_k kappa_k m_k m_k^T, n - D - 1 + K),
    A = n/2 log det(2 V) + log Gamma_D(n/2) - D/2 sum_k log kappa_k, h = (2 pi)^(-K D/2).
    With K = 1 it is the Normal-Wishart distribution. K and D differ, so the K means stand in one vector of length K D.
    """

    Natural = TiedNormalWishartNatural
    Mean = TiedNormalWishartMean
    Standard = TiedNormalWishartStandard
    event_dims = (1, 1, 2, 0)
    constraints: ClassVar = {
        "loc": constraints.independent(constraints.real, 2),
        "kappa": constraints.independent(constraints.positive, 1),
        "df": constraints.positive,
        "scale": constraints.positive_definite,
    }

    @classmethod
    def _constraints(cls, size: int) -> Mapping[str, Constraint]:
        return {**cls.constraints, "df": AboveDimension(size)}

    @classmethod
    def from_standard(cls, loc: Tensor, kappa: Tensor, df: Tensor | float, scale: Tensor) -> Self:
        """From m (*batch, K, D), kappa (*batch, K), degrees of freedom above D - 1 and scale (*batch, D, D).

        Raises:
            ValueError: shapes that do not fit together, or a parameter outside of its domain; names it and its index.
        """
        standard = TiedNormalWishartStandard(*as_tensors((loc, kappa, df, scale)))
        shapes = {name: tuple(value.shape) for name, value in zip(standard._fields, standard, strict=True)}
        if standard.loc.dim() < 2 or standard.scale.dim() < 2 or standard.kappa.dim() < 1:
            raise ValueError(f"{cls.__name__}: needs loc (K, D), kappa (K), df, scale (D, D); got {shapes}")
        count, size = standard.loc.shape[-2:]
        if not count or not size or standard.scale.shape[-2:] != (size, size) or standard.kappa.shape[-1] != count:
            raise ValueError(f"{cls.__name__}: needs loc (K, D), kappa (K), df, scale (D, D); got {shapes}")
        fault = first_violation(standard, cls._constraints(size))
        if fault:
            raise ValueError(f"{cls.__name__}: {fault}")
        return cls(cls._to_natural(standard))

    @classmethod
    def from_natural(cls, *fields: Any) -> Self:
        """From natural parameters, in the order of `Natural`; raises ValueError outside of their domain."""
        natural = cls.Natural(*as_tensors(fields))
        count, size = natural.kappa.shape[-1], natural.inverse_scale_plus_outers.shape[-1]
        if natural.kappa_mean.shape[-1] != count * size:
            raise ValueError(
                f"{cls.__name__}: kappa_mean must have K D = {count} x {size} elements, got shape "
                f"{tuple(natural.kappa_mean.shape)}"
            )
        q = cls(natural)
        fault = first_violation(q.standard_parameters, cls._constraints(size))
        if fault:
            raise ValueError(f"{cls.__name__}: these natural parameters give {fault}")
        return q

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """Means and kappa in closed form, Newton's method for the degrees of freedom alone; differentiable.

        Raises:
            ValueError: no member has these expectations.
        """
        mean = cls.Mean(*as_tensors(fields))
        size = mean.minus_half_precision.shape[-1]
        precision_mean = mean.precision_mean.unflatten(-1, (-1, size))
        loc = precision_mean @ inverse(mean.precision)
        kappa = size / (-2 * mean.minus_half_quadratic - (loc * precision_mean).sum(-1))
        df, inverse_scale = match_df(mean.precision, mean.log_det)
        return cls.from_natural(*_natural(loc, kappa, df, inverse_scale))

    @classmethod
    def _to_natural(cls, standard: TiedNormalWishartStandard) -> TiedNormalWishartNatural:
        loc, kappa, df, scale = standard
        return _natural(loc, kappa, df, inverse(scale))

    @property
    def _df(self) -> Tensor:
        _, kappa, matrix, shifted = self.natural_parameters
        return shifted - kappa.shape[-1] + matrix.shape[-1] + 1

    @property
    def _loc(self) -> Tensor:
        kappa_mean, kappa, _, _ = self.natural_parameters
        loc: Tensor = kappa_mean.unflatten(-1, (kappa.shape[-1], -1)) / kappa.unsqueeze(-1)
        return loc

    @property
    def _factor(self) -> Tensor:
        """W with V = W^T W."""

        def compute() -> Tensor:
            weighted = self._loc * self.natural_parameters.kappa.unsqueeze(-1)
            return inverse_factor(self.natural_parameters.inverse_scale_plus_outers - weighted.mT @ self._loc)

        return self._once("factor", compute)

    @property
    def standard_parameters(self) -> TiedNormalWishartStandard:
        """m, kappa, degrees of freedom and scale; NaN where the inverse scale is not positive definite."""
        scale = from_factor(self._factor)
        return TiedNormalWishartStandard(self._loc, self.natural_parameters.kappa, self._df, scale)

    @property
    def event_shape(self) -> torch.Size:
        """(K, D), that of the means; L is D x D."""
        _, kappa, matrix, _ = self.natural_parameters
        return torch.Size((kappa.shape[-1], matrix.shape[-1]))

    def log_partition(self) -> Tensor:
        """n/2 log det(2 V) + log Gamma_D(n/2) - D/2 sum_k log kappa_k."""
        kappa = self.natural_parameters.kappa
        return log_normaliser(self._df, self._factor) - 0.5 * self.event_shape[1] * kappa.log().sum(-1)

    def _mean_parameters(self) -> TiedNormalWishartMean:
        df, loc, factor = self._df, self._loc, self._factor
        precision = df[..., None, None] * from_factor(factor)
        precision_mean = loc @ precision
        quadratic = loc.shape[-1] / self.natural_parameters.kappa + (precision_mean * loc).sum(-1)
        half_log_det = expected_half_log_det(df, factor)
        return TiedNormalWishartMean(precision_mean.flatten(-2), -0.5 * quadratic, -0.5 * precision, half_log_det)

    def sufficient_statistics(self, z: TiedNormalWishartDraw) -> TiedNormalWishartMean:
        """T(z) of z = (mu, L)."""
        loc, precision = z
        precision_mean = loc @ precision
        quadratic = (precision_mean * loc).sum(-1)
        half_log_det = -half_log_determinant(inverse_factor(precision))
        return TiedNormalWishartMean(precision_mean.flatten(-2), -0.5 * quadratic, -0.5 * precision, half_log_det)

    def log_base_measure(self, z: TiedNormalWishartDraw) -> float:
        """-K D log(2 pi) / 2."""
        return self.expected_log_base_measure()

    def expected_log_base_measure(self) -> float:
        """-K D log(2 pi) / 2."""
        return -0.5 * math.prod(self.event_shape) * math.log(2 * math.pi)

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> TiedNormalWishartDraw:
        """Differentiable draws: L by Bartlett's decomposition, the means given L."""
        loc = self._loc
        root = bartlett(self._df.expand(*shape, *self.batch_shape), self._factor, generator)
        noise = torch.randn(*shape, *loc.shape, dtype=loc.dtype, device=loc.device, generator=generator)
        # L = R R^T, so R^-T noise has covariance L^-1
        centred = torch.linalg.solve(root.mT, noise.mT).mT
        scaled = centred * self.natural_parameters.kappa.rsqrt().unsqueeze(-1)
        return TiedNormalWishartDraw(loc + scaled, root @ root.mT)

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> TiedNormalWishartDraw:
        """Draws (loc, precision) of shapes (*shape, *batch_shape, K, D) and (*shape, *batch_shape, D, D)."""
        with torch.no_grad():
            return self.rsample(shape, generator)

    def fisher_information(self) -> Tensor:
        """The Hessian of the log-partition in minimal coordinates (`to_minimal`), shape (*batch_shape, d, d)."""
        count, size = self.event_shape
        lengths = [count * size, count, size * (size + 1) // 2, 1]
        rows, columns = torch.tril_indices(size, size)

        def log_partition(vector: Tensor) -> Tensor:
            kappa_mean, kappa, triangle, df = vector.split(lengths)
            half = torch.zeros(size, size, dtype=vector.dtype).index_put((rows, columns), triangle)
            matrix = half + half.tril(-1).mT
            return type(self)(self.Natural(kappa_mean, kappa, matrix, df[0])).log_partition()

        vector = self.to_minimal(self.natural_parameters).detach()
        flat = vector.reshape(-1, vector.shape[-1])
        hessians = torch.stack([torch.func.hessian(log_partition)(v) for v in flat])
        return hessians.reshape(*vector.shape, vector.shape[-1])

    def to_torch(self) -> Distribution:
        """TypeError: `torch.distributions` has no such distribution."""
        raise TypeError(
            "torch.distributions has no Normal-Wishart distribution; use log_prob() and sample() of this one"
        )


def _natural(loc: Tensor, kappa: Tensor, df: Tensor, inverse_scale: Tensor) -> TiedNormalWishartNatural:
    weighted = kappa.unsqueeze(-1) * loc
    count, size = loc.shape[-2:]
    return TiedNormalWishartNatural(
        weighted.flatten(-2), kappa, inverse_scale + weighted.mT @ loc, df - size - 1 + count
    )
