"""What independence of the latents costs in reconstruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from jensen.plots._input import Array, Floats, as_array, same_shape
from jensen.plots._style import COLOURS, INK, MARKERS, finish, legend_label, new_figure, note, plain

__all__ = ["TradeOff", "tradeoff"]

_STYLES = ("-", "--", "-.", ":")


class TradeOff(NamedTuple):
    """One method, trained with several weights."""

    total_correlation: Array
    """KL(q(z) || product of q(z_d)) of each model in nats, (P,)"""
    distortion: Array
    """-E log p(x | z) of each model in nats, (P,)"""
    labels: Sequence[str] = ()
    """what stands beside each point, e.g. the weight"""
    total_correlation_error: Array | None = None
    """standard errors (P,) or half widths of an interval, drawn as bars"""
    distortion_error: Array | None = None


def tradeoff(
    methods: Mapping[str, TradeOff],
    *,
    title: str = "Reconstruction against total correlation",
    x: str = "total correlation of the latents, nats",
    y: str = "distortion −E log p(x | z), nats",
) -> Figure:
    """Distortion against total correlation, a line a method, its points joined in the order given.

    Towards the lower left is better: independent latents and a good reconstruction. Methods differ in marker and line
    as well as in colour.

    Raises:
        ValueError: no method, or lengths that do not fit.
    """
    if not methods:
        raise ValueError("tradeoff needs at least one method, but got none")
    figure = new_figure(6.4, 4.6)
    axes = figure.add_subplot()
    finish(axes, title, x, y)
    for place, (name, method) in enumerate(methods.items()):
        _draw(axes, place, name, method)
    axes.margins(0.09)
    note(axes, "lower left is better")
    axes.legend(fontsize=8.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return plain(figure)


def _draw(axes: Axes, place: int, name: str, method: TradeOff) -> None:
    across = as_array(f"total correlation of {name!r}", method.total_correlation, dimensions=1)
    up = as_array(f"distortion of {name!r}", method.distortion, dimensions=1)
    same_shape(f"total correlation of {name!r}", across, "its distortion", up)
    if len(method.labels) not in (0, len(across)):
        raise ValueError(f"labels of {name!r} should be {len(across)}, but are {len(method.labels)}")
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    axes.errorbar(
        across,
        up,
        xerr=_errors(name, method.total_correlation_error, across),
        yerr=_errors(name, method.distortion_error, up),
        fmt=marker,
        linestyle=_STYLES[place % len(_STYLES)],
        color=colour,
        linewidth=1.5,
        elinewidth=1,
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=legend_label(name),
    )
    for label, at in zip(method.labels, zip(across, up, strict=True), strict=False):
        axes.annotate(
            label,
            at,
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _errors(name: str, given: Array | None, points: Floats) -> Floats | None:
    if given is None:
        return None
    errors = as_array(f"errors of {name!r}", given, dimensions=1)
    same_shape(f"points of {name!r}", points, "their errors", errors)
    return errors
