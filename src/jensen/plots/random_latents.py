"""The demonstration that a random latent point of an auto-encoder decodes to nonsense, beside a VAE."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from jensen.plots._input import Array, as_images
from jensen.plots._style import COLOURS, INK, MARKERS, finish, legend_label, new_figure, plain
from jensen.plots._tiles import draw_tiles

__all__ = ["Decoded", "LatentProbe", "random_latents"]


@dataclass(frozen=True)
class Decoded:
    """Images (B, C, H, W) decoded from one sort of latent point, and the share of them that look like data."""

    images: Array
    precision: float


@dataclass(frozen=True)
class LatentProbe:
    """What a model makes of latent points: `near` by distance from an encoded datum, `random` by kind of draw."""

    name: str
    near: Mapping[float, Decoded]
    random: Mapping[str, Decoded]


def random_latents(
    *probes: LatentProbe,
    images: int = 9,
    distance: str = "distance",
    title: str = "What a latent point decodes to: near an encoded datum, and at random",
) -> Figure:
    """One row of panels a model, its decoded points at growing distance from an encoded datum and at random.

    Under each panel stands the precision of all its images (a share, 0 to 1), of which the first `images` are drawn;
    beside them precision is drawn over distance, and as bars for the random points. All probes need the same distances
    and kinds. `distance` says in what unit distances are. Raises `ValueError` otherwise.
    """
    if not probes:
        raise ValueError("random_latents needs at least one LatentProbe, but got none")
    if images < 1:
        raise ValueError(f"images should be at least 1, but is {images}")
    distances, kinds = sorted(probes[0].near), list(probes[0].random)
    for probe in probes:
        _check(probe, distances, kinds)
    panels = len(distances) + len(kinds)
    figure = new_figure(1.25 * panels + 4.9, 1.65 * max(len(probes), 2) + 0.7)
    figure.suptitle(title + "\n", x=0.005, ha="left", fontsize=12, fontweight="bold", color=INK)
    grid = figure.add_gridspec(len(probes), panels + 1, width_ratios=[1.0] * panels + [3.8])
    for row, probe in enumerate(probes):
        _draw_row(figure, grid, row, probe, distances, kinds, images)
    last = grid[:, -1].subgridspec(1, 2, width_ratios=[max(len(distances), 4), max(1.8 * len(kinds), 1)])
    curve = figure.add_subplot(last[0, 0])
    _draw_curve(curve, probes, distances, distance)
    figure.legend(*curve.get_legend_handles_labels(), loc="upper right", ncols=4, fontsize=9.5, frameon=False)
    if kinds:
        _draw_bars(figure.add_subplot(last[0, 1], sharey=curve), probes, kinds)
    return plain(figure)


def _check(probe: LatentProbe, distances: list[float], kinds: list[str]) -> None:
    if sorted(probe.near) != distances or list(probe.random) != kinds or not distances:
        raise ValueError(
            f"probes should share distances and kinds of random points: expected {distances} (at least one) and "
            f"{kinds}, but {probe.name!r} has {sorted(probe.near)} and {list(probe.random)}"
        )
    for key, decoded in (*probe.near.items(), *probe.random.items()):
        if not 0.0 <= decoded.precision <= 1.0:
            raise ValueError(f"precision should be a share from 0 to 1, but is {decoded.precision} at {key!r}")


def _draw_row(
    figure: Figure,
    grid: GridSpec,
    row: int,
    probe: LatentProbe,
    distances: list[float],
    kinds: list[str],
    images: int,
) -> None:
    """Panels of one model: small squares of images, titled in the first row."""
    entries = [(f"{key:g}" if index else f"distance {key:g}", probe.near[key]) for index, key in enumerate(distances)]
    entries += [(kind, probe.random[kind]) for kind in kinds]
    for column, (label, decoded) in enumerate(entries):
        axes = figure.add_subplot(grid[row, column])
        tiles = as_images(f"images of {probe.name} at {label}", decoded.images)[:images]
        across = math.ceil(math.sqrt(len(tiles)))
        draw_tiles(axes, [list(tiles[start : start + across]) for start in range(0, len(tiles), across)])
        finish(axes, x=f"{decoded.precision:.2f}", y=probe.name if column == 0 else "", grid=False)
        axes.xaxis.label.set_fontweight("bold")
        axes.set_xticks([])
        axes.yaxis.label.set_fontsize(11)
        if row == 0:
            axes.set_title(label, loc="center", fontsize=9.5, color=INK, pad=5)
        for spine in axes.spines.values():
            spine.set_visible(False)


def _draw_curve(axes: Axes, probes: tuple[LatentProbe, ...], distances: list[float], unit: str) -> None:
    finish(axes, "", unit, "precision (share of images)")
    for index, probe in enumerate(probes):
        axes.plot(
            distances,
            [probe.near[key].precision for key in distances],
            color=_colour(index),
            marker=MARKERS[index % len(MARKERS)],
            linestyle=("-", "--", "-.", ":")[index % 4],
            markersize=5,
            linewidth=2,
            label=legend_label(probe.name),
        )
    axes.set_ylim(-0.03, 1.03)
    axes.set_title("near a datum", loc="left", fontsize=9.5, color=INK)


def _draw_bars(axes: Axes, probes: tuple[LatentProbe, ...], kinds: list[str]) -> None:
    finish(axes, "")
    width = 0.8 / len(probes)
    for index, probe in enumerate(probes):
        at = [place + (index - (len(probes) - 1) / 2) * width for place in range(len(kinds))]
        axes.bar(
            at,
            [probe.random[kind].precision for kind in kinds],
            width=0.92 * width,
            color=_colour(index),
            hatch=(None, "///")[index % 2],
            edgecolor="white",
            linewidth=0.5,
            label=legend_label(probe.name),
        )
    axes.set_xticks(range(len(kinds)), [textwrap.fill(kind, 9, break_long_words=False) for kind in kinds])
    axes.grid(False, axis="x")
    axes.tick_params(labelleft=False)
    axes.set_title("at random", loc="left", fontsize=9.5, color=INK)


def _colour(index: int) -> str:
    return (COLOURS[1], COLOURS[0], *COLOURS[2:])[index % len(COLOURS)]
