"""What each latent does to the picture: one moved at a time, the others held."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array, as_images, same_shape
from jensen.plots._style import COLOURS
from jensen.plots._tiles import Frame, tile_figure

__all__ = ["traversals"]


def traversals(
    images: Array,
    captions: Sequence[str],
    *,
    values: Sequence[float] = (),
    start: Array | None = None,
    title: str = "Latent traversals",
) -> Figure:
    """A row for each latent, in which it alone moves while all others keep their value.

    Args:
        images: (rows, steps, C, H, W), the decoded pictures.
        captions: one a row, e.g. "z3, 2.41 nats"; the caller puts the most informative latent first.
        values: of the latent, one a step, written above the columns.
        start: (C, H, W), the picture that all rows begin from: it stands framed at the left of each.

    Raises:
        ValueError: shapes or numbers of captions or values do not fit.
    """
    rows = [as_images("images", row) for row in as_array("images", images, dimensions=5)]
    steps = len(rows[0])
    if len(captions) != len(rows):
        raise ValueError(f"captions should have one entry a row ({len(rows)}), but has {len(captions)}")
    if len(values) not in (0, steps):
        raise ValueError(f"values should have one entry a step ({steps}), but has {len(values)}")
    above = [f"{value:.2g}".replace("-", "−") for value in values]
    tiles: list[list[Floats | None]] = [list(row) for row in rows]
    frames: list[Frame] = []
    if start is not None:
        first = as_images("start", as_array("start", start, dimensions=3)[None])[0]
        same_shape("start", first, "the images", rows[0][0])
        tiles = [[first, *row] for row in tiles]
        above = ["start", *above] if above else []
        frames = [Frame(row, 0, COLOURS[1]) for row in range(len(rows))]
    return tile_figure(tiles, title=title, row_labels=list(captions), column_labels=above, frames=frames)
