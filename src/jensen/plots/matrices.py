"""Pictures of matrices and sequences: loadings, tables of probabilities, and hidden states over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array
from jensen.plots._style import CLASS_COLOURS, COLOURS, INK, finish, legend_label, new_figure, note, plain

__all__ = ["emission_table", "loadings", "states"]

_MOST_WRITTEN = 400
_MOST_SERIES = 6
_MOST_TIMES = 4_000


def loadings(
    matrix: Array,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    *,
    title: str = "Loadings",
    x: str = "factor",
    y: str = "",
) -> Figure:
    """A matrix (D, K) of numbers of both signs as colours, white at zero: what each factor does to each column.

    `rows` and `columns` name its D rows and K columns. Raises `ValueError` where names do not fit.
    """
    values = as_array("matrix", matrix, dimensions=2)
    _check_names(values, rows, columns)
    largest = float(np.abs(values).max()) or 1.0
    figure, axes = _heat(values, rows, columns, cmap="RdBu_r", low=-largest, high=largest, written="{:.2f}")
    finish(axes, title, x, y, grid=False)
    return plain(figure)


def emission_table(
    probabilities: Array,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    *,
    title: str = "Emission probabilities",
    x: str = "symbol",
    y: str = "state",
) -> Figure:
    """Probabilities (K, V), a row a state, as colours and numbers; also for a transition matrix.

    Raises `ValueError` for values outside [0, 1] or names that do not fit.
    """
    values = as_array("probabilities", probabilities, dimensions=2)
    _check_names(values, rows, columns)
    if values.min() < 0 or values.max() > 1 + 1e-9:
        raise ValueError(f"probabilities should be in [0, 1], but go from {values.min():g} to {values.max():g}")
    figure, axes = _heat(values, rows, columns, cmap="Blues", low=0.0, high=1.0, written="{:.2f}")
    finish(axes, title, x, y, grid=False)
    return plain(figure)


def _check_names(values: Floats, rows: Sequence[str], columns: Sequence[str]) -> None:
    for what, names, count in (("rows", rows, values.shape[0]), ("columns", columns, values.shape[1])):
        if len(names) and len(names) != count:
            raise ValueError(f"{what} should have {count} names, but has {len(names)}")


def _heat(
    values: Floats,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    cmap: str,
    low: float,
    high: float,
    written: str,
) -> tuple[Figure, Axes]:
    """A matrix as colours, its values written in where there are few."""
    height, width = values.shape
    figure = new_figure(float(np.clip(0.55 * width + 2.2, 4.2, 11)), float(np.clip(0.26 * height + 1.3, 2.4, 11)))
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap=cmap, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    for names, size, set_ticks in ((columns, width, axes.set_xticks), (rows, height, axes.set_yticks)):
        called = [str(name) for name in names] or [str(place) for place in range(size)]
        step = max(1, -(-size // 40))
        set_ticks(np.arange(0, size, step), called[::step])
    if len(columns) and max(len(str(name)) for name in columns) > 6:
        for label in axes.get_xticklabels():
            label.set(rotation=60, ha="right")
    if values.size <= _MOST_WRITTEN and width <= 20:
        for (row, column), value in np.ndenumerate(values):
            dark = abs(value) > 0.6 * high
            text = written.format(value).replace("-", "−")
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color="white" if dark else INK)
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure, axes


def states(
    series: Array,
    marginals: Array,
    *,
    names: Sequence[str] = (),
    state_names: Sequence[str] = (),
    symbols: Sequence[str] = (),
    lengths: Sequence[int] = (),
    start: int = 0,
    title: str = "Hidden states over time",
) -> Figure:
    """A series and, below it, which state each of its times is in.

    Args:
        series: (T,) or (T, D), NaN where a value is missing: the line has a gap there; of more than six columns the
            first six are drawn.
        marginals: (T, K), the probability of each state at each time, drawn as stacked areas; or (T,), a path of
            whole numbers.
        names: one a column of the series.
        state_names: one a state.
        symbols: what the values 0, 1, ... of the series stand for, where they are no quantities.
        lengths: of the sequences that the series is made of, one after another: the line is broken between them.
        start: number of the first time, for the axis.

    Of more than 4,000 times the first 4,000 are drawn. Raises `ValueError` where lengths differ, for infinity, or for
    probabilities that do not sum to one.
    """
    lines = _as_lines(series)
    starts = _as_starts(lengths, len(lines))
    weights = _as_marginals(marginals, len(lines), len(state_names))
    if len(names) and len(names) != lines.shape[1]:
        raise ValueError(f"names should have one entry a column ({lines.shape[1]}), but has {len(names)}")
    if len(state_names) and len(state_names) != weights.shape[1]:
        raise ValueError(f"state_names should have one entry a state ({weights.shape[1]}), but has {len(state_names)}")
    remarks = _remarks(lines)
    lines, weights = lines[:_MOST_TIMES], weights[:_MOST_TIMES]
    time = np.arange(start, start + len(lines))
    figure = new_figure(9.0, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.3))
    finish(upper, title, "", "value")
    _series(upper, time, lines, weights.argmax(axis=1), names, starts[starts < len(lines)])
    if len(symbols) and len(symbols) <= 30:
        upper.set_yticks(range(len(symbols)), [str(symbol) for symbol in symbols])
    if remarks:
        note(upper, "; ".join(remarks))
    finish(lower, "", "time", "probability", grid=False)
    called = [str(name) for name in state_names] or [f"state {place}" for place in range(weights.shape[1])]
    _areas(lower, np.append(time, time[-1] + 1) - 0.5, weights, called)
    return plain(figure)


def _as_lines(series: Array) -> Floats:
    """(T, D) numbers from such, or from (T,); NaN passes."""
    dimensions = np.ndim(series) if np.ndim(series) in (1, 2) else 2
    lines = as_array("series", series, dimensions=dimensions, finite=False)
    if np.isinf(lines).any():
        raise ValueError(f"series should be finite or NaN, but {int(np.isinf(lines).sum())} values are infinite")
    return lines[:, None] if lines.ndim == 1 else lines


def _as_starts(lengths: Sequence[int], total: int) -> npt.NDArray[np.int64]:
    """The times at which a sequence begins, but for the first."""
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) and (sizes.min() < 1 or sizes.sum() != total):
        raise ValueError(f"lengths should be 1 or more and sum to the {total} times, but sum to {sizes.sum()}")
    starts: npt.NDArray[np.int64] = np.cumsum(sizes)[:-1]
    return starts


def _remarks(lines: Floats) -> list[str]:
    """What a reader should know of a series (T, D): that not all is drawn, that values are missing."""
    total, width = lines.shape
    missing = int(np.isnan(lines).any(axis=1).sum())
    remarks = {
        f"first {_MOST_TIMES:,} of {total:,} times": total > _MOST_TIMES,
        f"first {_MOST_SERIES} of {width} columns": width > _MOST_SERIES,
        f"{missing:,} of {total:,} times missing": missing > 0,
    }
    return [remark for remark, holds in remarks.items() if holds]


def _areas(axes: Axes, edges: npt.NDArray[Any], weights: Floats, names: Sequence[str]) -> None:
    """Probabilities (T, K) stacked on each other."""
    bottom = np.zeros(len(weights))
    for place, name in enumerate(names):
        top = bottom + weights[:, place]
        colour = CLASS_COLOURS[place % len(CLASS_COLOURS)]
        axes.stairs(top, edges, baseline=bottom, fill=True, color=colour, label=legend_label(name))
        bottom = top
    axes.set(ylim=(0, 1), xlim=(float(edges[0]), float(edges[-1])))
    if len(names) <= 12:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _as_marginals(value: Array, length: int, least: int) -> Floats:
    """(T, K) probabilities from such, or from a path (T,)."""
    if np.ndim(value) == 1:
        path = as_array("marginals", value, dimensions=1)
        if (path != np.round(path)).any() or path.min() < 0:
            raise ValueError("marginals should be (T, K) probabilities or a path of states 0, 1, ...")
        weights = np.eye(max(int(path.max()) + 1, least))[path.astype(np.int64)]
    else:
        weights = as_array("marginals", value, dimensions=2)
        if weights.min() < -1e-9 or np.abs(weights.sum(axis=1) - 1).max() > 1e-4:
            raise ValueError("marginals should be probabilities that sum to one at each time")
    if len(weights) != length:
        raise ValueError(f"series and marginals should be equally long, but have {length} and {len(weights)} times")
    return weights


def _series(
    axes: Axes,
    time: npt.NDArray[Any],
    lines: Floats,
    path: npt.NDArray[Any],
    names: Sequence[str],
    starts: npt.NDArray[np.int64],
) -> None:
    """The columns as lines, broken at `starts`; of a single one each time also as a dot in the colour of its state."""
    for column in range(min(lines.shape[1], _MOST_SERIES)):
        single = lines.shape[1] == 1
        label = str(names[column]) if len(names) else f"column {column}"
        colour = "#C9D3DD" if single else COLOURS[column % len(COLOURS)]
        drawn = np.insert(lines[:, column], starts, np.nan)
        seen = np.isfinite(np.pad(drawn, 1, constant_values=np.nan))
        alone = np.flatnonzero(seen[1:-1] & ~seen[:-2] & ~seen[2:]).tolist()  # no line goes through these
        axes.plot(
            np.insert(time, starts, time[starts]),
            drawn,
            color=colour,
            linewidth=1.1,
            marker="." if alone else None,
            markevery=alone or None,
            label=legend_label(label),
            zorder=1,
        )
        if single:
            colours = [CLASS_COLOURS[int(state) % len(CLASS_COLOURS)] for state in path]
            size = float(np.clip(6_000 / len(time), 3, 22))
            axes.scatter(time, lines[:, 0], s=size, color=colours, linewidths=0, zorder=2)
            axes.set_ylabel(label if len(names) else "value")
    if lines.shape[1] > 1:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
