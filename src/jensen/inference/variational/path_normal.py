"""Normal distributions stretched along some directions: what quasi-Newton methods know of a covariance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from jensen.gradients.posterior import Draw, FactorPosterior
from jensen.inference.supports import Variable
from jensen.inference.variational.base import Factor
from jensen.inference.variational.layout import Layout, standard_noise

__all__ = ["PathNormal", "PathNormalPosterior"]

_LOG_2PI = math.log(2 * math.pi)


class PathNormalPosterior(FactorPosterior):
    """u = loc + exp(log_scale) * (e + Q (exp(log_stretch) - 1) Q^T e), e standard normal, Q of orthonormal columns.

    The covariance is S (I + Q diag(stretch^2 - 1) Q^T) S: unlike a diagonal plus loadings it can be narrower than the
    diagonal along a direction, as inverse Hessians along a descent are.

    Args:
        layout: which latents u is.
        loc: (D,).
        log_scale: (D,).
        directions: Q, (D, R).
        log_stretch: (R,).
    """

    def __init__(self, layout: Layout, loc: Tensor, log_scale: Tensor, directions: Tensor, log_stretch: Tensor) -> None:
        self.names, self.plate, self.layout = layout.names, layout.plate, layout
        self.loc, self.log_scale, self.directions, self.log_stretch = loc, log_scale, directions, log_stretch
        self.elements = torch.Size()
        self.noise_shape = tuple(loc.shape)

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        return self.from_noise(standard_noise(samples, tuple(self.loc.shape), self.loc, generator))

    def from_noise(self, noise: Tensor) -> Draw:
        along = (noise @ self.directions) * torch.expm1(self.log_stretch)
        return self.layout.draw(self.loc + self.log_scale.exp() * (noise + along @ self.directions.mT))

    def log_prob(self, draw: Draw) -> Tensor:
        scaled = (draw.point - self.loc) * (-self.log_scale).exp()
        # |e|^2 = |w|^2 + sum_r (stretch_r^-2 - 1) (Q^T w)_r^2
        along = (scaled @ self.directions).square() * torch.expm1(-2 * self.log_stretch)
        quadratic = scaled.square().sum(-1) + along.sum(-1)
        return -0.5 * quadratic - self._half_log_determinant() - draw.log_jacobian

    def _half_log_determinant(self) -> Tensor:
        """Of 2 pi times the covariance."""
        return self.log_scale.sum() + self.log_stretch.sum() + 0.5 * self.layout.size * _LOG_2PI

    def entropy(self) -> Tensor:
        return self._half_log_determinant() + 0.5 * self.layout.size

    def detach(self) -> Self:
        parts = (self.loc, self.log_scale, self.directions, self.log_stretch)
        return type(self)(self.layout, *(part.detach() for part in parts))

    @property
    def covariance(self) -> Tensor:
        """Of the real coordinates, (D, D)."""
        scale = self.log_scale.exp()
        root = scale.unsqueeze(-1) * self.directions
        return torch.diag(scale.square()) + (root * torch.expm1(2 * self.log_stretch)) @ root.mT


class PathNormal(Factor):
    """A normal distribution over several latents' real coordinates, its covariance a diagonal stretched along R axes.

    Pathfinder's q. The axes are kept (they are no parameters), `loc`, `log_scale` and `log_stretch` can be climbed
    with. Starts as N(0, I).

    Args:
        variables: the latents.
        sizes: of the plates.
        rank: R, at most D.

    Raises:
        TypeError: a latent is discrete.
    """

    directions: Tensor

    def __init__(self, variables: Mapping[str, Variable], sizes: Mapping[str, int], rank: int) -> None:
        super().__init__()
        self.layout = Layout(variables, sizes)
        self.names, self.plate = self.layout.names, self.layout.plate
        size = self.layout.size
        self.rank = min(rank, size)
        self.loc = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.log_stretch = nn.Parameter(torch.zeros(self.rank, dtype=torch.float64))
        self.register_buffer("directions", torch.eye(size, self.rank, dtype=torch.float64))

    def forward(self, batch: Any = None) -> PathNormalPosterior:
        self.layout.need_all_rows(batch)
        return PathNormalPosterior(self.layout, self.loc, self.log_scale, self.directions, self.log_stretch)

    @torch.no_grad()
    def place(self, centre: Mapping[str, Tensor], scale: float | Mapping[str, Tensor]) -> None:
        """Set the parameters: see `Factor.place`; no correlations, if any latent is placed."""
        if self.layout.place(self.loc, self.log_scale, centre, scale):
            self.log_stretch.zero_()

    @torch.no_grad()
    def set(self, loc: Tensor, log_scale: Tensor, directions: Tensor, log_stretch: Tensor) -> None:
        """Set all of it: (D,), (D,), (D, R) with orthonormal columns, (R,)."""
        self.loc.copy_(loc)
        self.log_scale.copy_(log_scale)
        self.directions.copy_(directions)
        self.log_stretch.copy_(log_stretch)

    def mean(self) -> Tensor:
        return self.loc.reshape(-1)

    def extra_repr(self) -> str:
        return f"{', '.join(self.names)}: {self.layout.size} coordinates, rank {self.rank}"
