"""Pictures of tables: what the model made of each column."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array, as_labels, same_shape
from jensen.plots._style import CLASS_COLOURS, COLOURS, INK, MUTED, finish, legend_label, new_figure, plain

__all__ = ["table_reconstructions", "table_samples"]

_MOST_COLUMNS = 12


def table_reconstructions(
    x: Array,
    y: Array,
    names: Sequence[str] = (),
    *,
    unit: str = "standardised",
    title: str = "",
    words: tuple[str, str] = ("original", "reconstruction"),
) -> Figure:
    """Reconstruction `y` against original `x`, both (N, columns): a scatter a column, the diagonal is perfect.

    Each panel states R^2, the share of the column's variance that is explained (1 is perfect, 0 no better than the
    mean). `words` say what `x` and `y` are. Of more than twelve columns the first twelve are drawn. Raises
    `ValueError` where shapes differ.
    """
    original, made = as_array("x", x, dimensions=2), as_array("y", y, dimensions=2)
    same_shape("x", original, "y", made)
    figure, panels = _panels(original.shape[1], names, title or "Reconstruction against original", height=2.75)
    for column, axes in enumerate(panels):
        a, b = original[:, column], made[:, column]
        spread = float(((a - a.mean()) ** 2).sum())
        explained = f"R² = {1 - float(((a - b) ** 2).sum()) / spread:.2f}" if spread > 0 else "constant"
        finish(axes, "", f"{words[0]} ({unit})", f"{words[1]} ({unit})" if column % 4 == 0 else "")
        name = names[column] if len(names) else f"column {column}"
        axes.set_title(f"{name}\n{explained}", loc="left", fontsize=9.5)
        low, high = float(min(a.min(), b.min())), float(max(a.max(), b.max()))
        margin = 0.05 * (high - low) or 1.0
        limits = (low - margin, high + margin)
        axes.plot(limits, limits, color=MUTED, linewidth=1, linestyle="--", zorder=1)
        size = float(np.clip(6_000 / len(a), 4, 22))
        axes.scatter(a, b, s=size, color=COLOURS[0], alpha=0.55, linewidths=0, zorder=2)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
    return plain(figure)


def table_samples(
    x: Array,
    samples: Array,
    names: Sequence[str] = (),
    *,
    unit: str = "standardised",
    classes: tuple[Array, Array] | None = None,
    class_names: Sequence[str] = (),
) -> Figure:
    """Distribution of each column in the data `x` (N, columns) and in `samples` (M, columns) of a model.

    With `classes`, indices (N,) of the data and (M,) of the samples, each class has its own histograms in one colour:
    filled those of data, lines those of samples. Of more than twelve columns the first twelve are drawn. Raises
    `ValueError` where columns or classes do not fit.
    """
    data, made = as_array("x", x, dimensions=2), as_array("samples", samples, dimensions=2)
    if data.shape[1] != made.shape[1]:
        raise ValueError(f"x and samples should have the same columns, but have {data.shape[1]} and {made.shape[1]}")
    total = data.shape[1]
    of_data, of_samples, present = _by_class(data, made, classes, class_names)
    figure, panels = _panels(total, names, "Data and samples, column by column", height=2.3)
    for column, axes in enumerate(panels):
        a, b = data[:, column], made[:, column]
        finish(axes, "", unit, "density" if column % 4 == 0 else "")
        axes.set_title(names[column] if len(names) else f"column {column}", loc="left", fontsize=9.5, color=INK)
        both = np.concatenate([a, b])
        bins = np.linspace(both.min(), both.max() + 1e-9, 15 if present else 25).tolist()
        if not present:
            axes.hist(a, bins=bins, density=True, color="#C9D3DD", label="data")
            axes.hist(b, bins=bins, density=True, histtype="step", linewidth=1.8, color=COLOURS[1], label="samples")
        for index, name in present.items():
            colour = CLASS_COLOURS[index % len(CLASS_COLOURS)]
            if (own := a[of_data == index]).size:
                axes.hist(own, bins=bins, density=True, color=colour, alpha=0.3)
            if (own := b[of_samples == index]).size:
                axes.hist(
                    own,
                    bins=bins,
                    density=True,
                    histtype="step",
                    linewidth=1.8,
                    color=colour,
                    label=legend_label(name),
                )
    if present:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8.5, frameon=False)
    else:
        panels[0].legend(fontsize=8.5, frameon=False)
    return plain(figure)


def _by_class(
    data: Floats, made: Floats, classes: tuple[Array, Array] | None, names: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], dict[int, str]]:
    """Class of each row of both, and the classes that are there with their names; none without classes."""
    if classes is None:
        return np.zeros(len(data), np.int64), np.zeros(len(made), np.int64), {}
    of_data, of_samples = (as_labels(own, len(rows), names) for own, rows in zip(classes, (data, made), strict=True))
    present = sorted({*of_data.tolist(), *of_samples.tolist()})
    return of_data, of_samples, {index: str(names[index]) if names else str(index) for index in present}


def _panels(total: int, names: Sequence[str], title: str, *, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with a title and a panel for each of the columns that are drawn."""
    if len(names) and len(names) != total:
        raise ValueError(f"names should have one entry a column ({total}), but has {len(names)}")
    shown = min(total, _MOST_COLUMNS)
    across = min(4, shown)
    down = math.ceil(shown / across)
    figure = new_figure(max(2.7 * across, 3.2) + 0.4, height * down + 0.6)
    rest = "" if shown == total else f" (first {shown} of {total} columns)"
    # The empty line keeps the panels' titles away.
    figure.suptitle(f"{title}{rest}\n", x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    return figure, [figure.add_subplot(down, across, column + 1) for column in range(shown)]
