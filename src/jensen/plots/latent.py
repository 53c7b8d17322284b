"""Pictures of the latent space: where the codes lie, and which dimensions are used."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from jensen.plots._input import Array, Floats, as_array, as_labels
from jensen.plots._style import (
    CLASS_COLOURS,
    COLOURS,
    INK,
    MARKERS,
    MUTED,
    finish,
    integer_axis,
    legend_label,
    new_figure,
    note,
    plain,
)

__all__ = ["class_look", "kl_per_dimension", "latent_space", "short_name", "to_plane"]

_MOST_POINTS = 5_000
_MOST_CLASSES = 20
_LONGEST_NAME = 24
_APART = 0.08  # of the picture's width: two letters and their halos
_RADIUS_95 = 2.4477  # sqrt(-2 log 0.05): holds 95% of a standard normal in two dimensions


def latent_space(
    codes: Array,
    labels: Array | None = None,
    class_names: Sequence[str] = (),
    *,
    prior: bool = False,
    title: str = "Latent space",
) -> Figure:
    """Codes (N, D) as points in the plane, coloured by class (labels (N,), indices into `class_names`).

    Two dimensions are drawn as they are; more are projected onto their two principal components, whose share of the
    codes' variance stands on the axes; one is drawn as a histogram. Without labels colour shows how many points lie
    in a place. `prior` adds the circle that holds 95% of a standard normal; where it is more than four times as large
    as what 99.5% of the codes take up, they are magnified instead, and a remark says so. Names of classes stand at
    their middles where these are apart. Of more than 5,000 codes every n-th is drawn. Raises `ValueError` on other
    shapes, codes that are not finite, or labels without a name.
    """
    points = as_array("codes", codes, dimensions=2)
    classes = None if labels is None else as_labels(labels, len(points), class_names)
    total = len(points)
    points, (x, y) = to_plane(points)
    step = -(-total // _MOST_POINTS)
    points = points[::step]
    classes = None if classes is None else classes[::step]
    window = _window(points) if prior and points.shape[1] == 2 else None
    whole = prior and window is None
    figure = new_figure(6.6, 5.6 if points.shape[1] > 1 else 3.6)
    axes = figure.add_subplot()
    finish(axes, title, x, y)
    if points.shape[1] == 1:
        _histogram(axes, points[:, 0], classes, class_names)
    elif classes is None:
        _density(figure, axes, points)
    elif len(np.unique(classes)) <= _MOST_CLASSES:
        extent = max(float(np.ptp(points, axis=0).max()), 2 * _RADIUS_95 if whole else 0.0)
        _scatter_classes(axes, points, classes, class_names, extent)
    else:
        dots = axes.scatter(points[:, 0], points[:, 1], c=classes, cmap="viridis", s=_size(len(points)), linewidths=0)
        figure.colorbar(dots, ax=axes, label="class index", shrink=0.8)
    if points.shape[1] == 2:
        _frame(axes, window, circle=whole)
    remarks = [f"{len(points):,} of {total:,} codes"] if step > 1 else []
    if window is not None:
        remarks.append(f"magnified: 95% of the prior has radius {_RADIUS_95:.2f}")
    if remarks:
        note(axes, "; ".join(remarks))
    return plain(figure)


def kl_per_dimension(kl: Array, active: Array | None = None, *, threshold: float = 0.01, title: str = "") -> Figure:
    """Bars of the KL divergence of each latent dimension (D,), in nats per example, largest first.

    `active` (D,) says which dimensions the encoder uses; without it those above `threshold` nats. Active ones are
    dark, the others pale and hatched. Raises `ValueError` on other shapes or values that are not finite.
    """
    values = as_array("kl", kl, dimensions=1)
    if active is None:
        used: npt.NDArray[np.bool_] = values > threshold
        rule = f"active (KL above {threshold:g} nats)"
    else:
        used = as_array("active", active, dimensions=1) > 0.5
        rule = "active"
    if used.shape != values.shape:
        raise ValueError(f"active should have one entry a dimension ({len(values)}), but has {len(used)}")
    order = np.argsort(-values, kind="stable")
    figure = new_figure(min(10.0, max(5.5, 0.26 * len(values) + 2)), 3.4)
    axes = figure.add_subplot()
    count = int(used.sum())
    finish(
        axes,
        title or f"KL divergence per latent dimension: {count} of {len(values)} active",
        "latent dimension, largest KL first",
        "nats per example",
    )
    axes.grid(False, axis="x")
    _bars(axes, values[order], used[order], rule)
    axes.set_xlim(0.3, len(values) + 0.7)
    if len(values) <= 32:
        axes.set_xticks(range(1, len(values) + 1), [str(index) for index in order])
        axes.set_xlabel("index of the latent dimension, largest KL first")
    else:
        integer_axis(axes)
    axes.set_ylim(bottom=min(0.0, float(values.min())))
    axes.legend(fontsize=8.5, frameon=False, loc="upper right")
    return plain(figure)


def _bars(axes: Axes, values: Floats, used: npt.NDArray[np.bool_], rule: str) -> None:
    """Bars of sorted values, and a pale band behind those that are too low to be seen."""
    position = np.arange(1, len(values) + 1)
    for mask, colour, hatch, label in (
        (used, COLOURS[0], None, rule),
        (~used, "#D5DAE0", "////", "not active"),
    ):
        if mask.any():
            axes.bar(
                position[mask],
                values[mask],
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.5,
                label=f"{label}: {int(mask.sum())}",
            )
    if (unused := int((~used).sum())) and used[:-unused].all():
        axes.axvspan(len(values) - unused + 0.5, len(values) + 0.5, color="#F1F3F5", zorder=0)


def to_plane(codes: Floats) -> tuple[Floats, tuple[str, str]]:
    """Codes in at most two dimensions, and what to write on the axes."""
    if codes.shape[1] == 1:
        return codes, ("z", "codes")
    if codes.shape[1] == 2:
        return codes, ("z₁", "z₂")
    # Only the directions come from centred codes: the points keep their place relative to the prior's mean.
    centred = codes - codes.mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2] * np.sign(directions[:2].sum(axis=1, keepdims=True) + 1e-300)
    if len(directions) < 2:  # one code only
        directions = np.eye(2, codes.shape[1])
    share = lengths**2 / max(float((lengths**2).sum()), 1e-300)
    first, second = (float(share[i]) if i < len(share) else 0.0 for i in (0, 1))
    ordinals = ("first", first), ("second", second)
    x, y = (f"{name} principal component of {codes.shape[1]} ({part:.0%} of variance)" for name, part in ordinals)
    return codes @ directions.T, (x, y)


def _frame(axes: Axes, window: tuple[tuple[float, float], tuple[float, float]] | None, *, circle: bool) -> None:
    """Equal units on both axes, within a window if there is one, and the circle of the prior."""
    if window is None:
        axes.set_aspect("equal", adjustable="datalim")
    else:
        axes.set(xlim=window[0], ylim=window[1], aspect="equal")
    if circle:
        _prior_circle(axes)


def _window(points: Floats) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Limits of x and y around 99.5% of the codes, where the circle of the prior would leave them a speck; else None.

    Codes that are all equal have no size to magnify.
    """
    low, high = np.quantile(points, [0.0025, 0.9975], axis=0)
    span = float((high - low).max())
    if not 0 < 4 * span < 2 * _RADIUS_95:
        return None
    x, y = (low + high) / 2
    reach = 0.56 * span
    return (float(x) - reach, float(x) + reach), (float(y) - reach, float(y) + reach)


