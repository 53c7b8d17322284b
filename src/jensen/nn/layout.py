"""Where the levels of a hierarchy of latents lie: how wide their networks are, and on which grids."""

from __future__ import annotations

import math
from typing import NamedTuple

from jensen.config.scales import Scale
from jensen.errors import ConfigError
from jensen.nn.spatial import grid_sizes

__all__ = ["Layout", "Rung", "layout_of"]


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
        fit = int(math.log2(min(size) / downsampling)) + 1 if min(size) >= downsampling else 0
        raise ConfigError(
            f"data of {size[0]}x{size[1]} cannot be halved {int(math.log2(whole))} times, which {len(scales)} "
            f"scale{'s' * (len(scales) > 1)} with downsampling {downsampling} ask{'s' * (len(scales) == 1)} for: "
            + (
                f"at most {fit} fit{'s' * (fit == 1)}; use fewer or a smaller downsampling"
                if fit
                else "use a smaller one"
            )
        )
    sizes = grid_sizes(size, whole)
    above = len(sizes) - len(scales)
    stem = tuple(Rung(0, max(1, scales[0].width >> (above - i)), sizes[i]) for i in range(above))
    on_grids = zip(scales, sizes[above:], strict=True)
    return Layout(tuple(Rung(s.latents, s.width, grid) for s, grid in on_grids for _ in range(s.groups)), stem)
