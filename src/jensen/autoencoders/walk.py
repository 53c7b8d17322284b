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
from jensen.config import NetConfig
from jensen.likelihoods import at_least_float32, soft_clamp
from jensen.nn import Conditioning
from jensen.nn.rungs import Blocks, Cells, Dense, Embedding, Layout, Residual

__all__ = ["Choose", "Nets", "WayDown", "WayUp", "gaussian", "repeated", "split_levels", "unflattened"]

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
    """What is told of a condition, and steps that are all told it.

    Args:
        embedding: of the condition; None: there is none.
    """

    def __init__(self, embedding: Embedding | None) -> None:
        super().__init__()
        self.embedding = embedding
        self.steps = nn.ModuleList()
        self.heads = nn.ModuleList()

    def told(self, condition: Tensor | None) -> Tensor | None:
        """The embedded condition, (batch, features)."""
        return None if condition is None or self.embedding is None else self.embedding(condition)


class WayUp(Way):
    """The networks of q: `steps[i]` gives the features of level i, counted from the data, `heads[i]` a Gaussian's."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Features of every level, the top first, each a function of those below it."""
        told = self.told(condition)
        features = [x]
        for step in self.steps:
            features.append(step(features[-1], told))
        return features[:0:-1]


class WayDown(Way):
    """The networks of p: `steps[i]` goes from level i, counted from the top, to the state below it.

    Args:
        embedding: of the condition; None: there is none.
        shapes: of the latents of each level, the top first.
        start: the state above the top level, (1, ...), which is learned; None: there is none.
    """

    unit: Tensor

    def __init__(self, embedding: Embedding | None, shapes: tuple[tuple[int, ...], ...], start: Tensor | None) -> None:
        super().__init__(embedding)
        self.shapes = shapes
        self.start = None if start is None else nn.Parameter(start)
        self.register_buffer("unit", torch.ones(()), persistent=False)

    def walk(
        self, rows: int, choose: Choose, told: Tensor | None = None, decoded: bool = True
    ) -> tuple[list[Level], Tensor | None]:
        """The levels, and the decoder's output below them.

        Args:
            rows: how many walks; every tensor leads with it, or with 1 where it is the same for all.
            choose: see `Choose`.
            told: embedded condition of each, (rows, features).
            decoded: whether the output is wanted.
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


class Nets:
    """The networks of both ways."""

    def __init__(
        self,
        net: NetConfig,
        layout: Layout,
        condition_shape: tuple[int, ...] | None,
        conditioning: Conditioning,
        stem: int | None,
    ) -> None:
        self.levels = range(len(layout.rungs))

        def embedding() -> Embedding | None:
            return None if condition_shape is None else Embedding(net, condition_shape, conditioning)

        self.embeddings = embedding(), embedding()  # encoder and decoder learn each its own
        told = 0 if self.embeddings[0] is None else self.embeddings[0].size
        by_film = conditioning == "film"
        self.blocks: Blocks
        if net.kind == "mlp":
            self.blocks = Dense(net, layout, told, by_film)
        else:
            self.blocks = (Cells if net.kind == "cells" else Residual)(net, layout, told, by_film, stem)

    def up(self, shape: tuple[int, ...], from_codes: bool, merged: bool) -> WayUp:
        way, top = WayUp(self.embeddings[0]), self.levels[-1]
        way.steps.extend(self.blocks.up(i, shape, from_codes) for i in self.levels)
        way.heads.extend(self.blocks.posterior(i, merged and i < top) for i in self.levels)
        return way

    def down(self, shape: tuple[int, ...]) -> WayDown:
        shapes = tuple(rung.shape for rung in self.blocks.layout.rungs[::-1])
        way = WayDown(self.embeddings[1], shapes, self.blocks.start())
        way.steps.extend(self.blocks.down(i, shape) for i in reversed(self.levels))
        way.heads.extend(self.blocks.prior(i) for i in reversed(self.levels[:-1]))
        return way


def unflattened(level: Level, lead: tuple[int, ...]) -> tuple[Tensor, Normal | None, Normal | None]:
    """z, posterior and prior of (samples x batch) rows, or of one for all, as (samples, batch)."""

    def laid(values: Tensor) -> Tensor:
        return values.unsqueeze(0) if len(values) == 1 else values.unflatten(0, lead)

    def distribution(normal: Distribution | None) -> Normal | None:
        if normal is None:
            return None
        assert isinstance(normal, Normal)
        return Normal(laid(normal.loc), laid(normal.scale), validate_args=False)

    return level.z.unflatten(0, lead), distribution(level.posterior), distribution(level.prior)
