"""Dirichlet distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor

from jensen.families.base import ExponentialFamily
from jensen.families.checks import positive_vector
from jensen.families.gamma import log_gamma_draws
from jensen.families.special import match_log_proportions

__all__ = ["Dirichlet", "DirichletMean", "DirichletNatural", "DirichletStandard"]


class DirichletNatural(NamedTuple):
    """eta = concentration - 1, shape (*batch, K)."""

    concentration_minus_one: Tensor


class DirichletMean(NamedTuple):
    """E[T], T(z) = log z, shape (*batch, K)."""

    log: Tensor


class DirichletStandard(NamedTuple):
    """Concentrations, shape (*batch, K)."""

    concentration: Tensor


class Dirichlet(ExponentialFamily[DirichletNatural, DirichletMean, DirichletStandard]):
    """Dirichlet(concentration alpha) over the K proportions of a simplex.

    T(z) = log z, eta = alpha - 1, A = sum_k log Gamma(alpha_k) - log Gamma(sum_k alpha_k), h = 1; densities are with
    respect to the first K - 1 proportions.
    """

    Natural = DirichletNatural
    Mean = DirichletMean
    Standard = DirichletStandard
    event_dims = (1,)
    constraints: ClassVar = {"concentration": positive_vector}

    @classmethod
    def from_standard(cls, concentration: Tensor) -> Self:
        """From concentrations of shape (*batch, K); raises ValueError."""
        return cls._from_standard(concentration)

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """From E[log z] (Newton's method for the sum of the concentrations), differentiable.

        Raises:
            ValueError: sum_k exp(E[log z_k]) >= 1, which Jensen's inequality forbids.
        """
        mean = cls._checked_mean(*fields)
        return cls._possible(cls._to_natural(DirichletStandard(match_log_proportions(mean.log))))

    @classmethod
    def _to_natural(cls, standard: DirichletStandard) -> DirichletNatural:
        return DirichletNatural(standard.concentration - 1)

    @property
    def standard_parameters(self) -> DirichletStandard:
        """Concentrations."""
        return DirichletStandard(self.natural_parameters.concentration_minus_one + 1)

    @property
    def event_shape(self) -> torch.Size:
        """(K,)."""
        return self.natural_parameters.concentration_minus_one.shape[-1:]

    def log_partition(self) -> Tensor:
        """sum_k log Gamma(alpha_k) - log Gamma(sum_k alpha_k)."""
        concentration = self.standard_parameters.concentration
        return torch.lgamma(concentration).sum(-1) - torch.lgamma(concentration.sum(-1))

    def _mean_parameters(self) -> DirichletMean:
        concentration = self.standard_parameters.concentration
        return DirichletMean(torch.digamma(concentration) - torch.digamma(concentration.sum(-1, keepdim=True)))

    def sufficient_statistics(self, z: Tensor) -> DirichletMean:
        """log z."""
        return DirichletMean(z.log())

    def rsample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws (*shape, *batch_shape, K) by normalised Gamma draws in log space, differentiable; never 0."""
        concentration = self.standard_parameters.concentration
        logs = log_gamma_draws(concentration.expand((*shape, *concentration.shape)), generator)
        return logs.softmax(-1).clamp(min=torch.finfo(logs.dtype).tiny)

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Draws of shape (*shape, *batch_shape, K); never 0."""
        with torch.no_grad():
            return self.rsample(shape, generator)

    def to_torch(self) -> torch.distributions.Dirichlet:
        """`torch.distributions.Dirichlet`."""
        return torch.distributions.Dirichlet(self.standard_parameters.concentration)
