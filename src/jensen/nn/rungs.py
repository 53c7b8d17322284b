"""The networks of a hierarchy of latents: a way up from the data, and a way down to them, in as many steps as levels.

Three kinds of blocks, one interface: fully connected layers, residual convolutions, or the cells of NVAE.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from jensen.config import NetConfig
from jensen.config.scales import Scale
from jensen.errors import ConfigError
from jensen.nn.blocks import activation, norm1d
from jensen.nn.build import Conditioning, condition_embedding
from jensen.nn.cells import DecoderCell, EncoderCell
from jensen.nn.condition import Layers, Modulated, film
from jensen.nn.resnet import ResidualBlock
from jensen.nn.spatial import grid_sizes

__all__ = ["Blocks", "Cells", "Dense", "Down", "Embedding", "Head", "Layout", "Residual", "Rung", "layout_of"]


class Rung(NamedTuple):
    """A level of the hierarchy, nearest the data first."""

    latents: int
    width: int
    size: tuple[int, ...]
    """of the grid that its latents lie on; () for vectors"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its latents."""
        return (self.latents, *self.size)


class Layout(NamedTuple):
    """Where the levels of a hierarchy lie, nearest the data first, and the sizes between them and the data."""

    rungs: tuple[Rung, ...]
    stem: tuple[Rung, ...]
    """scales above the lowest level's, data first, without latents; none for vectors"""


def layout_of(scales: tuple[Scale, ...], size: tuple[int, ...], downsampling: int) -> Layout:
    """The levels of these scales: of vectors (`size` ()), or on grids that halve from scale to scale.

    Args:
        scales: nearest the data first.
        size: (height, width) of the data; (): vectors.
        downsampling: side of the data over side of the lowest level's grid, a power of 2.

    Raises:
        ConfigError: the data are too small for so many scales, or downsampling is no power of 2.
    """
    if not size:
        return Layout(tuple(Rung(s.latents, s.width, ()) for s in scales for _ in range(s.groups)), ())
    if downsampling < 1 or downsampling & (downsampling - 1):
        raise ConfigError(f"downsampling should be a power of 2 (1, 2, 4, ...), got {downsampling}")
    whole = downsampling * 2 ** (len(scales) - 1)
    if min(size) < whole:
        raise ConfigError(
            f"data of {size[0]}x{size[1]} cannot be halved {int(math.log2(whole))} times, which {len(scales)} scales "
            f"with downsampling {downsampling} ask for: use fewer scales or a smaller downsampling"
        )
    sizes = grid_sizes(size, whole)
    above = len(sizes) - len(scales)
    stem = tuple(Rung(0, max(1, scales[0].width >> (above - i)), sizes[i]) for i in range(above))
    on_grids = zip(scales, sizes[above:], strict=True)
    return Layout(tuple(Rung(s.latents, s.width, grid) for s, grid in on_grids for _ in range(s.groups)), stem)


class Embedding(nn.Module):
    """What the blocks are told of a condition: (batch, *condition_shape) to (batch, size)."""

    def __init__(self, config: NetConfig, condition_shape: tuple[int, ...], conditioning: Conditioning) -> None:
        super().__init__()
        self.net: nn.Module
        if conditioning == "concat" and len(condition_shape) == 1:
            self.net, self.size = nn.Flatten(), condition_shape[0]
        else:
            net = NetConfig(activation=config.activation)
            self.net, self.size = condition_embedding(net, condition_shape, curved=conditioning == "film")

    def forward(self, condition: Tensor) -> Tensor:
        out: Tensor = self.net(condition)
        return out


