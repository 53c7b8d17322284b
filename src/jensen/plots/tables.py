"""Pictures of tables: what the model made of each column."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jensen.plots._input import Array, as_array, same_shape
from jensen.plots._style import COLOURS, MUTED, finish, new_figure

__all__ = ["table_reconstructions"]

_MOST_COLUMNS = 12


def table_reconstructions(
    x: Array, y: Array, names: Sequence[str] = (), *, unit: str = "standardised", title: str = ""
) -> Figure:
    """Reconstruction `y` against original `x`, both (N, columns): a scatter a column, the diagonal is perfect.

    Each panel states R^2, the share of the column's variance that is explained (1 is perfect, 0 no better than the
    mean). Of more than twelve columns the first twelve are drawn. Raises `ValueError` where shapes differ.
    """
    original, made = as_array("x", x, dimensions=2), as_array("y", y, dimensions=2)
    same_shape("x", original, "y", made)
    total = original.shape[1]
    if names and len(names) != total:
        raise ValueError(f"names should have one entry a column ({total}), but has {len(names)}")
    shown = min(total, _MOST_COLUMNS)
    across = min(4, shown)
    down = math.ceil(shown / across)
    figure = new_figure(2.7 * across + 0.4, 2.75 * down + 0.5)
    rest = "" if shown == total else f" (first {shown} of {total} columns)"
    figure.suptitle(
        title or f"Reconstruction against original{rest}", x=0.01, ha="left", fontsize=11, fontweight="bold"
    )
    for column in range(shown):
        axes = figure.add_subplot(down, across, column + 1)
        a, b = original[:, column], made[:, column]
        spread = float(((a - a.mean()) ** 2).sum())
        explained = f"R\u00b2 = {1 - float(((a - b) ** 2).sum()) / spread:.2f}" if spread > 0 else "constant"
        finish(axes, "", f"original ({unit})", f"reconstruction ({unit})" if column % across == 0 else "")
        name = names[column] if names else f"column {column}"
        axes.set_title(f"{name}\n{explained}", loc="left", fontsize=9.5)
        low, high = float(min(a.min(), b.min())), float(max(a.max(), b.max()))
        margin = 0.05 * (high - low) or 1.0
        limits = (low - margin, high + margin)
        axes.plot(limits, limits, color=MUTED, linewidth=1, linestyle="--", zorder=1)
        size = float(np.clip(6_000 / len(a), 4, 22))
        axes.scatter(a, b, s=size, color=COLOURS[0], alpha=0.55, linewidths=0, zorder=2)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
    return figure
