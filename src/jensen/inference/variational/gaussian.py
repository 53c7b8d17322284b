"""Gaussian mean field: independent normal distributions of a latent's real coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from jensen.gradients.posterior import Draw, FactorPosterior
from jensen.inference.supports import Variable
from jensen.inference.variational.base import Factor, rows_of
from jensen.inference.variational.layout import cut_plate

__all__ = ["DiagonalNormal", "DiagonalNormalPosterior"]

LOG_2PI = math.log(2 * math.pi)


class DiagonalNormalPosterior(FactorPosterior):
    """A latent's real coordinates are independent N(loc, exp(log_scale)^2); its values their transform."""

    def __init__(self, name: str, variable: Variable, loc: Tensor, log_scale: Tensor) -> None:
        self.names = (name,)
        self.variable, self.loc, self.log_scale = variable, loc, log_scale
        self.plate = variable.plate
        # A Cholesky factor's real coordinates are a vector: fewer dimensions than the value has.
        self._joint = min(variable.event_dim, 1)
        self.elements = loc.shape[: loc.dim() - self._joint]
        self.noise_shape = tuple(loc.shape)

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        noise = torch.randn(samples, *self.loc.shape, dtype=self.loc.dtype, generator=generator)
        return self.from_noise(noise.to(self.loc.device))

    def from_noise(self, noise: Tensor) -> Draw:
        u = self.loc + self.log_scale.exp() * noise
        transform = self.variable.transform
        value = transform(u)
        return Draw({self.names[0]: value}, u, transform.log_abs_det_jacobian(u, value))

    def log_prob(self, draw: Draw) -> Tensor:
        noise = (draw.point - self.loc) * (-self.log_scale).exp()
        return self._by_element(-0.5 * noise.square() - self.log_scale - 0.5 * LOG_2PI) - draw.log_jacobian

    def entropy(self) -> Tensor:
        return self._by_element(self.log_scale + 0.5 * (1 + LOG_2PI))

    def detach(self) -> Self:
        return type(self)(self.names[0], self.variable, self.loc.detach(), self.log_scale.detach())

    def _by_element(self, each: Tensor) -> Tensor:
        """Sums over the coordinates of each element."""
        return each.sum(-1) if self._joint else each


class DiagonalNormal(Factor):
    """Normal distributions of a latent's real coordinates, independent of each other.

    Parameters `loc` and `log_scale` have the coordinates' shape; at the start N(0, 1).
    """

    def __init__(self, name: str, variable: Variable, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.names, self.variable, self.plate = (name,), variable, variable.plate
        self._cut = cut_plate(variable.plate, sizes)
        shape = variable.unconstrained_shape(sizes)
        self.loc = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(shape, dtype=torch.float64))

    def forward(self, batch: Any = None) -> DiagonalNormalPosterior:
        loc, log_scale = (rows_of(p, self._cut, batch) for p in (self.loc, self.log_scale))
        return DiagonalNormalPosterior(self.names[0], self.variable, loc, log_scale)

    @torch.no_grad()
    def place(self, centre: Mapping[str, Tensor], scale: float | Mapping[str, Tensor]) -> None:
        name = self.names[0]
        if name in centre:
            self.loc.copy_(centre[name])
            spread = scale[name] if isinstance(scale, Mapping) else scale
            self.log_scale.copy_(torch.as_tensor(spread, dtype=self.loc.dtype).log())

    def mean(self) -> Tensor:
        return self.loc.reshape(-1)
