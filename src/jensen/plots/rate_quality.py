"""Rate against quality: how well images are kept in how many bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from jensen.plots._input import Array, as_array, same_shape
from jensen.plots._style import COLOURS, INK, MARKERS, finish, legend_label, log_axis, new_figure, note, plain

__all__ = ["RateQuality", "rate_quality"]

_STYLES = ("-", "--", "-.", ":")


class RateQuality(NamedTuple):
    """One way to keep images, at several rates."""

    rate: Array
    """bits a pixel, (P,), above 0"""
    psnr: Array
    """dB, (P,)"""
    ssim: Array | None = None
    """(P,)"""
    labels: Sequence[str] = ()
    """what stands beside each point, e.g. the bits of a number"""


def rate_quality(methods: Mapping[str, RateQuality], *, title: str = "Quality against bytes") -> Figure:
    """PSNR against bits a pixel (logarithmic), a line a method, and SSIM beside it where every method has it.

    Towards the upper left is better. Methods differ in marker and line as well as in colour.

    Raises:
        ValueError: no method, rates that are not positive, or lengths that do not fit.
    """
    if not methods:
        raise ValueError("rate_quality needs at least one method, but got none")
    alike = all(method.ssim is not None for method in methods.values())
    figure = new_figure(9.6 if alike else 6.4, 4.2)
    panels = figure.subplots(1, 2 if alike else 1, squeeze=False)[0]
    for which, axes in zip(("psnr", "ssim"), panels, strict=False):
        words = "PSNR, dB" if which == "psnr" else "structural similarity"
        finish(axes, title if which == "psnr" else "", "bits a pixel", words)
        log_axis(axes, "x")
        for place, (name, method) in enumerate(methods.items()):
            _draw(axes, place, name, method, which)
        axes.margins(0.09)
    note(panels[-1], "upper left is better")
    panels[-1].legend(fontsize=8.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return plain(figure)


def _draw(axes: Axes, place: int, name: str, method: RateQuality, which: str) -> None:
    across = as_array(f"rate of {name!r}", method.rate, dimensions=1)
    up = as_array(f"{which} of {name!r}", getattr(method, which), dimensions=1)
    same_shape(f"rate of {name!r}", across, f"its {which}", up)
    if across.min() <= 0:
        raise ValueError(f"rate of {name!r} should be above 0, but {across.min():g} is not")
    if len(method.labels) not in (0, len(across)):
        raise ValueError(f"labels of {name!r} should be {len(across)}, but are {len(method.labels)}")
    axes.plot(
        across,
        up,
        marker=MARKERS[place % len(MARKERS)],
        linestyle=_STYLES[place % len(_STYLES)],
        color=COLOURS[place % len(COLOURS)],
        linewidth=1.5,
        markersize=6,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=legend_label(name),
    )
    for label, at in zip(method.labels if which == "psnr" else (), zip(across, up, strict=True), strict=False):
        axes.annotate(
            label,
            at,
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=INK,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
