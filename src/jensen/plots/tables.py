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
    categories: Sequence[Sequence[str]] = (),
) -> Figure:
    """Reconstruction `y` against original `x`, both (N, columns): a scatter a column, the diagonal is perfect.

    Each panel states R^2, the share of the column's variance that is explained (1 is perfect, 0 no better than the
    mean). `words` say what `x` and `y` are. `categories`, an entry a column: names of its categories where its values
    are their places, empty where they are numbers; of these the shares of each true category are drawn. Rows whose `x`
    is NaN are left out of their column. Of more than twelve columns the first twelve are drawn. Raises `ValueError`
    where shapes differ.
    """
    original, made = as_array("x", x, dimensions=2, finite=False), as_array("y", y, dimensions=2)
    same_shape("x", original, "y", made)
    figure, panels = _panels(original.shape[1], names, title or "Reconstruction against original", height=2.75)
    labels = [f"{word} ({unit})" if unit else word for word in words]
    for column, axes in enumerate(panels):
        known = ~np.isnan(original[:, column])
        a, b = original[known, column], made[known, column]
        finish(axes, "", labels[0], labels[1] if column % 4 == 0 else "")
        name = names[column] if len(names) else f"column {column}"
        if len(categories) and len(categories[column]):
            axes.set_title(f"{name}\n{_shares_told(a, b)}", loc="left", fontsize=9.5)
            _confusion(axes, a, b, categories[column])
            continue
        if not len(a):
            axes.set_title(f"{name}\nnever known", loc="left", fontsize=9.5)
            continue
        spread = float(((a - a.mean()) ** 2).sum())
        explained = f"R² = {1 - float(((a - b) ** 2).sum()) / spread:.2f}" if spread > 0 else "constant"
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
    categories: Sequence[Sequence[str]] = (),
) -> Figure:
    """Distribution of each column in the data `x` (N, columns) and in `samples` (M, columns) of a model.

    `categories`, an entry a column: names of its categories where its values are their places, empty where they are
    numbers. NaNs are left out.

    With `classes`, indices (N,) of the data and (M,) of the samples, each class has its own histograms in one colour:
    filled those of data, lines those of samples. Of more than twelve columns the first twelve are drawn. Raises
    `ValueError` where columns or classes do not fit.
    """
    data, made = as_array("x", x, dimensions=2, finite=False), as_array("samples", samples, dimensions=2)
    if data.shape[1] != made.shape[1]:
        raise ValueError(f"x and samples should have the same columns, but have {data.shape[1]} and {made.shape[1]}")
    total = data.shape[1]
    of_data, of_samples, present = _by_class(data, made, classes, class_names)
    figure, panels = _panels(total, names, "Data and samples, column by column", height=2.3)
    for column, axes in enumerate(panels):
        known, own_known = ~np.isnan(data[:, column]), ~np.isnan(made[:, column])
        a, b = data[known, column], made[own_known, column]
        categorical = len(categories) > 0 and len(categories[column]) > 0
        finish(
            axes, "", "" if categorical else unit, ("share" if categorical else "density") if column % 4 == 0 else ""
        )
        axes.set_title(names[column] if len(names) else f"column {column}", loc="left", fontsize=9.5, color=INK)
        if categorical:
            _category_shares(axes, a, b, categories[column], legend=column == 0 and not present)
            continue
        both = np.concatenate([a, b])
        if not both.size:
            continue
        bins = np.linspace(both.min(), both.max() + 1e-9, 15 if present else 25).tolist()
        if not present:
            axes.hist(a, bins=bins, density=True, color="#C9D3DD", label="data")
            axes.hist(b, bins=bins, density=True, histtype="step", linewidth=1.8, color=COLOURS[1], label="samples")
        for index, name in present.items():
            colour = CLASS_COLOURS[index % len(CLASS_COLOURS)]
            if (own := a[of_data[known] == index]).size:
                axes.hist(own, bins=bins, density=True, color=colour, alpha=0.3)
            if (own := b[of_samples[own_known] == index]).size:
                axes.hist(
                    own,
                    bins=bins,
                    density=True,
                    histtype="step",
                    linewidth=1.8,
                    color=colour,
                    label=legend_label(name),
                )
    numeric = [axes for column, axes in enumerate(panels) if not (len(categories) and len(categories[column]))]
    if present and numeric:
        figure.legend(*numeric[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8.5, frameon=False)
    elif panels[0] in numeric:
        panels[0].legend(fontsize=8.5, frameon=False)
    return plain(figure)


def _shares_told(a: Floats, b: Floats) -> str:
    """How often places of categories are the same, in words."""
    if not len(a):
        return "never known"
    most = np.unique(np.rint(a), return_counts=True)[1].max() / len(a)
    return f"{np.mean(np.rint(a) == np.rint(b)):.0%} right (most frequent: {most:.0%})"


def _confusion(axes: Axes, a: Floats, b: Floats, names: Sequence[str]) -> None:
    """Of the rows of each true category (left to right), the share that became each category (upwards)."""
    count = len(names)
    table = np.zeros((count, count))
    np.add.at(table, (np.rint(b).astype(int), np.rint(a).astype(int)), 1.0)
    shares = table / np.maximum(table.sum(0), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, origin="lower", aspect="auto")
    short = [name if len(name) <= 8 else f"{name[:7]}…" for name in map(str, names)]
    every = max(1, math.ceil(count / 8))
    axes.set_xticks(range(0, count, every), short[::every], rotation=30 if count > 3 else 0, fontsize=8)
    axes.set_yticks(range(0, count, every), short[::every], fontsize=8)
    axes.grid(visible=False)
    if count <= 4:
        for (up, right), share in np.ndenumerate(shares):
            axes.text(
                right, up, f"{share:.0%}", ha="center", va="center", fontsize=8, color="white" if share > 0.5 else INK
            )


def _category_shares(axes: Axes, a: Floats, b: Floats, names: Sequence[str], *, legend: bool) -> None:
    """Shares of the categories, of data as bars and of samples as outlines."""
    count = len(names)
    for values, style in ((a, {"color": "#C9D3DD"}), (b, {"fill": False, "edgecolor": COLOURS[1], "linewidth": 1.8})):
        shares = np.bincount(np.rint(values).astype(int), minlength=count) / max(len(values), 1)
        axes.bar(range(count), shares, width=0.8, label="data" if values is a else "samples", **style)
    short = [name if len(name) <= 8 else f"{name[:7]}…" for name in map(str, names)]
    every = max(1, math.ceil(count / 8))
    axes.set_xticks(range(0, count, every), short[::every], rotation=30 if count > 4 else 0, fontsize=8)
    if legend:
        axes.legend(fontsize=8.5, frameon=False)


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
