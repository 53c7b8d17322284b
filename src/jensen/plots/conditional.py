"""Pictures made under a condition: one class a row, and the part that was hidden filled in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array, as_images, same_shape
from jensen.plots._style import COLOURS
from jensen.plots._tiles import Frame, tile_figure

__all__ = ["class_grid", "inpainting"]

_TINT = np.array([0.72, 0.83, 0.93])
_MOST_LETTERS = 24


def class_grid(images: Array, names: Sequence[str], *, title: str = "", columns: Sequence[str] = ()) -> Figure:
    """Images (classes, columns, C, H, W), a row a class with its name at the left.

    With the same z down each column, what changes within a column is the class, and what changes along a row is all
    else: style, slant, thickness. `columns` are names above. Raises `ValueError` where numbers of names do not fit.
    """
    rows = [as_images("images", row) for row in as_array("images", images, dimensions=5)]
    if len(names) != len(rows):
        raise ValueError(f"names should have one entry a class ({len(rows)}), but has {len(names)}")
    if len(columns) not in (0, len(rows[0])):
        raise ValueError(f"columns should have one entry an image of a row ({len(rows[0])}), but has {len(columns)}")
    called = [name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…" for name in map(str, names)]
    return tile_figure([list(row) for row in rows], title=title, row_labels=called, column_labels=list(columns))


def inpainting(
    visible: Array,
    samples: Array,
    truth: Array | None = None,
    *,
    mean: Array | None = None,
    title: str = "The hidden part, filled in",
) -> Figure:
    """A row for each picture: what the model saw, what it thinks may have been there, and what was.

    Args:
        visible: (B, C + 1, H, W), what the model is told: the picture, and a last channel that is 1 where it is
            visible. What is hidden is shown in a flat tint.
        samples: (k, B, C, H, W), pictures with the hidden part filled in.
        truth: (B, C, H, W), framed at the right end.
        mean: (B, C, H, W) of many samples, between the samples and the truth.

    Raises:
        ValueError: shapes do not fit each other.
    """
    told = as_array("visible", visible, dimensions=4)
    made = [as_images("samples", one) for one in as_array("samples", samples, dimensions=5)]
    channels = np.shape(samples)[2]
    if told.shape[1] != channels + 1:
        raise ValueError(
            f"visible should have {channels + 1} channels, those of the samples and one that is 1 where the picture "
            f"is visible, but has {told.shape[1]}"
        )
    seen = _tinted(as_images("visible", told[:, :-1]), told[:, -1] > 0.5)
    columns = [("visible", seen), *(("samples", one) for one in made)]
    columns += [
        (name, as_images(name, given)) for name, given in (("mean", mean), ("truth", truth)) if given is not None
    ]
    for name, images in columns:
        same_shape("visible", seen[..., 0], name, images[..., 0] if images.ndim == 4 else images)
    rows: list[list[Floats | None]] = [[images[row] for _, images in columns] for row in range(len(seen))]
    frames = [] if truth is None else [Frame(row, len(columns) - 1, COLOURS[1]) for row in range(len(seen))]
    labels = [name if place < 2 or name != "samples" else "" for place, (name, _) in enumerate(columns)]
    return tile_figure(rows, title=title, column_labels=labels, frames=frames)


def _tinted(images: Floats, visible: npt.NDArray[np.bool_]) -> Floats:
    """As colour, (B, H, W, 3), with the tint wherever `visible` (B, H, W) is false."""
    coloured = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=-1)
    shown: Floats = np.where(visible[..., None], coloured, _TINT)
    return shown
