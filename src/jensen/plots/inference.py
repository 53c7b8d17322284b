"""Pictures of inference: how the bound rose, where the components lie, what is known of each number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

from jensen.plots._input import Array, Floats, as_array, as_labels, same_shape
from jensen.plots._style import (
    CLASS_COLOURS,
    COLOURS,
    INK,
    MUTED,
    finish,
    integer_axis,
    legend_label,
    log_axis,
    new_figure,
    note,
    plain,
)

__all__ = ["elbo_curve", "ellipses", "intervals", "relevance", "topics"]

_MOST_POINTS = 5_000
_MOST_TOPICS = 20
_MOST_INTERVALS = 40
_MOST_BARS = 60
_STYLES = ("-", "--", "-.", ":")
_SHARES = (0.5, 0.95)  # of a component's mass inside its two ellipses


def elbo_curve(
    trace: Array | Mapping[str, Array],
    *,
    gap: bool = True,
    reference: float | None = None,
    title: str = "ELBO (higher is better)",
    x: str = "sweep",
    unit: str = "nats",
) -> Figure:
    """The ELBO after every sweep, of one inference or of several by name.

    A second panel shows on a logarithmic scale how far each value is below the best one of all, or below `reference`
    (a known evidence): where that falls by a straight line, convergence is linear. It is left out with `gap` False
    (a noisy trace), and where fewer than four values or no distance are there. Raises `ValueError` for an empty trace
    or values that are not finite.
    """
    named = dict(trace) if isinstance(trace, Mapping) else {"": trace}
    if not named:
        raise ValueError("trace should be ELBO values or some by name, but is empty")
    values = {name: as_array(f"trace {name!r}" if name else "trace", one, dimensions=1) for name, one in named.items()}
    top = max(float(one.max()) for one in values.values()) if reference is None else reference
    distances = {name: _below(top, one) for name, one in values.items()}
    two = gap and max(map(len, values.values())) > 3 and any((one > 0).any() for one in distances.values())
    figure = new_figure(8.6 if two else 5.6, 3.4)
    axes = figure.add_subplot(1, 2 if two else 1, 1)
    finish(axes, title, x, unit)
    _lines(axes, values)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}".replace("-", "−"))
    if reference is not None:
        axes.axhline(reference, color=MUTED, linestyle=":", linewidth=1.2, label=f"reference {reference:,.2f}")
    if any(named) or reference is not None:
        axes.legend(fontsize=8.5, frameon=False)
    if two:
        below = figure.add_subplot(1, 2, 2)
        finish(below, "Distance to the best" if reference is None else "Distance to the reference", x, unit)
        log_axis(below)
        _lines(below, {name: np.where(one > 0, one, np.nan) for name, one in distances.items()})
    return plain(figure)


def _below(top: float, values: Floats) -> Floats:
    """How far below `top`; what rounding alone makes counts as none."""
    distance = top - values
    return np.asarray(np.where(distance > 1e-13 * abs(top), distance, 0.0), dtype=np.float64)


def _lines(axes: Axes, named: Mapping[str, Floats]) -> None:
    for index, (name, values) in enumerate(named.items()):
        axes.plot(
            np.arange(1, len(values) + 1),
            values,
            _STYLES[index % len(_STYLES)],
            color=COLOURS[index % len(COLOURS)],
            linewidth=1.8,
            marker="o" if len(values) <= 25 else None,
            markersize=3.5,
            label=legend_label(name),
        )
    integer_axis(axes)


def ellipses(
    points: Array,
    means: Array,
    covariances: Array,
    weights: Array | None = None,
    labels: Array | None = None,
    *,
    columns: tuple[int, int] | None = None,
    names: Sequence[str] = (),
    least: float = 1e-3,
    title: str = "Components",
) -> Figure:
    """Gaussian components over points: for each the ellipses that hold 50% and 95% of its mass.

    Of more than two dimensions the two `columns` are drawn, or without them the plane of the points' first two
    principal components (a component's marginal there is exact); one dimension is a histogram under the densities.
    Of more than 5,000 points every n-th is drawn.

    Args:
        points: (N, D).
        means, covariances: (K, D) and (K, D, D), the latter symmetric and positive definite.
        weights: (K,); the thicker the line the larger, and components below `least` are left out. Equal by default.
        labels: (N,), the component that each point is coloured as.
        columns: two places among the D.
        names: one a column, for the axes.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a column that is not there.
    """
    data, centres, spreads, shares = _checked(points, means, covariances, weights)
    classes = None if labels is None else as_labels(labels, len(data), ())
    count, size = centres.shape
    if len(names) and len(names) != size:
        raise ValueError(f"names should have one entry a column ({size}), but has {len(names)}")
    shown = np.flatnonzero(shares >= least)
    axes_names, plane = _plane(data, columns, names)
    data, centres = data @ plane, centres @ plane
    spreads = plane.T @ spreads @ plane
    step = -(-len(data) // _MOST_POINTS)
    figure = new_figure(6.6, 5.0 if size > 1 else 3.6)
    axes = figure.add_subplot()
    finish(axes, title, *axes_names)
    if size == 1:
        _densities(axes, data[:, 0], centres[:, 0], spreads[:, 0, 0], shares, shown)
    else:
        _scatter(axes, data[::step], None if classes is None else classes[::step])
        for place in shown:
            _rings(axes, centres[place], spreads[place], float(shares[place] / shares.max()), int(place))
        axes.autoscale_view()
    note(axes, f"{len(shown)} of {count} components" if len(shown) < count else f"{count} components")
    return plain(figure)


def _checked(
    points: Array, means: Array, covariances: Array, weights: Array | None
) -> tuple[Floats, Floats, Floats, Floats]:
    """Points, means, covariances and weights as arrays that fit together."""
    data, centres = as_array("points", points, dimensions=2), as_array("means", means, dimensions=2)
    spreads = as_array("covariances", covariances, dimensions=3)
    count, size = centres.shape
    if data.shape[1] != size or spreads.shape != (count, size, size):
        raise ValueError(
            f"points (N, D), means (K, D) and covariances (K, D, D) should agree, but have shapes {data.shape}, "
            f"{centres.shape} and {spreads.shape}"
        )
    shares = np.full(count, 1 / count) if weights is None else as_array("weights", weights, dimensions=1)
    if shares.shape != (count,):
        raise ValueError(f"weights should have one entry a component ({count}), but there are {len(shares)}")
    return data, centres, spreads, shares


def _plane(data: Floats, columns: tuple[int, int] | None, names: Sequence[str]) -> tuple[tuple[str, str], Floats]:
    """What stands on the axes, and the (D, 2) projection (D = 1: the identity)."""
    size = data.shape[1]
    called = [str(name) for name in names] or [f"column {place}" for place in range(size)]
    if columns is not None and not (len(set(columns)) == 2 and all(0 <= place < size for place in columns)):
        raise ValueError(f"columns should be two different places below {size}, but are {columns}")
    if size == 1:
        return (called[0], "density"), np.ones((1, 1))
    if columns is not None or size == 2:
        first, second = columns or (0, 1)
        return (called[first], called[second]), np.eye(size)[:, [first, second]]
    _, lengths, directions = np.linalg.svd(data - data.mean(axis=0), full_matrices=False)
    directions = directions[:2] if len(directions) > 1 else np.eye(2, size)
    parts = lengths**2 / max(float((lengths**2).sum()), 1e-300)
    x, y = (
        f"{word} principal component of {size} columns ({parts[i] if i < len(parts) else 0:.0%} of variance)"
        for i, word in enumerate(("first", "second"))
    )
    return (x, y), directions.T


def _scatter(axes: Axes, points: Floats, classes: npt.NDArray[np.int64] | None) -> None:
    colours = MUTED if classes is None else [CLASS_COLOURS[label % len(CLASS_COLOURS)] for label in classes]
    size = float(np.clip(14_000 / len(points), 5, 30))
    axes.scatter(points[:, 0], points[:, 1], s=size, color=colours, alpha=0.5, linewidths=0, zorder=1)


def _rings(axes: Axes, centre: Floats, covariance: Floats, share: float, place: int) -> None:
    """The two ellipses of a component and its number; `share` in [0, 1] is how thick they are."""
    variances, directions = np.linalg.eigh(covariance)
    angle = math.degrees(math.atan2(directions[1, 1], directions[0, 1]))
    colour = CLASS_COLOURS[place % len(CLASS_COLOURS)]
    for inside in _SHARES:
        radius = math.sqrt(-2 * math.log(1 - inside))
        height, width = (2 * radius * np.sqrt(np.maximum(variances, 0))).tolist()
        ring = Ellipse((float(centre[0]), float(centre[1])), width, height, angle=angle, fill=False, edgecolor=colour)
        ring.set(linewidth=0.8 + 1.6 * share, linestyle="-" if inside == _SHARES[0] else "--", zorder=3)
        axes.add_patch(ring)
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    where = (float(centre[0]), float(centre[1]))
    axes.annotate(
        str(place), where, ha="center", va="center", fontsize=10, fontweight="bold", color=colour, bbox=box, zorder=4
    )


def _densities(
    axes: Axes, data: Floats, means: Floats, variances: Floats, weights: Floats, shown: npt.NDArray[np.int64]
) -> None:
    """One dimension: the points as a histogram, each weighted density, and their sum."""
    axes.hist(data, bins=min(60, max(10, round(math.sqrt(len(data))))), density=True, color="#C9D3DD")
    reach = 3 * np.sqrt(variances[shown]) if len(shown) else np.zeros(1)
    centres = means[shown] if len(shown) else data.mean(keepdims=True)
    low, high = min(data.min(), (centres - reach).min()), max(data.max(), (centres + reach).max())
    grid = np.linspace(low, high, 600)
    total = np.zeros_like(grid)
    for place in shown:
        density = np.exp(-0.5 * (grid - means[place]) ** 2 / variances[place]) / np.sqrt(2 * np.pi * variances[place])
        total += weights[place] * density
        colour = CLASS_COLOURS[place % len(CLASS_COLOURS)]
        axes.plot(grid, weights[place] * density, color=colour, linewidth=1.8, label=f"component {place}")
    if len(shown) > 1:
        axes.plot(grid, total, color=INK, linewidth=1.2, linestyle="--", label="all")
    if len(shown) and len(shown) <= 10:
        axes.legend(fontsize=8.5, frameon=False)


def topics(
    words: Sequence[Sequence[str]],
    weights: Sequence[Array] | Array,
    *,
    shares: Array | None = None,
    title: str = "Topics by their words",
    what: str = "topic",
) -> Figure:
    """The top words of each topic, a bar a word as long as its probability in the topic, a panel a topic.

    Args:
        words: of each of K topics its words, the most probable first.
        weights: as many numbers for each, not negative.
        shares: (K,) how much of the corpus each topic makes up; the panels then come largest first.
        what: word before a topic's number.

    Of more than 20 topics the first 20 (by share where given) are drawn. Raises `ValueError` where these do not fit.
    """
    if not len(words) or len(words) != len(weights):
        raise ValueError(f"words and weights should have one entry a topic, but have {len(words)} and {len(weights)}")
    bars = [as_array(f"weights[{place}]", one, dimensions=1) for place, one in enumerate(weights)]
    for place, (row, numbers) in enumerate(zip(words, bars, strict=True)):
        if len(row) != len(numbers) or (numbers < 0).any():
            raise ValueError(
                f"topic {place} should have one weight >= 0 a word, but has {len(row)} words and {len(numbers)} "
                f"weights from {numbers.min():g}"
            )
    parts = None if shares is None else as_array("shares", shares, dimensions=1)
    if parts is not None and len(parts) != len(bars):
        raise ValueError(f"shares should have one entry a topic ({len(bars)}), but has {len(parts)}")
    order = list(range(len(bars))) if parts is None else np.argsort(-parts, kind="stable").tolist()
    shown = order[:_MOST_TOPICS]
    across = min(5, len(shown))
    down = math.ceil(len(shown) / across)
    tallest = max(len(bars[place]) for place in shown)
    figure = new_figure(2.1 * across + 0.4, (0.19 * tallest + 0.75) * down + 0.5)
    rest = "" if len(shown) == len(order) else f" ({len(shown)} of {len(order)})"
    figure.suptitle(f"{title}{rest}", x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    for panel, place in enumerate(shown):
        share = "" if parts is None else f", {parts[place]:.1%}"
        colour = COLOURS[place % len(COLOURS)]
        axes = figure.add_subplot(down, across, panel + 1)
        _word_bars(axes, f"{what} {place}{share}", words[place], bars[place], colour)
    return plain(figure)


def _word_bars(axes: Axes, title: str, words: Sequence[str], weights: Floats, colour: str) -> None:
    """A bar a word, the first on top."""
    finish(axes, grid=False)
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    rows = np.arange(len(weights))
    axes.barh(rows, weights, height=0.75, color=colour)
    axes.set_yticks(rows, [_short(word) for word in words], fontsize=8)
    axes.set_ylim(len(weights) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=2))
    axes.tick_params(axis="x", labelsize=7)


def _short(word: str, longest: int = 18) -> str:
    return word if len(word) <= longest else word[: longest - 1] + "…"


def intervals(
    names: Sequence[str],
    mean: Array,
    lower: Array,
    upper: Array,
    truth: Array | None = None,
    *,
    title: str = "Posterior means and intervals",
    x: str = "",
    zero: bool = True,
) -> Figure:
    """What is known of each number: its posterior mean as a dot on its interval, a row a number (a forest plot).

    Args:
        names: (P,) of the numbers.
        mean, lower, upper: (P,), lower <= upper.
        truth: (P,), crosses where it is known; a NaN draws none.
        zero: whether a line marks zero; an interval that does not touch it is drawn in colour.

    Of more than 40 rows the first 40 are drawn. Raises `ValueError` where lengths differ or lower is above upper.
    """
    middle, low, high = (as_array(n, v, dimensions=1) for n, v in (("mean", mean), ("lower", lower), ("upper", upper)))
    same_shape("mean", middle, "lower", low)
    same_shape("mean", middle, "upper", high)
    if len(names) != len(middle):
        raise ValueError(f"names should have one entry a number ({len(middle)}), but has {len(names)}")
    if (low > high).any():
        place = int(np.argmax(low > high))
        raise ValueError(f"lower should not be above upper, but is for {names[place]!r}: {low[place]} > {high[place]}")
    known = None if truth is None else as_array("truth", truth, dimensions=1, finite=False)
    if known is not None:
        same_shape("mean", middle, "truth", known)
    count = min(len(middle), _MOST_INTERVALS)
    rest = "" if count == len(middle) else f" (first {count} of {len(middle)})"
    figure = new_figure(6.6, 0.23 * count + 1.2)
    axes = figure.add_subplot()
    finish(axes, title + rest, x)
    if zero:
        axes.axvline(0.0, color=MUTED, linewidth=1.0)
    rows = np.arange(count)
    _spans(axes, middle[:count], low[:count], high[:count], zero)
    if known is not None:
        axes.plot(known[:count], rows, "x", color=COLOURS[1], markersize=6, markeredgewidth=1.8, label="truth")
        axes.legend(fontsize=8.5, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    axes.set_yticks(rows, [_short(str(name), 32) for name in names[:count]], fontsize=8.5)
    axes.set_ylim(count - 0.3, -0.7)
    axes.grid(False, axis="y")
    return plain(figure)


def _spans(axes: Axes, middle: Floats, low: Floats, high: Floats, zero: bool) -> None:
    """Dots on their intervals, in colour where these do not touch zero."""
    apart = (low > 0) | (high < 0) if zero else np.ones(len(low), dtype=np.bool_)
    for chosen, colour in ((apart, COLOURS[0]), (~apart, MUTED)):
        at = np.flatnonzero(chosen)
        axes.hlines(at, low[chosen], high[chosen], color=colour, linewidth=2.0)
        axes.plot(middle[chosen], at, "o", color=colour, markersize=5)


def relevance(
    values: Array,
    names: Sequence[str] = (),
    *,
    threshold: float | None = None,
    title: str = "Relevance",
    x: str = "factor, most relevant first",
    y: str = "norm of the loadings",
) -> Figure:
    """One number >= 0 for each factor or column, largest first: what automatic relevance determination has left.

    Give what is large where a factor matters (the norm of its loadings, a standard deviation 1 / sqrt(precision)).
    Those above `threshold` are drawn in colour and counted. Of more than 60 the largest 60 are drawn. Raises
    `ValueError` for negative values or names that do not fit.
    """
    bars = as_array("values", values, dimensions=1)
    if (bars < 0).any():
        raise ValueError(f"values should not be negative, but the smallest is {bars.min():g}")
    if len(names) and len(names) != len(bars):
        raise ValueError(f"names should have one entry a value ({len(bars)}), but has {len(names)}")
    order = np.argsort(-bars, kind="stable")[:_MOST_BARS]
    used = bars > threshold if threshold is not None else np.ones(len(bars), dtype=np.bool_)
    counted = f": {int(used.sum())} of {len(bars)} above {threshold:.2g}" if threshold is not None else ""
    figure = new_figure(min(10.0, max(5.5, 0.26 * len(order) + 2)), 3.4)
    axes = figure.add_subplot()
    finish(axes, title + counted, x, y)
    axes.grid(False, axis="x")
    position = np.arange(len(order))
    colours = [COLOURS[0] if used[place] else "#C9D3DD" for place in order]
    axes.bar(position, bars[order], color=colours, edgecolor="white", linewidth=0.5)
    if threshold is not None:
        axes.axhline(threshold, color=MUTED, linestyle=":", linewidth=1.2)
    if len(order) <= 40:
        called = [_short(str(names[place]), 20) if len(names) else str(place) for place in order]
        tilt = max(map(len, called)) > 3
        axes.set_xticks(position, called, rotation=60 if tilt else 0, ha="right" if tilt else "center")
    axes.set_xlim(-0.7, len(order) - 0.3)
    return plain(figure)
