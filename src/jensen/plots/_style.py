"""One look for every picture: colours that colour-blind readers can tell apart, quiet axes, no global state."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator

__all__ = [
    "CLASS_COLOURS",
    "COLOURS",
    "INK",
    "MARKERS",
    "MUTED",
    "finish",
    "integer_axis",
    "legend_label",
    "log_axis",
    "new_figure",
    "note",
    "plain",
]

# Okabe & Ito (2008), without black (the ink) and with its yellow darkened: the original fades on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5B4B9A", "#B5A100")
CLASS_COLOURS = (*COLOURS, "#22262B", "#9AA0A6")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#22262B"
MUTED = "#6B7280"
_GRID = "#E3E6EA"


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of `width` x `height` inches with constrained layout."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr, call-arg]
    return figure


def finish(axes: Axes, title: str = "", x: str = "", y: str = "", *, grid: bool = True) -> None:
    """Title, axis labels, light grid and open frame."""
    axes.set_facecolor("white")
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold", pad=8)
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.tick_params(labelsize=8.5, colors=MUTED, labelcolor=INK, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, color=_GRID, linewidth=0.8)


def integer_axis(axes: Axes) -> None:
    """Whole numbers only on the x axis (epochs, dimensions)."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))


def log_axis(axes: Axes, which: Literal["x", "y", "both"] = "y") -> None:
    """Logarithmic, with the numbers as plain text: `plain` leaves no formulas."""
    for axis in (axes.xaxis, axes.yaxis) if which == "both" else (axes.xaxis if which == "x" else axes.yaxis,):
        (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))  # where less than a decade is seen


def note(axes: Axes, text: str) -> None:
    """A small remark under the axes' right end."""
    axes.annotate(
        text,
        xy=(1.0, 1.0),
        xycoords="axes fraction",
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8,
        color=MUTED,
    )


def legend_label(name: str) -> str:
    """A name that stands in a legend even if it begins with an underscore, which matplotlib would hide."""
    return f" {name}" if name.startswith("_") else name


def plain(figure: Figure) -> Figure:
    """The same figure with dollar signs in names as they are, not as the start of a formula."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
    return figure
