"""Which latent knows which generating factor."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from jensen.plots._input import Array, Floats, as_array
from jensen.plots._style import COLOURS, INK, finish, new_figure, plain

__all__ = ["factor_matrix"]

_MOST_COLUMNS_WRITTEN = 20
_LETTERS_A_LINE = 11


def factor_matrix(
    matrix: Array,
    factors: Sequence[str],
    latents: Sequence[str] = (),
    *,
    gaps: Array | None = None,
    entropies: Array | None = None,
    upper: float | None = None,
    title: str = "Mutual information of latents and factors",
    unit: str = "nats",
) -> Figure:
    """What each latent says about each factor (D, F), as colours with the numbers written in.

    The largest value of each column is framed: a disentangled code has one dark cell a column, each in a row of its
    own.

    Args:
        matrix: mutual information, or any importance that is not negative, a row a latent.
        factors: names of the columns.
        latents: names of the rows; none: z0, z1, ...
        gaps: (F,) written under the names, the MIG of each factor: its largest less its second largest mutual
            information, as a share of its entropy.
        entropies: (F,) of the factors, in the unit of the matrix: the most that can be known of each. The largest is
            the upper end of the scale of colours.
        upper: of the scale of colours, the same for pictures that are to be compared; None: that of the entropies, or
            where these are not given the largest value.
        unit: of the values.

    Raises:
        ValueError: negative values, names, gaps or entropies that do not fit, or an upper end that is not positive.
    """
    values = as_array("matrix", matrix, dimensions=2)
    if values.min() < 0:
        raise ValueError(f"matrix should hold values of 0 or more, but the smallest is {values.min():g}")
    rows = list(latents) or [f"z{place}" for place in range(len(values))]
    columns, level = _columns(values, factors, rows, gaps)
    top = _upper(values, entropies, upper)
    width = max(4.2, 0.105 * len(title) + 0.3, 0.85 * len(columns) + 2.0)
    figure = new_figure(min(width, 11.0), float(np.clip(0.32 * len(rows) + 1.5, 2.6, 11.0)))
    axes = figure.add_subplot()
    finish(axes, title, "", "latent", grid=False)
    image = axes.imshow(values, cmap="Blues", vmin=0.0, vmax=top, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns)
    if not level:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    _write(axes, values, top)
    _colour_bar(figure, image, axes, unit)
    return plain(figure)


def _colour_bar(figure: Figure, image: AxesImage, axes: Axes, unit: str) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label(unit, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _upper(values: Floats, entropies: Array | None, upper: float | None) -> float:
    """The value that is darkest."""
    if entropies is not None:
        most = as_array("entropies", entropies, dimensions=1)
        if len(most) != values.shape[1]:
            raise ValueError(f"entropies should have one entry a factor ({values.shape[1]}), but has {len(most)}")
        upper = float(most.max()) if upper is None else upper
    if upper is None:
        return float(values.max()) or 1.0
    if not 0 < upper < float("inf"):
        raise ValueError(f"the upper end of the scale should be positive and finite, but is {upper:g}")
    return upper


def _columns(values: Floats, factors: Sequence[str], rows: Sequence[str], gaps: Array | None) -> tuple[list[str], bool]:
    """What to write under the columns, and whether it is short enough to stand level."""
    for what, names, count in (("factors", factors, values.shape[1]), ("latents", rows, len(values))):
        if len(names) != count:
            raise ValueError(f"{what} should have {count} names, but has {len(names)}")
    columns = [textwrap.fill(str(name), _LETTERS_A_LINE, break_long_words=False) for name in factors]
    level = max(len(line) for name in columns for line in name.split("\n")) <= _LETTERS_A_LINE
    if gaps is None:
        return columns, level
    shares = as_array("gaps", gaps, dimensions=1)
    if len(shares) != len(columns):
        raise ValueError(f"gaps should have one entry a factor ({len(columns)}), but has {len(shares)}")
    return [f"{name}\nMIG {share:.2f}" for name, share in zip(columns, shares, strict=True)], level


def _write(axes: Axes, values: Floats, top: float) -> None:
    """The numbers, and a frame around the largest of each column."""
    if values.shape[1] <= _MOST_COLUMNS_WRITTEN:
        for (row, column), value in np.ndenumerate(values):
            dark = value > 0.6 * top
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if dark else INK)
    for column, row in enumerate(values.argmax(axis=0)):
        if values[row, column] > 0:
            corner = (column - 0.47, float(row) - 0.46)
            axes.add_patch(Rectangle(corner, 0.94, 0.92, fill=False, edgecolor=COLOURS[1], linewidth=1.8))
