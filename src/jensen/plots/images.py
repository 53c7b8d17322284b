"""Pictures made of images: a grid, reconstructions beside originals, a walk between two data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array, as_images, same_shape
from jensen.plots._style import COLOURS
from jensen.plots._tiles import Frame, tile_figure

__all__ = ["image_grid", "neighbours", "reconstructions", "walk"]


def image_grid(images: Array, columns: int | None = None, *, captions: Sequence[str] = (), title: str = "") -> Figure:
    """Images (B, C, H, W), row by row, `columns` a row (None: about square), each with its caption where given.

    One channel is drawn grey, three in colour, any other number as the mean over channels; values are clipped to
    [0, 1] and pixels are shown as they are (no smoothing). Raises `ValueError` on any other shape, on values that are
    not finite, and on integers above 1.
    """
    tiles = as_images("images", images)
    if columns is None:
        columns = math.ceil(math.sqrt(len(tiles)))
    if columns < 1:
        raise ValueError(f"columns should be at least 1, but is {columns}")
    if captions and len(captions) != len(tiles):
        raise ValueError(f"captions should have one entry an image ({len(tiles)}), but has {len(captions)}")
    columns = min(columns, len(tiles))
    rows = [list(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return tile_figure(rows, title=title, captions=captions)


def reconstructions(
    originals: Array,
    reconstructions: Array,
    corrupted: Array | None = None,
    *,
    columns: int = 10,
    title: str = "",
) -> Figure:
    """Originals above their reconstructions, each (B, C, H, W), `columns` pairs a line.

    With `corrupted` (denoising) three rows: what the model saw, what it made of it, and the clean image. Raises
    `ValueError` unless all have one shape.
    """
    clean, made = as_images("originals", originals), as_images("reconstructions", reconstructions)
    same_shape("originals", clean, "reconstructions", made)
    if columns < 1:
        raise ValueError(f"columns should be at least 1, but is {columns}")
    labelled = {"original": clean, "reconstruction": made}
    if corrupted is not None:
        seen = as_images("corrupted", corrupted)
        same_shape("corrupted", seen, "originals", clean)
        labelled = {"corrupted": seen, "reconstruction": made, "clean": clean}
    rows: list[list[Floats | None]] = []
    names: list[str] = []
    for start in range(0, len(clean), columns):
        rows.extend(list(images[start : start + columns]) for images in labelled.values())
        names.extend(labelled)
    default = "Denoising" if corrupted is not None else "Reconstructions beside originals"
    return tile_figure(rows, title=title or default, row_labels=names, block=len(labelled))


def neighbours(originals: Array, images: Array, *, title: str = "") -> Figure:
    """A row for each original (B, C, H, W): the original, framed, and new images near it, (n, B, C, H, W).

    Raises `ValueError` where shapes differ.
    """
    data, new = as_images("originals", originals), as_array("images", images, dimensions=5)
    made = [as_images("images", near) for near in new]
    for near in made:
        same_shape("originals", data, "the images near them", near)
    rows: list[list[Floats | None]] = [[data[row], *(near[row] for near in made)] for row in range(len(data))]
    frames = [Frame(row, 0, COLOURS[1]) for row in range(len(data))]
    labels = ["original", *[""] * len(made)]
    return tile_figure(rows, title=title or "New images near a datum", column_labels=labels, frames=frames)


def walk(paths: Array | Mapping[str, Array], ends: tuple[Array, Array] | None = None, *, title: str = "") -> Figure:
    """Images along one path between two data, or along several (named, e.g. linear and spherical), one a row.

    Each path is (steps, C, H, W). `ends` are the two originals, each (C, H, W): they stand framed at both ends of
    every row. Without them the first and last image of each path are framed. Raises `ValueError` where shapes differ.
    """
    named = dict(paths) if isinstance(paths, Mapping) else {"": paths}
    if not named:
        raise ValueError("paths should hold at least one path, but is empty")
    tiles = {name: as_images(f"path {name}".strip(), path) for name, path in named.items()}
    first = next(iter(tiles))
    for name, path in tiles.items():
        same_shape(f"path {first}".strip(), tiles[first], f"path {name}".strip(), path)
    rows: list[list[Floats | None]] = [list(path) for path in tiles.values()]
    steps = len(tiles[first])
    if ends is not None:
        start, end = (as_images("ends", _one(image))[0] for image in ends)
        same_shape("ends", start, "the images of a path", tiles[first][0])
        same_shape("ends", end, "the images of a path", tiles[first][0])
        rows = [[start, *row, end] for row in rows]
    last = len(rows[0]) - 1
    frames = [Frame(row, column, COLOURS[1]) for row in range(len(rows)) for column in {0, last}]
    columns = [f"{step / max(steps - 1, 1):.2g}" for step in range(steps)]
    if ends is not None:
        columns = ["original", *columns, "original"]
    else:
        columns[0], columns[-1] = "start", "end"
    return tile_figure(
        rows,
        title=title or "Walk between two data",
        row_labels=list(tiles) if any(tiles) else (),
        column_labels=columns,
        frames=frames,
    )


def _one(image: Array) -> Array:
    """One image (C, H, W) as a batch of one."""
    array = image if isinstance(image, torch.Tensor) else np.asarray(image)
    if array.ndim != 3:
        raise ValueError(f"ends should be two images (C, H, W), but one has shape {tuple(array.shape)}")
    return array[None]
