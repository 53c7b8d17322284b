"""How much each step of variance reduction takes away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array
from jensen.plots._style import COLOURS, INK, MARKERS, MUTED, finish, legend_label, log_axis, new_figure, note, plain

__all__ = ["variance_ladder"]

_SIDES = ((0, 5, "center", "bottom"), (0, -5, "center", "top"), (6, 0, "left", "center"), (-6, 0, "right", "center"))
_DECADES = 9  # shown below the largest variance; what is smaller stands at the edge


def variance_ladder(
    names: Sequence[str], variances: Mapping[str, Array], *, title: str = "", remark: str = ""
) -> Figure:
    """Variances of gradient estimators, one row each, on a logarithmic axis: a line for each stage of a fit.

    Args:
        names: of the E estimators, the plainest first: it stands at the top.
        variances: stage ("at the start") -> (E,), not negative; NaN where an estimator does not apply. What is zero, or
            more than nine decades below the largest, stands at the left edge, with its value.
        title: of the picture.
        remark: small, in the corner.

    Raises:
        ValueError: nothing to draw, negative variances, or lengths that differ.
    """
    if not names or not variances:
        raise ValueError("names and variances should not be empty")
    lines = {stage: _checked(stage, values, len(names)) for stage, values in variances.items()}
    every = np.concatenate([*lines.values()])
    positive = every[every > 0]
    if not len(positive):
        raise ValueError("variances are all zero or NaN: there is nothing to draw")
    edge = max(positive.min(), positive.max() * 10.0**-_DECADES) / 3
    figure = new_figure(7.6, 1.3 + 0.48 * len(names))
    axes = figure.add_subplot()
    finish(axes, title, "variance of the gradient (sum over parameters)")
    log_axis(axes, "x")
    for index, (stage, values) in enumerate(lines.items()):
        _line(axes, index, stage, values, edge)
    axes.set_yticks(range(len(names)), [legend_label(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim((edge if (every < edge).any() else positive.min()) / 2.5, positive.max() * 2.5)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=8.5, frameon=False, loc="outside lower center", ncols=3)
    if remark:
        note(axes, remark)
    return plain(figure)


def _checked(stage: str, values: Array, count: int) -> Floats:
    array = as_array(f"variances {stage!r}", values, dimensions=1, finite=False)
    if len(array) != count:
        raise ValueError(f"variances {stage!r} should have one entry an estimator ({count}), but have {len(array)}")
    if (array < 0).any() or np.isinf(array).any():
        raise ValueError(f"variances {stage!r} should be finite and not negative")
    return array


def _line(axes: Axes, index: int, stage: str, values: Floats, edge: float) -> None:
    """One stage: a line down the ladder, each value beside its marker; hollow at the edge."""
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    rows = np.flatnonzero(~np.isnan(values))
    shown, below = np.maximum(values[rows], edge), values[rows] < edge
    axes.plot(shown, rows, "-", color=colour, linewidth=1.4, alpha=0.45)
    axes.plot(shown[~below], rows[~below], marker, color=colour, markersize=6, label=legend_label(stage))
    axes.plot(shown[below], rows[below], marker, color=colour, markersize=6, markerfacecolor="white")
    x_offset, y_offset, ha, va = _SIDES[index % len(_SIDES)]
    for row, x in zip(rows, shown, strict=True):
        axes.annotate(
            _number(values[row]),
            (x, row),
            xytext=(x_offset, y_offset),
            textcoords="offset points",
            ha=ha,
            va=va,
            fontsize=7.5,
            color=INK if values[row] >= edge else MUTED,
            bbox={"boxstyle": "round,pad=0.08", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
        )


def _number(value: float) -> str:
    """Two digits, as a plain number where that is short."""
    return f"{float(f'{value:.2g}'):,.0f}" if 100 <= value < 1e6 else f"{value:.2g}".replace("-", "−")
