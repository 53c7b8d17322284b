"""What a mixture's posterior says: expected weights, means and covariances, and the Student-t predictive density."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.linalg import solve_triangular

from jensen.families import Dirichlet, NormalGamma, NormalWishart
from jensen.families.gamma import log_gamma_draws
from jensen.families.tied_normal_wishart import TiedNormalWishart
from jensen.inference.models.mixture import Components, Weights
from jensen.inference.models.mixture_kernels import Covariance

__all__ = [
    "StudentMixture",
    "components_from",
    "expected_covariances",
    "expected_means",
    "expected_weights",
    "mean_precisions_and_degrees",
    "placed",
    "predictive",
]

_ROWS = 4096


def expected_weights(weights: Weights) -> Tensor:
    """E[pi], shape (K,); with sticks the last weight is what the others leave."""
    if isinstance(weights, Dirichlet):
        concentration = weights.standard_parameters.concentration
        return concentration / concentration.sum(-1, keepdim=True)
    a, b = weights.standard_parameters
    broken, end = a / (a + b), a.new_ones(1)
    return torch.cat([broken, end]) * torch.cat([end, (1 - broken).cumprod(-1)])


def expected_means(covariance: Covariance, components: Components) -> Tensor:
    """E[mu], shape (K, D)."""
    loc = components.standard_parameters.loc
    return loc.squeeze(-1) if covariance == "diag" else loc


def expected_covariances(covariance: Covariance, components: Components) -> Tensor:
    """E[Lambda]^-1: shapes (K, D, D), (D, D) for "tied", (K, D) for "diag", (K,) for "spherical"."""
    parameters: Any = components.standard_parameters
    if isinstance(components, NormalGamma):
        rate_over_concentration: Tensor = parameters.rate / parameters.concentration
        return rate_over_concentration
    inverse: Tensor = torch.linalg.inv(parameters.scale * parameters.df[..., None, None])
    return 0.5 * (inverse + inverse.mT)


@dataclass(frozen=True)
class StudentMixture:
    """sum_k weight_k t_k(x): the density of a new row under q, exactly.

    Each t_k is a Student-t of D dimensions ("full", "tied", "spherical"), or a product of D of one dimension ("diag").

    Args:
        weights: (K,).
        loc: (K, D).
        degrees_of_freedom: (K,).
        factor: whitens: with u = factor_k (x - loc_k), t_k depends on |u|^2 / degrees of freedom (each column's own
            u_d^2 for "diag"). Shapes (K, D, D), (K, D) for "diag", (K, 1) for "spherical".
        separate: whether columns have densities of their own.
    """

    weights: Tensor
    loc: Tensor
    degrees_of_freedom: Tensor
    factor: Tensor
    separate: bool

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of the rows of `x` (N, D), nats, shape (N,); a few thousand rows at a time."""
        return torch.cat([self.log_joint(rows).logsumexp(-1) for rows in x.split(_ROWS)])

    def log_joint(self, x: Tensor) -> Tensor:
        """log weight_k + log t_k(x_n), shape (N, K)."""
        return torch.stack([self._log_component(x, k) for k in range(len(self.loc))], dim=-1) + self.weights.log()

    def _log_component(self, x: Tensor, k: int) -> Tensor:
        factor, dof = self.factor[k], self.degrees_of_freedom[k]
        centred = x - self.loc[k]
        whitened = centred @ factor.mT if factor.dim() == 2 else centred * factor
        dim = x.shape[-1]
        diagonal = (factor.diagonal() if factor.dim() == 2 else factor.expand(dim)).log().sum()
        size = 1 if self.separate else dim
        normaliser = torch.lgamma((dof + size) / 2) - torch.lgamma(dof / 2) - 0.5 * size * (dof * math.pi).log()
        squares = whitened.square() if self.separate else whitened.square().sum(-1, keepdim=True)
        tails = -0.5 * (dof + size) * torch.log1p(squares / dof)
        return (normaliser + tails).sum(-1) + diagonal

    def sample(self, count: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """`count` draws (count, D), and the components that they come from (count,)."""
        labels = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        columns = self.loc.shape[1]
        dof = self.degrees_of_freedom[labels].unsqueeze(-1).expand(count, columns if self.separate else 1)
        log_ratio = log_gamma_draws(dof / 2, generator) - (dof / 2).log()  # of chi-squared draws to their mean
        noise = torch.randn(count, columns, dtype=self.loc.dtype, device=self.loc.device, generator=generator)
        noise = noise * (-0.5 * log_ratio).exp()
        draws = torch.empty_like(noise)
        for k, factor in enumerate(self.factor):
            here = labels == k
            whole = factor.dim() == 2
            draws[here] = solve_triangular(factor, noise[here].mT, upper=True).mT if whole else noise[here] / factor
        return draws + self.loc[labels], labels


def predictive(covariance: Covariance, weights: Weights, components: Components) -> StudentMixture:
    """The density of a new row with weights and components integrated out under q (Bishop 2006, eq. 10.81).

    With kappa the weight of the mean, "full" and "tied" have df - D + 1 degrees of freedom and precision
    (df - D + 1) kappa / (1 + kappa) V; Gamma precisions twice their concentration.
    """
    p: Any = components.standard_parameters
    loc = expected_means(covariance, components)
    if isinstance(components, NormalGamma):
        dof, kappa = 2 * p.concentration, p.precision[..., 0, 0]
        factor = (kappa / (1 + kappa) * p.concentration / p.rate).sqrt()
        separate = covariance == "diag"
        if separate:  # every column has the same count of rows
            return StudentMixture(expected_weights(weights), loc, dof[:, 0], factor, True)
        return StudentMixture(expected_weights(weights), loc, dof, factor.unsqueeze(-1), False)
    dim = loc.shape[-1]
    dof = (p.df - dim + 1).expand(len(loc))
    upper = torch.linalg.cholesky(p.scale, upper=True)  # U with V = U^T U
    scale = (dof * p.kappa / (1 + p.kappa)).sqrt()
    return StudentMixture(expected_weights(weights), loc, dof, scale[:, None, None] * upper, False)


def placed(components: Components, centre: Tensor, scale: Tensor) -> Components:
    """The same distributions for rows x = centre + scale y, given those for y.

    Args:
        centre: (D,).
        scale: (D,), positive; all equal for spherical covariances.
    """
    p: Any = components.standard_parameters
    if isinstance(components, NormalGamma):
        if components.event_shape == (1,) and len(components.batch_shape) == 2:
            loc, rate = (p.loc.squeeze(-1) * scale + centre).unsqueeze(-1), p.rate * scale**2
        else:
            loc, rate = p.loc * scale + centre, p.rate * scale[0] ** 2
        return NormalGamma.from_standard(loc, p.precision, p.concentration, rate)
    kind: type[NormalWishart] | type[TiedNormalWishart] = type(components)
    shrunk = p.scale / (scale.unsqueeze(-1) * scale)
    return kind.from_standard(p.loc * scale + centre, p.kappa, p.df, shrunk)


def mean_precisions_and_degrees(covariance: Covariance, components: Components) -> tuple[Tensor, Tensor]:
    """kappa (K,), and nu in the units of `mixture_prior`: (K,), () for "tied"."""
    p: Any = components.standard_parameters
    if isinstance(components, NormalGamma):
        kappa, df = p.precision[..., 0, 0], 2 * p.concentration
        return (kappa[:, 0], df[:, 0]) if covariance == "diag" else (kappa, df / p.loc.shape[-1])
    return p.kappa, p.df


def components_from(
    covariance: Covariance, means: Tensor, covariances: Tensor, kappa: Tensor, df: Tensor
) -> Components:
    """The inverse of `expected_means`, `expected_covariances` and `mean_precisions_and_degrees`."""
    count, dim = means.shape
    if covariance in ("full", "tied"):
        scale = torch.linalg.inv(covariances * df[..., None, None])
        kind = NormalWishart if covariance == "full" else TiedNormalWishart
        return kind.from_standard(means, kappa, df, 0.5 * (scale + scale.mT))
    if covariance == "diag":
        precision = kappa[:, None, None, None].expand(count, dim, 1, 1)
        half = (df / 2).unsqueeze(-1).expand(count, dim)
        return NormalGamma.from_standard(means.unsqueeze(-1), precision, half, half * covariances)
    identity = torch.eye(dim, dtype=means.dtype, device=means.device)
    half = df * dim / 2
    return NormalGamma.from_standard(means, kappa[:, None, None] * identity, half, half * covariances)
