"""Small images side by side in one axes: quick to draw, and each keeps its own pixel array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jensen.plots._input import Floats
from jensen.plots._style import INK, finish, new_figure, plain

__all__ = ["Frame", "draw_tiles", "tile_figure"]

_GAP = 0.07
_CAPTION = 0.24  # room under an image, in widths of one
_LARGEST_WIDTH = 10.0


@dataclass(frozen=True)
class Frame:
    """A coloured border around the image at (row, column)."""

    row: int
    column: int
    colour: str


def draw_tiles(
    axes: Axes,
    rows: Sequence[Sequence[Floats | None]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    block: int | None = None,
    frames: Sequence[Frame] = (),
    captions: Sequence[str] = (),
) -> None:
    """Rows of images (H, W) or (H, W, 3), all of one size; None leaves a hole.

    After every `block` rows the gap is wider, so that rows which belong together stay together. `captions` stand
    under the images, in the order of reading.
    """
    example = next(image for row in rows for image in row if image is not None)
    height = example.shape[0] / example.shape[1]
    step = height + _GAP + (_CAPTION if captions else 0.0)
    tops = [index * step + (0 if block is None else (index // block) * 0.3) for index in range(len(rows))]
    for top, row in zip(tops, rows, strict=True):
        for column, image in enumerate(row):
            if image is not None:
                left = column * (1 + _GAP)
                axes.imshow(
                    image,
                    cmap="gray",
                    vmin=0.0,
                    vmax=1.0,
                    interpolation="nearest",
                    extent=(left, left + 1, top + height, top),
                )
    columns = max(len(row) for row in rows)
    for place, caption in enumerate(captions):
        x, y = (place % columns) * (1 + _GAP) + 0.5, tops[place // columns] + height + 0.04
        axes.text(x, y, caption, ha="center", va="top", fontsize=8.5, color=INK)
    for frame in frames:
        corner = (frame.column * (1 + _GAP), tops[frame.row])
        axes.add_patch(Rectangle(corner, 1, height, fill=False, edgecolor=frame.colour, linewidth=2.5))
    margin = _GAP / 2
    axes.set(xlim=(-margin, columns * (1 + _GAP) - margin), ylim=(tops[-1] + step - margin, -margin), aspect="equal")
    axes.set_yticks([top + height / 2 for top in tops] if row_labels else [], row_labels)
    axes.set_xticks([column * (1 + _GAP) + 0.5 for column in range(columns)] if column_labels else [], column_labels)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)


def tile_figure(
    rows: Sequence[Sequence[Floats | None]],
    *,
    title: str = "",
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    block: int | None = None,
    frames: Sequence[Frame] = (),
    captions: Sequence[str] = (),
) -> Figure:
    """A figure of one axes full of tiles, as wide as the images need."""
    example = next(image for row in rows for image in row if image is not None)
    columns = max(len(row) for row in rows)
    cell = min(max(0.8, min(1.6, 5 / columns), example.shape[1] / 100), _LARGEST_WIDTH / columns)
    blocks = 0 if block is None else (len(rows) - 1) // block
    label_room = 0.085 * max((len(label) for label in row_labels), default=0)
    width = columns * cell * (1 + _GAP) + label_room + 0.3
    height = cell * (
        len(rows) * (example.shape[0] / example.shape[1] + _GAP + (_CAPTION if captions else 0)) + 0.3 * blocks
    )
    figure = new_figure(max(width, 0.105 * len(title) + 0.3), height + (0.6 if title else 0.3))
    axes = figure.add_subplot()
    finish(axes, title, grid=False)
    draw_tiles(
        axes, rows, row_labels=row_labels, column_labels=column_labels, block=block, frames=frames, captions=captions
    )
    axes.tick_params(labelsize=9, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_anchor("W")
    return plain(figure)
