"""Pictures of how many nats each level of a hierarchy says.

Levels are given the top first, as the generative walk goes; in words level 1 is nearest the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array
from jensen.plots._style import INK, MUTED, finish, integer_axis, new_figure, note, plain
from jensen.plots.levels import level_names, shown_levels

__all__ = ["kl_of_levels", "kl_of_levels_over_training"]

_MOST_LINES = 10  # that a legend can name


def kl_of_levels(kl: Array, active: Array, latents: Sequence[int], *, title: str = "") -> Figure:
    """Bars of the KL divergence of each level in nats per example, the top level at the top, with its active units.

    Args:
        kl: (L,), the top level first.
        active: how many latents of each vary over the data, (L,).
        latents: how many each has, (L,).
        title: of the figure.

    Raises:
        ValueError: other shapes, values that are not finite, or more active latents than there are.
    """
    nats, used = as_array("kl", kl, dimensions=1), as_array("active", active, dimensions=1)
    if not len(nats) == len(used) == len(latents):
        raise ValueError(
            f"kl, active and latents should have one entry a level, but have {len(nats)}, {len(used)}, {len(latents)}"
        )
    if (used < 0).any() or (used > np.asarray(latents)).any():
        raise ValueError("active should be 0 to the number of latents of each level")
    names = level_names(len(nats))
    figure = new_figure(7.0, 0.27 * len(nats) + 1.3)
    axes = figure.add_subplot()
    total = f"{nats.sum():.1f}".replace("-", "−")
    finish(axes, title or f"KL divergence per level: {total} nats in all", "nats per example", "")
    axes.grid(False, axis="y")
    places = np.arange(len(nats))
    axes.barh(places, nats, color=_level_colours(len(nats)), height=0.72)
    for place in places.tolist():
        value = round(float(nats[place]), 2) + 0.0  # no negative zero
        words = f"{value:.2f}".replace("-", "−") + f" · {used[place]:,.0f} of {latents[place]:,} active"
        axes.annotate(
            words,
            (max(0.0, float(nats[place])), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )
    axes.set_yticks(places, names)
    axes.set_ylim(len(nats) - 0.4, -0.6)
    axes.set_xlim(min(0.0, float(nats.min())), 1.45 * max(float(nats.max()), 1e-6))  # room for the words
    return plain(figure)


def kl_of_levels_over_training(history: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """KL of each level over epochs, stacked, the top level on top: the height of all is the rate.

    Validation's columns ``valid/kl_level_1``, ... are drawn where they are, else training's; level 1 is nearest the
    data. Where the first epochs are far above the others the picture is cut, and a remark says how high they go.

    Args:
        history: columns with a number an epoch, ``epoch`` among them.
        title: of the figure.

    Raises:
        ValueError: no such columns, lengths that differ, or no epoch in which all are finite.
    """
    part = "valid" if any(name.startswith("valid/kl_level_") for name in history) else "train"
    stem = f"{part}/kl_level_"
    numbers = sorted(int(name.removeprefix(stem)) for name in history if name.startswith(stem))
    if not numbers or "epoch" not in history:
        raise ValueError(f"history should have the columns epoch and train/kl_level_1, but has {sorted(history)}")
    epoch = as_array("history['epoch']", history["epoch"], dimensions=1)
    columns = [
        as_array(f"history['{stem}{number}']", history[f"{stem}{number}"], dimensions=1, finite=False)
        for number in numbers
    ]
    if any(column.shape != epoch.shape for column in columns):
        raise ValueError(f"history's columns {stem}1, ... should have one entry an epoch ({len(epoch)})")
    nats = np.stack(columns)
    finite = np.isfinite(nats).all(0)
    if not finite.any():
        raise ValueError(f"history should have an epoch in which all columns {stem}1, ... are finite")
    epoch, nats = epoch[finite], nats[:, finite]
    title = title or f"KL of each level, {'validation' if part == 'valid' else 'training'}"
    figure = new_figure(max(7.0, 0.105 * len(title) + 0.3), 3.6)
    axes = figure.add_subplot()
    finish(axes, title, "epoch", "nats per example")
    integer_axis(axes)
    colours = _level_colours(len(numbers))[::-1]
    names = level_names(len(numbers))[::-1]
    if len(epoch) == 1:
        axes.bar(epoch, nats[:, 0], bottom=np.cumsum(nats[:, 0]) - nats[:, 0], color=colours, width=0.5, label=names)
        axes.set_xlim(epoch[0] - 1, epoch[0] + 1)
    else:
        edge = "white" if len(numbers) <= _MOST_LINES else "none"
        axes.stackplot(epoch, nats.clip(min=0.0), colors=colours, labels=names, edgecolor=edge, linewidth=0.4)
        axes.set_xlim(epoch[0], epoch[-1])
    _cut(axes, nats.clip(min=0.0).sum(0))
    _name_levels(figure, axes, colours, names)
    if dropped := int((~finite).sum()):
        note(axes, f"{dropped} epoch{'s' * (dropped > 1)} not finite")
    return plain(figure)


def _cut(axes: Axes, total: Floats) -> None:
    """Height for what comes after the first tenth of the epochs, where the beginning is more than twice as high."""
    later = float(total[len(total) // 10 :].max())
    if later > 0 and (beginning := float(total.max())) > 2 * later:
        axes.set_ylim(0, 1.15 * later)
        note(axes, f"the first epochs go up to {beginning:,.0f} nats")
    else:
        axes.set_ylim(bottom=0)


def _level_colours(count: int) -> list[str]:
    """A colour a level, the top first: dark at the top, light at the data."""
    return [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0.08, 0.78, count) if count > 1 else [0.3])]


def _name_levels(figure: Figure, axes: Axes, colours: list[str], names: list[str]) -> None:
    """A legend, the top level at the top as in the picture; for many levels a scale."""
    if len(names) <= _MOST_LINES:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1], labels[::-1], fontsize=8.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
        return
    count = len(names)
    norm = BoundaryNorm([edge + 0.5 for edge in range(count + 1)], count)
    bar = figure.colorbar(ScalarMappable(norm, ListedColormap(colours)), ax=axes, shrink=0.9)
    bar.set_ticks([place + 1 for place in shown_levels(count, 5)])
    bar.set_label(f"level (1: nearest the data, {count}: top)", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8.5, labelcolor=INK, colors=MUTED)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
