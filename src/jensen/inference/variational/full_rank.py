"""Normal distributions with a full covariance over the real coordinates of several latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from jensen.gradients.posterior import Draw, FactorPosterior
from jensen.inference.model import Model
from jensen.inference.supports import Variable
from jensen.inference.variational.base import Factor, Family, rows_of
from jensen.inference.variational.exponential import discrete_factor
from jensen.inference.variational.layout import Layout, continuous, lower_triangular, standard_noise

__all__ = ["FullRankNormal", "FullRankPosterior", "full_rank"]

_LOG_2PI = math.log(2 * math.pi)


class FullRankPosterior(FactorPosterior):
    """u ~ N(loc, L L^T) with L = diag(exp(log_scale)) C, C lower triangular with ones on its diagonal.

    Args:
        layout: which latents u is.
        loc: (*rows, D).
        log_scale: (*rows, D).
        unit: C, (*rows, D, D).
    """

    def __init__(self, layout: Layout, loc: Tensor, log_scale: Tensor, unit: Tensor) -> None:
        self.names, self.plate, self.layout = layout.names, layout.plate, layout
        self.loc, self.log_scale, self.unit = loc, log_scale, unit
        self.elements = loc.shape[:-1]
        self.noise_shape = tuple(loc.shape)

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        return self.from_noise(standard_noise(samples, tuple(self.loc.shape), self.loc, generator))

    def from_noise(self, noise: Tensor) -> Draw:
        mixed = (self.unit @ noise.movedim(0, -1)).movedim(-1, 0)
        return self.layout.draw(self.loc + self.log_scale.exp() * mixed)

    def log_prob(self, draw: Draw) -> Tensor:
        scaled = ((draw.point - self.loc) * (-self.log_scale).exp()).movedim(0, -1)
        # samples as columns: one triangular solve a row of the plate, not one a sample
        noise = torch.linalg.solve_triangular(self.unit, scaled, upper=False, unitriangular=True)
        quadratic = noise.square().sum(-2).movedim(-1, 0)
        log_normal: Tensor = -0.5 * (quadratic + self.layout.size * _LOG_2PI) - self.log_scale.sum(-1)
        return log_normal - draw.log_jacobian

    def entropy(self) -> Tensor:
        return self.log_scale.sum(-1) + 0.5 * self.layout.size * (1 + _LOG_2PI)

    def detach(self) -> Self:
        return type(self)(self.layout, self.loc.detach(), self.log_scale.detach(), self.unit.detach())

    @property
    def scale_tril(self) -> Tensor:
        """L, the Cholesky factor of the covariance, (*rows, D, D)."""
        return self.log_scale.exp().unsqueeze(-1) * self.unit


class FullRankNormal(Factor):
    """A normal distribution with any covariance over several latents' real coordinates.

    L = diag(exp(log_scale)) C, C unit lower triangular: its entries `lower` are free of the coordinates' units, so that
    one step size suits them all. Starts as N(0, I). D + D + D (D - 1) / 2 parameters (for each row of a plate).

    Args:
        variables: the latents.
        sizes: of the plates.
        rowwise: latents of the same row of their plate depend on each other, rows do not; else everything does.

    Raises:
        ValueError: rowwise, but the latents are not all on one plate.
        TypeError: a latent is discrete.
    """

    def __init__(self, variables: Mapping[str, Variable], sizes: Mapping[str, int], rowwise: bool = False) -> None:
        super().__init__()
        self.layout = Layout(variables, sizes, rowwise)
        self.names, self.plate = self.layout.names, self.layout.plate
        rows, size = self.layout.rows, self.layout.size
        self.loc = nn.Parameter(torch.zeros(*rows, size, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(*rows, size, dtype=torch.float64))
        self.lower = nn.Parameter(torch.zeros(*rows, size * (size - 1) // 2, dtype=torch.float64))

    def forward(self, batch: Any = None) -> FullRankPosterior:
        self.layout.need_all_rows(batch)
        loc, log_scale, lower = (rows_of(p, self.layout.cut, batch) for p in (self.loc, self.log_scale, self.lower))
        size = self.layout.size
        unit = lower_triangular(lower, size, size, -1) + torch.eye(size, dtype=lower.dtype, device=lower.device)
        return FullRankPosterior(self.layout, loc, log_scale, unit)

    @torch.no_grad()
    def place(self, centre: Mapping[str, Tensor], scale: float | Mapping[str, Tensor]) -> None:
        """Set the parameters: see `Factor.place`; no correlations, if any latent is placed."""
        if self.layout.place(self.loc, self.log_scale, centre, scale):
            self.lower.zero_()

    def mean(self) -> Tensor:
        return self.loc.reshape(-1)

    def extra_repr(self) -> str:
        return f"{', '.join(self.names)}: {self.layout.size} coordinates"


def full_rank(model: Model) -> Family:
    """One normal distribution with a full covariance over all continuous latents; discrete ones have their own factor.

    Latents of a plate are in it too, all rows depending on each other, so there can be no minibatches: take
    `blocks(model, [...])` for those.
    """
    joined = continuous(model)
    factors = [FullRankNormal(joined, model.plates)] if joined else []
    discrete = [discrete_factor(n, v, model.plates) for n, v in model.latents.items() if v.discrete]
    return Family([*factors, *discrete])
