"""The networks of a hierarchy of latents: a way up from the data, and a way down to them, in as many steps as levels.

Three kinds of blocks, one interface: fully connected layers, residual convolutions, or the cells of NVAE.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn

from jensen.config import NetConfig
from jensen.nn.blocks import activation, norm1d
from jensen.nn.cells import DecoderCell, EncoderCell
from jensen.nn.condition import Layers, Modulated, film
from jensen.nn.layout import Layout, Rung
from jensen.nn.resnet import ResidualBlock
from jensen.nn.told import Shift

__all__ = ["BLOCKS", "Blocks", "Cells", "Dense", "Down", "Head", "Residual"]


class Head(nn.Module):
    """out(features + merge(state)): parameters of a Gaussian; without `merge` of the features alone."""

    def __init__(self, out: nn.Module, merge: nn.Module | None = None) -> None:
        super().__init__()
        self.out, self.merge = out, merge

    def forward(self, features: Tensor, state: Tensor | None = None) -> Tensor:
        if self.merge is not None and state is not None:
            features = features + self.merge(state)
        parameters: Tensor = self.out(features)
        return parameters


class Down(nn.Module, Modulated):
    """blocks(join(state, z)): the state below a level from that above it and its latents; without `join` of z alone."""

    def __init__(self, join: nn.Module | None, blocks: Layers) -> None:
        super().__init__()
        self.join, self.blocks = join, blocks

    def forward(self, state: Tensor | None, z: Tensor, embedding: Tensor | None = None) -> Tensor:
        if self.join is not None and state is not None:
            z = self.join(torch.cat([state, z.to(state.dtype)], 1))
        below: Tensor = self.blocks(z, embedding)
        return below


class Blocks(ABC):
    """What the steps of a hierarchy are made of; levels are numbered from the data up.

    Args:
        config: depth, activation and normalisation.
        layout: levels.
        told: size of the embedding that every step is told, 0: nothing.
        by_film: whether it modulates every hidden layer; if not, it stands beside the input of each step.
        stem: blocks a size between the data and the lowest level, where these are grids; None: depth.
    """

    depth = 2

    def __init__(self, config: NetConfig, layout: Layout, told: int, by_film: bool, stem: int | None = None) -> None:
        self.config, self.layout = config, layout
        self.depth = self.depth if config.depth is None else config.depth
        self.stem = self.depth if stem is None else stem
        self.film, self.beside = (told, 0) if by_film else (0, told)

    @abstractmethod
    def up(self, i: int, shape: tuple[int, ...], from_codes: bool) -> nn.Module:
        """Features of level i from data of a shape (i = 0), or from the features or latents of the level below."""

    @abstractmethod
    def down(self, i: int, shape: tuple[int, ...]) -> Down:
        """From the state and latents of level i to the state below it, or to the decoder's output of a shape."""

    def start(self) -> Tensor | None:
        """The state above the top level; None: there is none."""
        return None

    @abstractmethod
    def prior(self, i: int) -> Head:
        """Parameters of p(z_i | z_>i) from the state of level i."""

    @abstractmethod
    def posterior(self, i: int, merged: bool) -> Head:
        """Parameters of a Gaussian from the features of level i and, `merged`, from its state."""

    def _told(self, width: int) -> list[nn.Module]:
        return [Shift(self.beside, width)] if self.beside else []


