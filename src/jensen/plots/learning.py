"""How much better predictions get with more data."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from jensen.plots._input import Array, as_array, same_shape
from jensen.plots._style import COLOURS, MARKERS, finish, legend_label, new_figure, plain

__all__ = ["learning_curves"]


def learning_curves(
    sizes: Array, values: Mapping[str, Array], *, x: str = "rows learned from", y: str = "", title: str = ""
) -> Figure:
    """A measure (P,) of each method by the number of rows (P,) it learned from, on a logarithmic x axis.

    Raises `ValueError` for sizes that are not positive, lengths that differ, or no method.
    """
    rows = as_array("sizes", sizes, dimensions=1)
    if not values or rows.min() <= 0:
        raise ValueError("sizes should be positive, and values should hold at least one method")
    figure = new_figure(5.8, 3.8)
    axes = figure.add_subplot()
    finish(axes, title, x, y)
    for index, (name, given) in enumerate(values.items()):
        heights = as_array(f"values of {name!r}", given, dimensions=1)
        same_shape("sizes", rows, f"values of {name!r}", heights)
        axes.plot(
            rows,
            heights,
            marker=MARKERS[index % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            linewidth=1.8,
            label=legend_label(name),
        )
    axes.set_xscale("log")
    axes.set_xticks(rows, [f"{size:,.0f}" for size in rows])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.legend(fontsize=8.5, frameon=False)
    return plain(figure)