def _size(count: int) -> float:
    """Area of a marker: smaller where there are more."""
    return float(np.clip(14_000 / count, 6, 36))


def class_look(index: int) -> tuple[str, str]:
    """Colour and marker of a class: unlike in colour up to ten, in colour and shape above."""
    return CLASS_COLOURS[index % len(CLASS_COLOURS)], MARKERS[index // len(CLASS_COLOURS)]


def short_name(index: int, class_names: Sequence[str]) -> str:
    """The name of a class, cut where it is long; without names its index."""
    name = str(class_names[index]) if len(class_names) else str(index)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _scatter_classes(
    axes: Axes, points: Floats, classes: npt.NDArray[np.int64], class_names: Sequence[str], extent: float
) -> None:
    """One scatter a class, with its name at its middle: the reader need not match colours alone.

    Names are left to the legend where middles are closer than letters, given the width `extent` of the picture.
    """
    present = np.unique(classes)
    for look, index in enumerate(present):
        chosen = points[classes == index]
        colour, marker = class_look(look)
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=_size(len(points)),
            color=colour,
            marker=marker,
            alpha=0.65,
            linewidths=0,
            label=legend_label(short_name(index, class_names)),
        )
    middles = {index: np.median(points[classes == index], axis=0) for index in present}
    nearest = min((float(np.linalg.norm(a - b)) for a, b in combinations(middles.values(), 2)), default=extent)
    longest = max(len(short_name(index, class_names)) for index in present)
    crowded = nearest < _APART * extent
    if len(points) < 15 * len(present) or len(present) > 10 or longest > 12 or crowded:  # names would hide the points
        present = present[:0]
    for look, index in enumerate(present):
        middle = middles[index]
        axes.annotate(
            short_name(index, class_names),
            (float(middle[0]), float(middle[1])),
            ha="center",
            va="center",
            fontsize=11,
            fontweight="bold",
            color=class_look(look)[0],
            path_effects=[withStroke(linewidth=3.5, foreground="white")],
        )
    legend = axes.legend(
        fontsize=8.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), title="class", markerscale=1.6
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)


def _density(figure: Figure, axes: Axes, points: Floats) -> None:
    """Hexagons coloured by how many points they hold."""
    cells = axes.hexbin(
        points[:, 0],
        points[:, 1],
        gridsize=int(np.clip(np.sqrt(len(points)), 8, 45)),
        mincnt=1,
        cmap="viridis",
        linewidths=0.1,
    )
    bar = figure.colorbar(cells, ax=axes, shrink=0.8)
    bar.set_label("codes in a cell", fontsize=9.5, color=INK)
    bar.ax.tick_params(labelsize=8.5, labelcolor=INK)
    bar.outline.set_visible(False)


def _histogram(axes: Axes, values: Floats, classes: npt.NDArray[np.int64] | None, class_names: Sequence[str]) -> None:
    """One latent dimension: stacked bars, one colour a class."""
    if classes is None or len(np.unique(classes)) > _MOST_CLASSES:
        axes.hist(values, bins=40, color=COLOURS[0])
        return
    present = np.unique(classes)
    axes.hist(
        [values[classes == index] for index in present],
        bins=40,
        stacked=True,
        color=[class_look(look)[0] for look in range(len(present))],
        label=[legend_label(short_name(index, class_names)) for index in present],
    )
    axes.legend(fontsize=8.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), title="class")


def _prior_circle(axes: Axes) -> None:
    axes.add_patch(Circle((0.0, 0.0), _RADIUS_95, fill=False, edgecolor=MUTED, linestyle="--", linewidth=1.2))
    axes.annotate(
        "95% of the prior",
        (0.0, -_RADIUS_95),
        xytext=(0, -3),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
        color=MUTED,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )
    reach = _RADIUS_95 * 1.15
    axes.update_datalim([(-reach, -reach), (reach, reach)])
    axes.autoscale_view()
