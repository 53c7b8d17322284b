"""Mixtures of Pathfinder's normal distributions, one for each path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from jensen.gradients.posterior import Draw, FactorPosterior
from jensen.inference.inverse_hessians import Approximation
from jensen.inference.supports import Variable
from jensen.inference.variational.base import Factor
from jensen.inference.variational.path_normal import PathNormal, PathNormalPosterior

__all__ = ["PathMixture", "PathMixturePosterior"]


class PathMixturePosterior(FactorPosterior):
    """sum_k w_k N_k of the real coordinates; draws have no gradient.

    Args:
        components: N_k, at least one.
        log_weights: (K,), their exponentials sum to one.
    """

    has_rsample = False

    def __init__(self, components: Sequence[PathNormalPosterior], log_weights: Tensor) -> None:
        self.components, self.log_weights = list(components), log_weights
        self.names = components[0].names
        self.elements = torch.Size()

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        raise TypeError("draws of a mixture cannot be differentiated in its weights: use sample, or score functions")

    def sample(self, samples: int, generator: Generator | None = None) -> Draw:
        with torch.no_grad():
            weights = self.log_weights.exp().cpu()
            chosen = torch.multinomial(weights, samples, replacement=True, generator=generator)
            points = torch.stack([q.sample(samples, generator).point for q in self.components])
            picked = points[chosen.to(points.device), torch.arange(samples, device=points.device)]
            return self.components[0].layout.draw(picked)

    def log_prob(self, draw: Draw) -> Tensor:
        each = torch.stack([q.log_prob(draw) for q in self.components], -1)
        return torch.logsumexp(each + self.log_weights, -1)

    def detach(self) -> Self:
        return type(self)([q.detach() for q in self.components], self.log_weights.detach())


class PathMixture(Factor):
    """A mixture of normal distributions over several latents' real coordinates; one component is a `PathNormal`.

    Args:
        variables: the latents.
        sizes: of the plates.
        rank: directions of each component, at most D.
        count: components, weighted alike at the start.

    Raises:
        TypeError: a latent is discrete.
    """

    fixed_draws = False

    def __init__(self, variables: Mapping[str, Variable], sizes: Mapping[str, int], rank: int, count: int) -> None:
        super().__init__()
        self.components = nn.ModuleList([PathNormal(variables, sizes, rank) for _ in range(count)])
        self.logits = nn.Parameter(torch.zeros(count, dtype=torch.float64))
        self.names, self.rank = self._first.names, self._first.rank

    @property
    def _first(self) -> PathNormal:
        first = self.components[0]
        assert isinstance(first, PathNormal)
        return first

    def forward(self, batch: Any = None) -> FactorPosterior:
        normals = [component(batch) for component in self.components]
        return normals[0] if len(normals) == 1 else PathMixturePosterior(normals, torch.log_softmax(self.logits, 0))

    @torch.no_grad()
    def set(self, approximations: Sequence[Approximation], logits: Tensor) -> None:
        """Set all of it; one of fewer directions than `rank` is filled up with directions that stretch nothing."""
        for component, q in zip(self.components, approximations, strict=True):
            assert isinstance(component, PathNormal)
            component.set(q.loc, q.log_scale, *_filled(q, self.rank))
        self.logits.copy_(logits)

    @torch.no_grad()
    def place(self, centre: Mapping[str, Tensor], scale: float | Mapping[str, Tensor]) -> None:
        """Every component there: see `Factor.place`."""
        for component in self.components:
            assert isinstance(component, PathNormal)
            component.place(centre, scale)

    def mean(self) -> Tensor:
        means = torch.stack([component.mean() for component in self.components if isinstance(component, PathNormal)])
        return torch.softmax(self.logits, 0) @ means


def _filled(q: Approximation, rank: int) -> tuple[Tensor, Tensor]:
    """Directions of zero, which stretch nothing, up to `rank`."""
    missing = rank - q.directions.shape[1]
    directions = torch.cat([q.directions, q.directions.new_zeros(len(q.directions), missing)], 1)
    return directions, torch.cat([q.log_stretch, q.log_stretch.new_zeros(missing)])