class Dense(Blocks):
    """Fully connected layers, by default the two a level of Sønderby et al. 2016, without skip connections."""

    def up(self, i: int, shape: tuple[int, ...], from_codes: bool) -> nn.Module:
        rung, below = self.layout.rungs[i], self.layout.rungs[i - 1]
        if i == 0:
            return Layers(nn.Flatten(), *self._layers(math.prod(shape), rung.width))
        return Layers(*self._layers(below.latents if from_codes else below.width, rung.width))

    def down(self, i: int, shape: tuple[int, ...]) -> Down:
        rung = self.layout.rungs[i]
        last = [nn.Linear(rung.width, math.prod(shape))] if i == 0 else []
        return Down(None, Layers(*self._layers(rung.latents, rung.width), *last))

    def prior(self, i: int) -> Head:
        return Head(nn.Linear(self.layout.rungs[i + 1].width, 2 * self.layout.rungs[i].latents))

    def posterior(self, i: int, merged: bool) -> Head:
        rung = self.layout.rungs[i]
        merge = nn.Linear(self.layout.rungs[i + 1].width, rung.width) if merged else None
        return Head(nn.Linear(rung.width, 2 * rung.latents), merge)

    def _layers(self, before: int, width: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for first in [before, *[width] * (self.depth - 1)]:
            layers += [
                nn.Linear(first, width),
                *([] if layers else self._told(width)),
                *norm1d(self.config.normalisation, width),
                *film(self.film, width),
                activation(self.config.activation),
            ]
        return layers


class Residual(Blocks):
    """Residual blocks of two 3x3 convolutions; the state goes down all the way (Maaløe et al. 2019, skip connections).

    `config.depth`, 1 by default, is of blocks a level.
    """

    depth = 1

    def up(self, i: int, shape: tuple[int, ...], from_codes: bool) -> nn.Module:
        rung, below = self.layout.rungs[i], self.layout.rungs[i - 1]
        path = [*self.layout.stem, rung] if i == 0 else [below, rung]
        before = shape[0] if i == 0 else below.latents
        layers: list[nn.Module] = []
        if i == 0 or from_codes:
            layers.append(nn.Conv2d(before, path[0].width, 3, padding=1))
        layers += self._told(path[0].width)
        for above, place in pairwise([path[0], *path] if i == 0 else path):
            if above.size != place.size:
                layers.append(self.smaller(above, place))
            count = self.stem if place.latents == 0 else self.depth
            layers += [self.keep_up(place.width) for _ in range(count)]
        return Layers(*layers)

    def down(self, i: int, shape: tuple[int, ...]) -> Down:
        rung = self.layout.rungs[i]
        path = [rung, *self.layout.stem[::-1]] if i == 0 else [rung, self.layout.rungs[i - 1]]
        layers: list[nn.Module] = self._told(rung.width)
        for place, below in pairwise(path if len(path) > 1 else [rung, rung]):
            if place.size != below.size:
                layers.append(self.larger(place, below))
            count = self.stem if i == 0 else self.depth
            layers += [self.keep_down(below) for _ in range(count)]
        if i == 0:
            layers += [activation(self.last()), nn.Conv2d(path[-1].width, shape[0], 3, padding=1)]
        return Down(nn.Conv2d(rung.width + rung.latents, rung.width, 1), Layers(*layers))

    def last(self) -> str:
        """The nonlinearity before the decoder's output."""
        return self.config.activation

    def start(self) -> Tensor | None:
        top = self.layout.rungs[-1]
        return torch.randn(1, top.width, *top.size)

    def prior(self, i: int) -> Head:
        rung = self.layout.rungs[i]
        return Head(nn.Sequential(nn.ELU(), nn.Conv2d(rung.width, 2 * rung.latents, 1)))

    def posterior(self, i: int, merged: bool) -> Head:
        rung = self.layout.rungs[i]
        merge = nn.Conv2d(rung.width, rung.width, 1) if merged else None
        top = [nn.ELU(), nn.Conv2d(rung.width, rung.width, 1), nn.ELU()] if i == len(self.layout.rungs) - 1 else []
        return Head(nn.Sequential(*top, nn.Conv2d(rung.width, 2 * rung.latents, 3, padding=1)), merge)

    def smaller(self, above: Rung, place: Rung) -> nn.Module:
        """From one size and width to the next on the way up."""
        return nn.Conv2d(above.width, place.width, 4, stride=2, padding=1)

    def larger(self, place: Rung, below: Rung) -> nn.Module:
        """From one size and width to the next on the way down."""
        return nn.Sequential(nn.Upsample(size=below.size), nn.Conv2d(place.width, below.width, 3, padding=1))

    def keep_up(self, width: int) -> nn.Module:
        """A block of the way up."""
        return ResidualBlock(width, self.config.activation, self.config.normalisation, self.film)

    def keep_down(self, place: Rung) -> nn.Module:
        """A block of the way down."""
        return self.keep_up(place.width)


class Cells(Residual):
    """The residual cells of Vahdat & Kautz 2020 (NVAE), by default two a group; with less channels near the data."""

    depth = 2

    def last(self) -> str:
        return "elu"

    def smaller(self, above: Rung, place: Rung) -> nn.Module:
        return EncoderCell(above.width, place.width, 2, self.film)

    def larger(self, place: Rung, below: Rung) -> nn.Module:
        height, width = below.size
        return DecoderCell(place.width, below.width, (height, width), 6 if below.latents else 3, self.film)

    def keep_up(self, width: int) -> nn.Module:
        return EncoderCell(width, width, 1, self.film)

    def keep_down(self, place: Rung) -> nn.Module:
        return DecoderCell(place.width, place.width, None, 6 if place.latents else 3, self.film)


BLOCKS: dict[str, type[Blocks]] = {"mlp": Dense, "conv": Residual, "cells": Cells}
"""by the kind of net"""
