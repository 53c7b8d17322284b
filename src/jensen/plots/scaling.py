"""How time or memory grows with the size of a problem."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array, same_shape
from jensen.plots._style import COLOURS, INK, MARKERS, MUTED, finish, legend_label, log_axis, new_figure, plain

__all__ = ["loglog_scaling"]

Panel = Mapping[str, tuple[Array, Array]]


def loglog_scaling(panels: Mapping[str, Panel], *, y: str = "seconds a sweep", title: str = "") -> Figure:
    """Measurements against size on two logarithmic axes, a panel for what was varied.

    `panels` maps what stands on a panel's x axis ("N", "D", "K") to its lines: name to (sizes, measurements), both
    (P,) and positive. The legend gives each line's exponent p of y ~ x^p, by least squares in the logarithms where
    there are two sizes or more; the dotted line is proportional growth. Raises `ValueError` for anything else.
    """
    if not panels or not all(panels.values()):
        raise ValueError("panels should map what was varied to at least one line, but is or holds something empty")
    figure = new_figure(4.0 * len(panels) + 0.3, 3.6)
    if title:
        figure.suptitle(title, fontsize=11, fontweight="bold", color=INK)
    for place, (x, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        finish(axes, f"against {x}", x, y if place == 0 else "")
        log_axis(axes, "both")
        for index, (name, (sizes, values)) in enumerate(lines.items()):
            _line(axes, index, name, _positive(f"sizes of {name!r}", sizes), _positive(f"values of {name!r}", values))
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** (0.1 * max(0, len(lines) - 2)))  # room for a long legend
        axes.legend(fontsize=8, frameon=False, loc="upper left")
    return plain(figure)


def _positive(name: str, values: Array) -> Floats:
    array = as_array(name, values, dimensions=1)
    if array.min() <= 0:
        raise ValueError(f"{name} should be positive on a logarithmic axis, but the smallest is {array.min():g}")
    return array


def _line(axes: Axes, index: int, name: str, sizes: Floats, values: Floats) -> None:
    same_shape(f"sizes of {name!r}", sizes, "values", values)
    order = np.argsort(sizes)
    sizes, values = sizes[order], values[order]
    power = ""
    if len(np.unique(sizes)) > 1:
        slope = float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
        power = f": exponent {slope:.2f}".replace("-", "−")
    marker, colour = MARKERS[index % len(MARKERS)], COLOURS[index % len(COLOURS)]
    axes.plot(sizes, values, "-", marker=marker, color=colour, markersize=5, label=legend_label(name + power))
    if index == 0:
        axes.plot(sizes, values[0] * sizes / sizes[0], ":", color=MUTED, linewidth=1.2, label="proportional")