class Shift(nn.Module, Modulated):
    """x + W c: what a linear layer or convolution sees of an embedding that stands beside its input."""

    def __init__(self, embedding: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding, features, bias=False)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(batch, features, ...) and (batch, embedding) to (batch, features, ...)."""
        out: Tensor = x + self.linear(embedding)[(...,) + (None,) * (x.ndim - 2)]
        return out


class Head(nn.Module):
    """Parameters of a Gaussian from features, and perhaps from the state of the way down as well.

    Args:
        out: from features to parameters.
        merge: from the state to what is added to the features; None: there is no state.
    """

    def __init__(self, out: nn.Module, merge: nn.Module | None = None) -> None:
        super().__init__()
        self.out, self.merge = out, merge

    def forward(self, features: Tensor, state: Tensor | None = None) -> Tensor:
        if self.merge is not None and state is not None:
            features = features + self.merge(state)
        parameters: Tensor = self.out(features)
        return parameters


class Down(nn.Module, Modulated):
    """A step down: the state above a level and its latents z to the state below.

    Args:
        join: from state and z side by side; None: what is below sees z alone.
        blocks: behind it.
    """

    def __init__(self, join: nn.Module | None, blocks: Layers) -> None:
        super().__init__()
        self.join, self.blocks = join, blocks

    def forward(self, state: Tensor | None, z: Tensor, embedding: Tensor | None = None) -> Tensor:
        if self.join is not None and state is not None:
            z = self.join(torch.cat([state, z.to(state.dtype)], 1))
        below: Tensor = self.blocks(z, embedding)
        return below


class Blocks(Protocol):
    """What the steps of a hierarchy are made of: `Dense`, `Residual` or `Cells`.

    Levels are numbered from the data up. `shape` is that of the data, or of the decoder's output.
    """

    layout: Layout

    def up(self, i: int, shape: tuple[int, ...], from_codes: bool) -> nn.Module:
        """Features of level i from the data (i = 0), or from the features or latents of the level below."""

    def down(self, i: int, shape: tuple[int, ...]) -> Down:
        """From the state of level i and its latents to the state of the level below, or the decoder's output."""

    def start(self) -> Tensor | None:
        """The state above the top level; None: there is none."""

    def prior(self, i: int) -> Head:
        """Parameters of p(z_i | z_>i) from the state of level i."""

    def posterior(self, i: int, merged: bool) -> Head:
        """Parameters of a Gaussian from the features of level i and, `merged`, from its state."""


class Dense:
    """Fully connected layers, by default the two a level of Sønderby et al. 2016, without skip connections.

    Args:
        config: depth (2), activation and normalisation.
        layout: levels.
        told: size of the embedding that every step is told, 0: nothing.
        by_film: whether it modulates every layer; if not, it stands beside the input of each step.
    """

    def __init__(self, config: NetConfig, layout: Layout, told: int, by_film: bool) -> None:
        self.config, self.layout = config, layout
        self.depth = 2 if config.depth is None else config.depth
        self.film, self.beside = (told, 0) if by_film else (0, told)

    def up(self, i: int, shape: tuple[int, ...], from_codes: bool) -> nn.Module:
        rung, below = self.layout.rungs[i], self.layout.rungs[i - 1]
        if i == 0:
            return Layers(nn.Flatten(), *self._layers(math.prod(shape), rung.width))
        return Layers(*self._layers(below.latents if from_codes else below.width, rung.width))

    def down(self, i: int, shape: tuple[int, ...]) -> Down:
        rung = self.layout.rungs[i]
        last = [nn.Linear(rung.width, math.prod(shape))] if i == 0 else []
        return Down(None, Layers(*self._layers(rung.latents, rung.width), *last))

    def start(self) -> Tensor | None:
        return None

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
                *([Shift(self.beside, width)] if self.beside and not layers else []),
                *norm1d(self.config.normalisation, width),
                *film(self.film, width),
                activation(self.config.activation),
            ]
        return layers


class Residual:
    """Residual blocks of two 3x3 convolutions; the state goes down all the way (Maaløe et al. 2019, skip connections).

    Args:
        config: depth (blocks a level, 1), activation and normalisation.
        layout: levels.
        told: size of the embedding that every step is told, 0: nothing.
        by_film: whether it modulates every hidden layer; if not, it stands beside the input of each step.
        stem: blocks a size between the data and the lowest level; None: depth.
    """

    depth = 1

    def __init__(self, config: NetConfig, layout: Layout, told: int, by_film: bool, stem: int | None = None) -> None:
        self.config, self.layout = config, layout
        self.depth = self.depth if config.depth is None else config.depth
        self.stem = self.depth if stem is None else stem
        self.film, self.beside = (told, 0) if by_film else (0, told)

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
            layers += [self.keep_down(below.width) for _ in range(count)]
        if i == 0:
            layers += [activation(self.config.activation), nn.Conv2d(path[-1].width, shape[0], 3, padding=1)]
        return Down(nn.Conv2d(rung.width + rung.latents, rung.width, 1), Layers(*layers))

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

    def keep_down(self, width: int) -> nn.Module:
        """A block of the way down."""
        return self.keep_up(width)

    def _told(self, width: int) -> list[nn.Module]:
        return [Shift(self.beside, width)] if self.beside else []


class Cells(Residual):
    """The residual cells of Vahdat & Kautz 2020 (NVAE), by default two a group."""

    depth = 2

    def smaller(self, above: Rung, place: Rung) -> nn.Module:
        return EncoderCell(above.width, place.width, 2, self.film)

    def larger(self, place: Rung, below: Rung) -> nn.Module:
        height, width = below.size
        return DecoderCell(place.width, below.width, (height, width), embedding=self.film)

    def keep_up(self, width: int) -> nn.Module:
        return EncoderCell(width, width, 1, self.film)

    def keep_down(self, width: int) -> nn.Module:
        return DecoderCell(width, width, embedding=self.film)
