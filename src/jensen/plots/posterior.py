"""Pictures of a posterior known by its draws: how its bound rose, pairs of numbers, prior beside posterior."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array
from jensen.plots._style import COLOURS, INK, finish, integer_axis, legend_label, new_figure, note, plain

__all__ = ["elbo_trace", "pairs", "prior_posterior"]

_MOST_PAIRS = 8
_MOST_PANELS = 24
_MOST_POINTS = 2_000
_PALE = "#C9D3DD"
_RANGES = 4.0  # of the posterior, that a panel may span for the prior's sake
_OTHER = 1  # place in COLOURS of what is compared with


def elbo_trace(
    trace: Array,
    *,
    final: float | None = None,
    error: float = 0.0,
    converged: bool = True,
    x: str = "step",
    title: str = "ELBO (higher is better)",
) -> Figure:
    """The ELBO after every step: all of it, and its last half on its own scale, where noise shows against progress.

    Of more than 200 values a running mean is drawn over the values. Steps at which the bound was not finite leave gaps.

    Args:
        trace: (T,), nats.
        final: the ELBO on fresh draws, a line in the right panel, with a band of two standard errors `error`.
        converged: said in the picture where it is not so.

    Raises:
        ValueError: an empty trace, or one without finite values.
    """
    values = as_array("trace", trace, dimensions=1, finite=False)
    values = np.where(np.isfinite(values), values, np.nan)
    if np.isnan(values).all():
        raise ValueError(f"trace should have finite values, but all {len(values)} are NaN or infinite")
    steps = np.arange(1, len(values) + 1, dtype=np.float64)
    start = len(values) // 2 if len(values) > 3 else 0
    two = start > 0 and not np.isnan(values[start:]).all()
    figure = new_figure(8.6 if two else 5.6, 3.4)
    axes = figure.add_subplot(1, 2 if two else 1, 1)
    finish(axes, title, x, "nats")
    _trace(axes, steps, values)
    if not converged:
        note(axes, "NOT CONVERGED")
    last = figure.add_subplot(1, 2, 2) if two else axes
    if two:
        finish(last, "Its last half", x, "nats")
        _trace(last, steps[start:], values[start:])
    if final is not None and math.isfinite(final):
        words = f"on fresh draws {final:,.2f}" + (f" ± {error:.2f}" if error > 0 else "")
        note(last, words.replace("-", "−"))
        last.texts[-1].set_color(COLOURS[_OTHER])
        low, high = last.get_ylim()
        last.set_ylim(min(low, final - 3 * error), max(high, final + 3 * error))
        last.axhline(final, color=COLOURS[_OTHER], linewidth=1.4, linestyle="--")
        if error > 0:
            last.axhspan(final - 2 * error, final + 2 * error, color=COLOURS[_OTHER], alpha=0.12, linewidth=0)
    return plain(figure)


def _trace(axes: Axes, steps: Floats, values: Floats) -> None:
    """Values, and over many of them their running mean, on a scale that the worst 2% do not set."""
    many = len(values) > 200
    axes.plot(steps, values, color=_PALE if many else COLOURS[0], linewidth=0.8 if many else 1.8)
    if many:
        width = max(len(values) // 50, 5)
        known = np.isfinite(values)
        weight = np.convolve(known, np.ones(width), mode="valid")
        sums = np.convolve(np.where(known, values, 0.0), np.ones(width), mode="valid")
        mean = np.divide(sums, weight, out=np.full(len(sums), np.nan), where=weight > 0)
        axes.plot(steps[width - 1 :], mean, color=COLOURS[0], linewidth=1.8)
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, 0.02 if many else 0.0), finite.max()
    room = 0.05 * (high - low) or 1e-3 * max(abs(high), 1.0)
    axes.set_ylim(low - room, high + room)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}".replace("-", "−"))
    integer_axis(axes)


def pairs(
    draws: Mapping[str, Array],
    other: Mapping[str, Array] | None = None,
    *,
    labels: tuple[str, str] = ("posterior", "other"),
    title: str = "Pairs",
) -> Figure:
    """A panel a pair of numbers with its draws, a histogram each on the diagonal, the correlations above it.

    Of more than 8 names the first 8 are drawn, of more than 2,000 draws the first 2,000.

    Args:
        draws: of each number, by its name, (S,) draws; the s-th of all belong together.
        other: draws of the same numbers to compare with (another method's, importance-resampled ones).
        labels: what the two are called.

    Raises:
        ValueError: no numbers, draws of different lengths, names that `other` lacks, values that are not finite.
    """
    first = _table("draws", draws)
    second = None if other is None else _table("other", {name: _entry("other", other, name) for name in first})
    shown = list(first)[:_MOST_PAIRS]
    count = len(shown)
    figure = new_figure(1.75 * count + 0.6, 1.65 * count + 0.7)
    rest = "" if count == len(first) else f" (first {count} of {len(first)})"
    figure.suptitle(title + rest, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    for row, y in enumerate(shown):
        for column, x in enumerate(shown):
            axes = figure.add_subplot(count, count, row * count + column + 1)
            finish(axes, x=x if row == count - 1 else "", y=y if column == 0 else "", grid=False)
            axes.tick_params(labelsize=7)
            if row == column:
                _histogram(axes, first[x], None if second is None else second[x], _span(first[x], second, x))
                axes.set_yticks([])
            elif row > column:
                _cloud(axes, x, y, first, second)
            else:
                _correlation(axes, x, y, first, second)
            axes.tick_params(labelbottom=row == count - 1, labelleft=column == 0 and row > 0)
    if second is not None:
        handles = [figure.axes[0].patches[0], figure.axes[0].patches[-1]]
        named = [legend_label(label) for label in labels]
        figure.legend(handles, named, loc="upper right", ncols=2, fontsize=8.5, frameon=False)
    return plain(figure)


def _table(what: str, draws: Mapping[str, Array]) -> dict[str, Floats]:
    if not draws:
        raise ValueError(f"{what} should hold draws of at least one number, but is empty")
    table = {str(name): as_array(f"{what}[{name!r}]", value, dimensions=1) for name, value in draws.items()}
    lengths = {name: len(value) for name, value in table.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{what} should have as many draws of every number, but has {lengths}")
    return table


def _entry(what: str, draws: Mapping[str, Array], name: str) -> Array:
    if name not in draws:
        raise ValueError(f"{what} has no draws of {name!r}: its names are {', '.join(map(repr, draws))}")
    return draws[name]


def _span(values: Floats, second: Mapping[str, Floats] | None, name: str) -> tuple[float, float]:
    """Where all but the outermost draws lie."""
    both = values if second is None else np.concatenate([values, second[name]])
    low, high = np.quantile(both, [0.002, 0.998])
    room = 0.05 * (high - low) or max(1e-6 * abs(high), 1e-12)
    return float(low - room), float(high + room)


def _histogram(axes: Axes, values: Floats, second: Floats | None, span: tuple[float, float]) -> None:
    bins = np.linspace(*span, min(40, max(12, round(math.sqrt(len(values)))))).tolist()
    axes.hist(values, bins=bins, density=True, color=COLOURS[0], alpha=0.55, histtype="stepfilled")
    if second is not None:
        axes.hist(second, bins=bins, density=True, color=COLOURS[_OTHER], histtype="step", linewidth=1.4)
    axes.set_xlim(*span)


def _cloud(axes: Axes, x: str, y: str, first: Mapping[str, Floats], second: Mapping[str, Floats] | None) -> None:
    for place, draws in enumerate([first] if second is None else [first, second]):
        points = draws[x][:_MOST_POINTS], draws[y][:_MOST_POINTS]
        size = float(np.clip(4_000 / len(points[0]), 2, 14))
        axes.scatter(*points, s=size, color=COLOURS[place * _OTHER], alpha=0.3, linewidths=0, rasterized=True)
    axes.set_xlim(*_span(first[x], second, x))
    axes.set_ylim(*_span(first[y], second, y))


def _correlation(axes: Axes, x: str, y: str, first: Mapping[str, Floats], second: Mapping[str, Floats] | None) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    tables = [first] if second is None else [first, second]
    for place, draws in enumerate(tables):
        still = draws[x].std() == 0 or draws[y].std() == 0
        words = "constant" if still else f"{np.corrcoef(draws[x], draws[y])[0, 1]:z.2f}".replace("-", "−")
        height = 0.5 + (len(tables) - 1) * (0.15 - 0.3 * place)
        colour = INK if second is None else COLOURS[place * _OTHER]
        axes.text(0.5, height, words, ha="center", va="center", fontsize=11, color=colour, transform=axes.transAxes)


def prior_posterior(
    prior: Mapping[str, Array],
    posterior: Mapping[str, Array],
    *,
    names: Sequence[str] = (),
    title: str = "Prior and posterior",
) -> Figure:
    """What the data said: for each number the prior's draws in grey and the posterior's in colour, densities.

    Beside a name stands how many times narrower the posterior is (ratio of the central 90%). A panel spans at most
    4 ranges of the posterior: a wider prior goes on outside of it. Of more than 24 names the first 24 are drawn.

    Args:
        prior, posterior: of each number, by its name, draws (S,); the two may have different numbers of draws.
        names: which; all that both have by default.

    Raises:
        ValueError: no number that both have, a name that one of them lacks, values that are not finite.
    """
    chosen = list(names) or [name for name in posterior if name in prior]
    if not chosen:
        raise ValueError(f"prior ({', '.join(prior)}) and posterior ({', '.join(posterior)}) share no name")
    shown = chosen[:_MOST_PANELS]
    across = min(4, len(shown))
    down = math.ceil(len(shown) / across)
    figure = new_figure(max(2.4 * across, 3.4) + 0.3, 2.0 * down + 0.7)
    rest = "" if len(shown) == len(chosen) else f" (first {len(shown)} of {len(chosen)})"
    figure.suptitle(title + rest + "\n", x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    for place, name in enumerate(shown):
        before = as_array(f"prior[{name!r}]", _entry("prior", prior, name), dimensions=1)
        after = as_array(f"posterior[{name!r}]", _entry("posterior", posterior, name), dimensions=1)
        axes = figure.add_subplot(down, across, place + 1)
        finish(axes, grid=False)
        axes.set_title(name, loc="left", fontsize=9, color=INK)
        _before_after(axes, before, after)
    handles = figure.axes[0].patches
    figure.legend(handles, ["prior", "posterior"], loc="upper right", ncols=2, fontsize=8.5, frameon=False)
    return plain(figure)


def _before_after(axes: Axes, before: Floats, after: Floats) -> None:
    low, high = _span(after, None, "")
    middle, reach = (low + high) / 2, (high - low) / 2
    wide = np.quantile(before, [0.005, 0.995])
    span = (
        min(low, max(float(wide[0]), middle - _RANGES * reach)),
        max(high, min(float(wide[1]), middle + _RANGES * reach)),
    )
    for values, colour, alpha in ((before, _PALE, 1.0), (after, COLOURS[0], 0.65)):
        inside = values[(values >= span[0]) & (values <= span[1])]
        own = _span(inside, None, "") if len(inside) else span
        bins = np.linspace(*own, min(50, max(12, round(math.sqrt(max(len(inside), 1))))))
        heights, edges = np.histogram(inside, bins=bins)
        # Shares of all draws, also of those outside of the panel: the area that is seen is the mass that is here.
        density = heights / (len(values) * np.diff(edges))
        axes.stairs(density, edges, fill=True, color=colour, alpha=alpha)
    axes.set_xlim(*span)
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    widths = [float(np.ptp(np.quantile(values, [0.05, 0.95]))) for values in (before, after)]
    if min(widths) > 0:
        ratio = widths[0] / widths[1]
        words = f"{ratio:,.1f}× narrower" if ratio >= 1 else f"{1 / ratio:,.1f}× wider"
        note(axes, "as wide" if 0.9 < ratio < 1.1 else words)
