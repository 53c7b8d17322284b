"""The walk down the levels of a deep VAE, and the networks of both ways.

Everything that such a model does is one walk from the top level down, which asks at each level for its z: a draw from
q, its mean, a code that is given, or a draw from the prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from jensen.bound import Level
from jensen.likelihoods import at_least_float32, soft_clamp
from jensen.nn.features import Features
from jensen.nn.rungs import Blocks
from jensen.nn.told import Embedding

__all__ = ["Choose", "WayDown", "WayUp", "gaussian", "repeated", "split_levels", "unflattened"]

LOG_SIGMA_LIMIT = 5.0  # NVAE's

Choose = Callable[[int, Normal, Tensor | None], tuple[Tensor, Normal | None]]
"""z of level i, counted from the top, and its posterior, given its prior and the state of the walk above it."""


def gaussian(parameters: Tensor) -> Normal:
    """N(mu, sigma^2) from (batch, 2 x latents, ...), mu first and log sigma softly clamped; float32 or wider."""
    mean, log_sigma = at_least_float32(parameters).chunk(2, 1)
    return Normal(mean, soft_clamp(log_sigma, LOG_SIGMA_LIMIT).exp(), validate_args=False)


def repeated(values: Tensor, samples: int) -> Tensor:
    """Each row once for every draw, the batch running fastest: (samples x batch, ...)."""
    return values if samples == 1 else values.expand(samples, *values.shape).flatten(0, 1)


class Way(nn.Module):
    """What is told of a condition, and steps that are all told it; without embedding there is no condition."""

    def __init__(self, embedding: Embedding | None) -> None:
        super().__init__()
        self.embedding = embedding
        self.steps = nn.ModuleList()
        self.heads = nn.ModuleList()

    def told(self, condition: Tensor | None) -> Tensor | None:
        """The embedded condition, (batch, features)."""
        return None if condition is None or self.embedding is None else self.embedding(condition)


class WayUp(Way):
    """The networks of q: `steps[i]` gives the features of level i, counted from the data, `heads[i]` a Gaussian's.

    Args:
        embedding: see `Way`.
        blocks: what makes the steps.
        shape: of the data.
        from_codes: whether a step starts from the latents below it, not from their features.
        merged: whether heads below the top see the state of the way down.
        seen: what the first step sees of the data; None: the data themselves.
    """

    def __init__(
        self,
        embedding: Embedding | None,
        blocks: Blocks,
        shape: tuple[int, ...],
        from_codes: bool,
        merged: bool,
        seen: Features | None = None,
    ) -> None:
        super().__init__(embedding)
        self.seen = seen
        shape = shape if seen is None else (seen.size,)
        levels = range(len(blocks.layout.rungs))
        self.steps.extend(blocks.up(i, shape, from_codes) for i in levels)
        self.heads.extend(blocks.posterior(i, merged and i < levels[-1]) for i in levels)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Features of every level, the top first, each a function of those below it."""
        told = self.told(condition)
        features = [x if self.seen is None else self.seen(x)]
        for step in self.steps:
            features.append(step(features[-1], told))
        return features[:0:-1]


class WayDown(Way):
    """The networks of p: `steps[i]` goes from level i, counted from the top, to the state below or the output."""

    unit: Tensor

    def __init__(self, embedding: Embedding | None, blocks: Blocks, shape: tuple[int, ...]) -> None:
        super().__init__(embedding)
        start, levels = blocks.start(), range(len(blocks.layout.rungs))
        self.shapes = tuple(rung.shape for rung in blocks.layout.rungs[::-1])  # of latents, the top first
        self.start = None if start is None else nn.Parameter(start)
        self.register_buffer("unit", torch.ones(()), persistent=False)
        self.steps.extend(blocks.down(i, shape) for i in reversed(levels))
        self.heads.extend(blocks.prior(i) for i in reversed(levels[:-1]))

    def walk(
        self, rows: int, choose: Choose, told: Tensor | None = None, decoded: bool = True
    ) -> tuple[list[Level], Tensor | None]:
        """The levels, and the decoder's output below them if `decoded`.

        All tensors lead with `rows`, the embedded conditions `told` too, or with 1 where it is the same for all.
        """
        levels: list[Level] = []
        state = None if self.start is None else self.start.expand(rows, *self.start.shape[1:])
        for i, (step, shape) in enumerate(zip(self.steps, self.shapes, strict=True)):
            if i == 0:
                ones = self.unit.expand(1, *shape)
                prior = Normal(torch.zeros_like(ones), ones, validate_args=False)
            else:
                prior = gaussian(self.heads[i - 1](state))
            z, posterior = choose(i, prior, state)
            levels.append(Level(z, posterior, prior))
            if not decoded and i == len(self.shapes) - 1:
                return levels, None
            state = step(state, z, told)
        return levels, state

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """The decoder's output for codes of all levels, (rows, latent)."""
        grids = split_levels(z, self.shapes)
        out = self.walk(len(z), lambda i, *_: (grids[i], None), self.told(condition))[1]
        assert out is not None
        return out


def split_levels(z: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Flat codes (..., latent) as those of each level, (..., *shape)."""
    parts = z.split([math.prod(shape) for shape in shapes], -1)
    return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]


def unflattened(level: Level, kind: type[Level], lead: tuple[int, ...]) -> Level:
    """A level of (samples x batch) rows, its normals perhaps of one for all, as a `kind` of (samples, batch)."""

    def laid(normal: Distribution | None) -> Normal | None:
        if normal is None:
            return None
        assert isinstance(normal, Normal)
        loc, scale = (v[None] if len(v) == 1 else v.unflatten(0, lead) for v in (normal.loc, normal.scale))
        return Normal(loc, scale, validate_args=False)

    return kind(level.z.unflatten(0, lead), laid(level.posterior), laid(level.prior))
