"""Pictures of a hierarchy of latents: where the codes of each level lie, and what each carries.

Everything of levels is given the top level first, as the generative walk goes; in words level 1 is nearest the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jensen.plots._input import Array, Floats, as_array, as_images, as_labels, same_shape
from jensen.plots._style import COLOURS, INK, finish, integer_axis, legend_label, new_figure, note, plain
from jensen.plots._tiles import Frame, tile_figure
from jensen.plots.latent import class_look, short_name, to_plane

__all__ = [
    "drawn_below",
    "explained_by_top",
    "latent_levels",
    "level_names",
    "shown_levels",
    "top_levels",
    "top_levels_of_signals",
]

_MOST_PANELS = 6
_MOST_LINES = 10  # that a legend can name
_MOST_POINTS = 2_000  # a panel
_MOST_CLASSES = 20
_LEAST_REACH = 0.02  # from the middle of a panel to its edge


def level_names(count: int) -> list[str]:
    """Names of that many levels, the top first: level 1 is nearest the data."""
    names = [f"level {number}" for number in range(count, 0, -1)]
    if count > 1:
        names[0] += " (top)"
    return names


def shown_levels(count: int, most: int) -> list[int]:
    """Places of at most `most` of so many levels, evenly apart, the first and the last among them."""
    if count < 1 or most < 2:
        raise ValueError(f"count should be at least 1 and most at least 2, but are {count} and {most}")
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def latent_levels(
    codes: Sequence[Array],
    labels: Array | None = None,
    class_names: Sequence[str] = (),
    *,
    most: int = _MOST_PANELS,
    title: str = "",
) -> Figure:
    """Codes of each level as points in the plane, a panel a level, coloured by class.

    More than two numbers a code are projected onto their two principal components; the share of the variance that
    these hold stands on the axes. The figure is that of the Ladder VAE's paper (Sønderby et al. 2016): a level
    that says nothing of the class is a cloud in which classes lie over each other.

    Args:
        codes: of each level, the top first, (N, ...).
        labels: class of each datum, (N,), indices into `class_names`.
        class_names: of all classes.
        most: panels; of more levels some are chosen, evenly apart, and the title says so.
        title: of the figure.

    Raises:
        ValueError: no levels, numbers of codes that differ, codes that are not finite, or labels without a name.
    """
    if not len(codes):
        raise ValueError("codes should hold at least one level, but is empty")
    names = level_names(len(codes))
    chosen = shown_levels(len(codes), most)
    points = {place: _flat(f"codes of {names[place]}", codes[place]) for place in chosen}
    if len(sizes := {len(each) for each in points.values()}) > 1:
        raise ValueError(f"codes should be of as many data at each level, but are of {sorted(sizes)}")
    classes = None if labels is None else as_labels(labels, len(points[0]), class_names)
    step = -(-len(points[0]) // _MOST_POINTS)
    across = min(3, len(chosen)) if len(chosen) != 4 else 2
    down = math.ceil(len(chosen) / across)
    present = [] if classes is None else np.unique(classes).tolist()
    title = (title or "Codes, level by level") + ("" if len(chosen) == len(codes) else _some(len(chosen), len(codes)))
    figure = new_figure(max(3.1 * across + 1.2 * bool(present), 0.105 * len(title) + 0.3), 3.3 * down + 0.7)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    for panel, place in enumerate(chosen):
        axes = figure.add_subplot(down, across, panel + 1)
        axes.set_box_aspect(1)
        _scatter(axes, points[place], classes, present, names[place], step)
    if 0 < len(present) <= _MOST_CLASSES:
        _name_classes(figure, [short_name(index, class_names) for index in present])
    return plain(figure)


def _name_classes(figure: Figure, names: list[str]) -> None:
    looks = (class_look(look) for look in range(len(names)))
    figure.legend(
        [Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6) for colour, marker in looks],
        [legend_label(name) for name in names],
        loc="outside right center",
        fontsize=8.5,
        frameon=False,
        title="class",
    )


def _flat(name: str, values: Array) -> Floats:
    """(N, ...) as (N, D)."""
    array = values.detach().cpu() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim < 2:
        raise ValueError(f"{name} should have at least two dimensions, (N, ...), but has shape {tuple(array.shape)}")
    return as_array(name, array.reshape(len(array), -1), dimensions=2)


def _some(shown: int, total: int) -> str:
    return f" ({shown} of {total} levels)"


def _scatter(
    axes: Axes, codes: Floats, classes: npt.NDArray[np.int64] | None, present: list[int], name: str, step: int
) -> None:
    """One level: a scatter, or a histogram where a code is one number."""
    latents = codes.shape[1]
    points, words = to_plane(codes)
    finish(axes, name, *(("z", "codes") if latents == 1 else _shares(words)))
    axes.tick_params(labelsize=7.5)
    axes.xaxis.label.set_fontsize(8.5)
    axes.yaxis.label.set_fontsize(8.5)
    note(axes, f"{latents:,} latent{'s' * (latents > 1)}")
    many = len(present) > _MOST_CLASSES
    if latents == 1:
        parts = [points[:, 0]] if classes is None or many else [points[classes == index, 0] for index in present]
        colours = [COLOURS[0]] if classes is None or many else [class_look(look)[0] for look in range(len(parts))]
        axes.hist(parts, bins=30, stacked=True, color=colours)
        return
    points = points[::step]
    size = float(np.clip(6_000 / len(points), 4, 24))
    if classes is None:
        axes.scatter(points[:, 0], points[:, 1], color=COLOURS[0], s=size, alpha=0.5, linewidths=0)
    elif many:
        axes.scatter(points[:, 0], points[:, 1], c=classes[::step], cmap="viridis", s=size, alpha=0.5, linewidths=0)
    else:
        for look, index in enumerate(present):
            own = points[classes[::step] == index]
            colour, marker = class_look(look)
            axes.scatter(own[:, 0], own[:, 1], s=size, color=colour, marker=marker, alpha=0.65, linewidths=0)
    _square(axes, points)


def _square(axes: Axes, points: Floats) -> None:
    """Equal units on both axes; what hardly varies is not blown up to the panel's size."""
    low, high = points.min(axis=0), points.max(axis=0)
    reach = max(0.55 * float((high - low).max()), _LEAST_REACH)
    middle = (low + high) / 2
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5))
        axis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]


def _shares(words: tuple[str, str]) -> tuple[str, str]:
    """Short words for the axes: "first component (63% of variance)"."""
    shares = [text.rpartition("(")[2] if "(" in text else "" for text in words]
    if shares[0].startswith("0%"):  # nothing varies
        return "first component", "second component"
    short = zip(("first", "second"), shares, words, strict=True)
    first, second = (f"{which} component ({share}" if share else word for which, share, word in short)
    return first, second


def top_levels(originals: Array, made: Mapping[str, Array], *, title: str = "") -> Figure:
    """A row for each image: the original, framed, then what is decoded from its top 1, 2, ... levels.

    Args:
        originals: (B, C, H, W).
        made: images (B, C, H, W) by what is kept, e.g. "top 1", from left to right.
        title: of the figure.

    Raises:
        ValueError: nothing was made, or shapes differ.
    """
    if not made:
        raise ValueError("made should hold images of at least one number of levels, but is empty")
    clean = as_images("originals", originals)
    columns = {"original": clean, **{name: as_images(f"made {name}", images) for name, images in made.items()}}
    for name, images in columns.items():
        same_shape("originals", clean, f"made {name}", images)
    rows: list[list[Floats | None]] = [[images[row] for images in columns.values()] for row in range(len(clean))]
    frames = [Frame(row, 0, COLOURS[1]) for row in range(len(clean))]
    return tile_figure(rows, title=title or "What each level carries", column_labels=list(columns), frames=frames)


def drawn_below(originals: Array, drawn: Mapping[str, Array], *, title: str = "") -> Figure:
    """Images that share their top levels with an original and draw those below, a block of rows an original.

    Args:
        originals: (B, C, H, W), framed at the left of each row of their block.
        drawn: (n, B, C, H, W) by what is shared, e.g. "top 2", a row each.
        title: of the figure.

    Raises:
        ValueError: nothing was drawn, or shapes differ.
    """
    if not drawn:
        raise ValueError("drawn should hold images of at least one number of levels, but is empty")
    clean = as_images("originals", originals)
    made = {
        name: [as_images(f"drawn {name}", one) for one in as_array(f"drawn {name}", images, dimensions=5)]
        for name, images in drawn.items()
    }
    for name, every in made.items():
        same_shape("originals", clean, f"each draw of {name}", every[0])
    rows: list[list[Floats | None]] = [
        [clean[place], *(one[place] for one in every)] for place in range(len(clean)) for every in made.values()
    ]
    frames = [Frame(row, 0, COLOURS[1]) for row in range(len(rows))]
    return tile_figure(
        rows,
        title=title or "Images that share their top levels",
        row_labels=[*made] * len(clean),
        column_labels=["original", *[""] * (max(map(len, rows)) - 1)],
        block=len(made),
        frames=frames,
    )


def top_levels_of_signals(originals: Array, made: Mapping[str, Array], *, title: str = "") -> Figure:
    """`top_levels` of signals: a row each, a column a number of levels, what is decoded over the original.

    Args:
        originals: (B, C, L), in any unit; of several channels the first is drawn.
        made: (B, C, L) by what is kept.
        title: of the figure.

    Raises:
        ValueError: nothing was made, or shapes differ.
    """
    if not made:
        raise ValueError("made should hold signals of at least one number of levels, but is empty")
    clean = as_array("originals", originals, dimensions=3)
    columns = {name: as_array(f"made {name}", values, dimensions=3) for name, values in made.items()}
    for name, values in columns.items():
        same_shape("originals", clean, f"made {name}", values)
    title = (title or "What each level carries") + ("" if clean.shape[1] == 1 else " (first channel)")
    width = max(1.7 * len(columns) + 0.6, 4.2, 0.105 * len(title) + 0.3)
    figure = new_figure(width, 0.75 * len(clean) + 1.2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    panels = figure.subplots(len(clean), len(columns), squeeze=False, sharex=True, sharey=True)
    marker = "o" if clean.shape[2] == 1 else ""  # one value is no line
    for (row, column), axes in np.ndenumerate(panels):
        name = list(columns)[column]
        finish(axes, "", "place" if row == len(clean) - 1 else "")
        axes.tick_params(labelsize=7.5, labelbottom=row == len(clean) - 1, labelleft=column == 0)
        axes.locator_params(axis="y", nbins=2)
        axes.locator_params(axis="x", nbins=3)
        if row == 0:
            axes.set_title(name, loc="left", fontsize=9, color=INK)
        axes.plot(clean[row, 0], color="#9AA6B2", linewidth=2.2, marker=marker, label="original")
        axes.plot(columns[name][row, 0], color=COLOURS[1], linewidth=1.2, marker=marker, label="decoded")
    lines, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower left", ncols=2, fontsize=8.5, frameon=False)
    return plain(figure)


def explained_by_top(
    scores: Array, names: Sequence[str] = (), *, kept: Sequence[int] = (), unit: str = "R²", title: str = ""
) -> Figure:
    """How much of each column is restored from the top levels alone: a line a column, and their mean.

    Args:
        scores: (K, columns), at most 1, e.g. R², the share of a column's variance that is explained.
        names: of columns; named are at most ten.
        kept: how many top levels each row of scores had, (K,), rising; empty: 0, 1, ..., K - 1.
        unit: what a score is.
        title: of the figure.

    Raises:
        ValueError: numbers of names or of rows do not fit, or scores are not finite.
    """
    values = as_array("scores", scores, dimensions=2)
    at = list(kept) if len(kept) else list(range(len(values)))
    if len(at) != len(values):
        raise ValueError(f"kept should have one entry a row of scores ({len(values)}), but has {len(at)}")
    columns = values.shape[1]
    if len(names) not in (0, columns):
        raise ValueError(f"names should have one entry a column ({columns}), but has {len(names)}")
    title = title or "What the top levels restore"
    figure = new_figure(max(6.4, 0.105 * len(title) + 0.3), 3.6)
    axes = figure.add_subplot()
    finish(axes, title, "top levels that are kept, the others from the prior's mean", unit)
    named = 1 < columns <= _MOST_LINES
    for column in range(columns if columns > 1 else 0):
        colour = COLOURS[column % len(COLOURS)] if named else "#C9D3DD"
        name = str(names[column]) if len(names) else f"column {column}"
        style = ("-", "--", "-.", ":")[column // len(COLOURS) % 4]
        axes.plot(at, values[:, column], style, color=colour, linewidth=1.2, label=legend_label(name) if named else "")
    label = "mean over columns" if columns > 1 else ""
    axes.plot(at, values.mean(1), color=INK, linewidth=2.4, marker="o", markersize=4.5, label=label)
    axes.set_ylim(min(-0.03, 1.05 * float(values.min())), max(1.03, float(values.max())))
    integer_axis(axes)
    if columns > 1:
        axes.legend(fontsize=8.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return plain(figure)
