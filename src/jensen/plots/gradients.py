"""Pictures of ways up the bound: one Gaussian moving to another, and why the natural gradient leads there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from jensen.plots._input import Array, Floats, as_array
from jensen.plots._style import COLOURS, INK, MARKERS, MUTED, finish, legend_label, log_axis, new_figure, note, plain

__all__ = ["Field", "GaussianPair", "ascent_paths", "fit_frame", "gradient_field", "near_and_far", "passes_to_optimum"]

_P, _Q = COLOURS[1], COLOURS[0]
_SHARE_RADIUS = ((0.5, 1.1774), (0.95, 2.4477))  # of a normal's mass in the plane, and the ellipse's radius


@dataclass(frozen=True)
class GaussianPair:
    """Two normals of one dimension, as (mean, standard deviation), and what is to be said about them."""

    title: str
    q: tuple[float, float]
    p: tuple[float, float]
    remarks: Sequence[str] = ()


def near_and_far(pairs: Sequence[GaussianPair]) -> Figure:
    """Pairs of densities side by side, each on its own scale. Raises ValueError without a pair or a positive sd."""
    if not pairs:
        raise ValueError("pairs should not be empty")
    figure = new_figure(4.6 * len(pairs), 3.9)
    for index, pair in enumerate(pairs):
        axes = figure.add_subplot(1, len(pairs), index + 1)
        finish(axes, pair.title, "z", "density" if index == 0 else "")
        scales = np.array([pair.q[1], pair.p[1]])
        if not (scales > 0).all():
            raise ValueError(f"{pair.title}: standard deviations should be positive, but are {scales}")
        means = np.array([pair.q[0], pair.p[0]])
        z = np.linspace((means - 4 * scales).min(), (means + 4 * scales).max(), 600)
        for name, (loc, scale), colour in (("q", pair.q, _Q), ("p", pair.p, _P)):
            density = _density(z, loc, scale)
            axes.plot(z, density, color=colour, linewidth=1.8, label=f"{name} = N({loc:g}, {scale:g}²)")
            axes.fill_between(z, density, color=colour, alpha=0.15, linewidth=0)
        axes.set_ylim(0, 1.75 * float(axes.dataLim.y1))
        axes.legend(fontsize=8.5, frameon=False, loc="upper left")
        axes.text(
            0.98, 0.97, "\n".join(pair.remarks), transform=axes.transAxes, ha="right", va="top", fontsize=8.5, color=INK
        )
    return plain(figure)


@dataclass(frozen=True)
class Field:
    """One panel of `gradient_field`: arrows (H, W, 2) at the grid's points, and a path (T, 2) that follows them."""

    arrows: Array
    path: Array
    remark: str = ""


def gradient_field(
    loc: Array, log_scale: Array, elbo: Array, fields: Mapping[str, Field], target: tuple[float, float]
) -> Figure:
    """Directions of ascent in the plane of (mu, log sigma), one panel for each kind of gradient.

    Arrows show direction alone: all have one length on the picture. Each path's points are its steps.

    Args:
        loc, log_scale: the grid, (W) and (H).
        elbo: at the grid's points, (H, W), nats.
        fields: by name.
        target: the optimum's (mu, log sigma).

    Raises:
        ValueError: shapes do not fit, or a value is not finite.
    """
    x, y = as_array("loc", loc, dimensions=1), as_array("log_scale", log_scale, dimensions=1)
    height = as_array("elbo", elbo, dimensions=2)
    if height.shape != (len(y), len(x)):
        raise ValueError(f"elbo should have shape {(len(y), len(x))}, but has {height.shape}")
    figure = new_figure(5.2 * len(fields), 4.5)
    for index, (name, field) in enumerate(fields.items()):
        axes = figure.add_subplot(1, len(fields), index + 1)
        finish(axes, name, "mu", "log sigma" if index == 0 else "", grid=False)
        _levels(axes, x, y, height)
        _arrows(axes, x, y, as_array(f"arrows of {name!r}", field.arrows, dimensions=3))
        path = as_array(f"path of {name!r}", field.path, dimensions=2)
        axes.plot(path[:, 0], path[:, 1], "-o", color=_Q, linewidth=1.6, markersize=3.2, label="steps")
        axes.plot(*path[0], "s", color=INK, markersize=7, label="start")
        axes.plot(*target, "*", color=_P, markersize=14, label="target")
        axes.set_xlim(x.min(), x.max())
        axes.set_ylim(y.min(), y.max())
        axes.legend(fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none", loc="upper right")
        if field.remark:
            note(axes, field.remark)
    return plain(figure)


def _levels(axes: Axes, x: Floats, y: Floats, height: Floats) -> None:
    """Contours of -log(1 + gap): the bound falls steeply far from its top."""
    gap = np.log1p(height.max() - height)
    axes.contour(x, y, gap, levels=12, colors=MUTED, linewidths=0.6, alpha=0.7)


def _arrows(axes: Axes, x: Floats, y: Floats, arrows: Floats) -> None:
    """Every n-th arrow, of one length on the picture: lengths are measured in units of the axes."""
    if arrows.shape != (len(y), len(x), 2):
        raise ValueError(f"arrows should have shape {(len(y), len(x), 2)}, but have {arrows.shape}")
    step = max(1, len(x) // 14)
    spans = np.array([np.ptp(x), np.ptp(y)])
    chosen = arrows[step // 2 :: step, step // 2 :: step] / spans
    length = np.linalg.norm(chosen, axis=-1, keepdims=True)
    unit = np.divide(chosen, length, out=np.zeros_like(chosen), where=length > 0)
    axes.quiver(
        *np.meshgrid(x[step // 2 :: step], y[step // 2 :: step]),
        unit[..., 0],
        unit[..., 1],
        color=COLOURS[2],
        scale=26,
        width=0.0035,
        pivot="mid",
        alpha=0.85,
    )


def ascent_paths(target_loc: Array, target_covariance: Array, paths: Mapping[str, Array], *, title: str = "") -> Figure:
    """How the means (T, 2) of q move in the plane, by method, over the ellipses that hold 50% and 95% of the target."""
    loc = as_array("target_loc", target_loc, dimensions=1)
    covariance = as_array("target_covariance", target_covariance, dimensions=2)
    if loc.shape != (2,) or covariance.shape != (2, 2):
        raise ValueError(f"the target should be of two dimensions, but has {loc.shape} and {covariance.shape}")
    figure = new_figure(5.8, 5.0)
    axes = figure.add_subplot()
    finish(axes, title or "Means of q on their way", "z1", "z2")
    _rings(axes, loc, covariance, _P)
    for index, (name, given) in enumerate(paths.items()):
        path = as_array(f"path {name!r}", given, dimensions=2)
        axes.plot(
            path[:, 0],
            path[:, 1],
            linestyle="-",
            marker=MARKERS[index % len(MARKERS)],
            color=COLOURS[(0, 2, 3, 4)[index % 4]],
            linewidth=1.5,
            markersize=4.5,
            label=legend_label(f"{name}, {len(path) - 1} steps"),
        )
    axes.plot(*loc, "*", color=_P, markersize=14)
    axes.autoscale_view()
    axes.legend(fontsize=8.5, frameon=False)
    return plain(figure)


def passes_to_optimum(
    traces: Mapping[str, Mapping[str, tuple[Array, Array]]], optimum: float, *, x: str = "passes over the data"
) -> Figure:
    """Distance of the ELBO to its optimum (nats, logarithmic), one panel for each group of methods.

    Args:
        traces: by panel, then by method: (x, ELBO), each (T).
        optimum: the highest ELBO there is; distances under 1e-9 are drawn there.
    """
    if not traces or not all(traces.values()):
        raise ValueError("traces should hold at least one panel with a trace")
    figure = new_figure(4.9 * len(traces), 3.9)
    shared: Axes | None = None
    for place, (title, methods) in enumerate(traces.items()):
        axes = figure.add_subplot(1, len(traces), place + 1, sharey=shared)
        shared = shared or axes
        finish(axes, title, x, "nats under the optimum" if place == 0 else "")
        log_axis(axes)
        for index, (name, (steps, values)) in enumerate(methods.items()):
            elbo = as_array(f"ELBO of {name!r}", values, dimensions=1)
            gap = np.maximum(optimum - elbo, 1e-9)
            axes.plot(
                as_array(f"x of {name!r}", steps, dimensions=1),
                gap,
                color=COLOURS[index],
                marker=MARKERS[index],
                markevery=max(1, len(gap) // 12),
                markersize=4,
                linewidth=1.5,
                label=legend_label(name),
            )
        axes.legend(fontsize=8.5, frameon=False)
    return plain(figure)


def fit_frame(
    loc: Array,
    covariance: Array,
    elbo: Array,
    target_loc: Array,
    target_covariance: Array,
    step: int,
    *,
    title: str = "",
) -> Figure:
    """One frame of q moving to p: densities in one dimension or ellipses in two, beside the ELBO up to `step`.

    Axes are the same for every step, so that frames fit together (`save_animation`).

    Args:
        loc, covariance, elbo: of q at every step, (T, D), (T, D, D) and (T); D is 1 or 2.
        target_loc, target_covariance: of p, (D) and (D, D).
        step: which to draw.

    Raises:
        ValueError: other shapes or dimensions, or a step that is not there.
    """
    way = _way(loc, covariance, elbo, target_loc, target_covariance)
    if not 0 <= step < len(way.elbo):
        raise ValueError(f"step {step} is not one of {len(way.elbo)} steps")
    figure = new_figure(9.2, 4.2)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    draw = _draw_line if way.loc.shape[1] == 1 else _draw_plane
    draw(left, way, step, title or "q moves to p")
    left.legend(fontsize=9, frameon=False, loc="upper right")
    _climb(right, way.elbo, step)
    return plain(figure)


class _Way(NamedTuple):
    """q at every step, p, and the limits within which all of them are seen."""

    loc: Floats
    covariance: Floats
    elbo: Floats
    mu: Floats
    sigma: Floats
    low: Floats
    high: Floats
    narrowest: float


def _way(loc: Array, covariance: Array, elbo: Array, target_loc: Array, target_covariance: Array) -> _Way:
    """Checked; raises ValueError."""
    means, values = as_array("loc", loc, dimensions=2), as_array("elbo", elbo, dimensions=1)
    spreads = as_array("covariance", covariance, dimensions=3)
    mu = as_array("target_loc", target_loc, dimensions=1)
    sigma = as_array("target_covariance", target_covariance, dimensions=2)
    size = len(mu)
    if size not in (1, 2) or means.shape[1] != size or spreads.shape[1:] != (size, size) or sigma.shape != (size, size):
        raise ValueError(f"q and p should be of one or two dimensions, but have {means.shape[1:]} and {mu.shape}")
    if not len(means) == len(spreads) == len(values):
        raise ValueError(f"there are {len(means)} means, {len(spreads)} covariances and {len(values)} ELBOs")
    scales = np.sqrt(np.concatenate([np.diagonal(spreads, axis1=1, axis2=2), np.diagonal(sigma)[None]]))
    centres = np.concatenate([means, mu[None]])
    low, high = (centres - 3.2 * scales).min(0), (centres + 3.2 * scales).max(0)
    return _Way(means, spreads, values, mu, sigma, low, high, float(scales.min()))


def _draw_line(axes: Axes, way: _Way, step: int, title: str) -> None:
    """Densities of p and q in one dimension."""
    finish(axes, title, "z", "density")
    z = np.linspace(way.low[0], way.high[0], 500)
    pairs = (("p", way.mu, way.sigma, _P), ("q", way.loc[step], way.covariance[step], _Q))
    for name, loc, covariance, colour in pairs:
        density = _density(z, float(loc[0]), float(np.sqrt(covariance[0, 0])))
        axes.fill_between(z, density, color=colour, alpha=0.18, linewidth=0)
        axes.plot(z, density, color=colour, linewidth=2, label=name)
    axes.set_xlim(way.low[0], way.high[0])
    axes.set_ylim(0, 1.1 / (way.narrowest * np.sqrt(2 * np.pi)))


def _draw_plane(axes: Axes, way: _Way, step: int, title: str) -> None:
    """Ellipses of p and q in the plane, and where the mean of q has been."""
    finish(axes, title, "z1", "z2")
    _rings(axes, way.mu, way.sigma, _P, "p")
    _rings(axes, way.loc[step], way.covariance[step], _Q, "q")
    axes.plot(way.loc[: step + 1, 0], way.loc[: step + 1, 1], "-", color=_Q, linewidth=1, alpha=0.7)
    axes.set_xlim(way.low[0], way.high[0])
    axes.set_ylim(way.low[1], way.high[1])


def _climb(axes: Axes, values: Floats, step: int) -> None:
    """The ELBO up to a step."""
    finish(axes, "ELBO", "step", "nats")
    axes.plot(np.arange(step + 1), values[: step + 1], color=INK, linewidth=1.8)
    axes.plot(step, values[step], "o", color=_Q, markersize=6)
    span = max(float(np.ptp(values)), 1e-3)
    axes.set_xlim(-0.5, max(len(values) - 0.5, 1))
    axes.set_ylim(values.min() - 0.05 * span, values.max() + 0.1 * span)
    axes.axhline(values.max(), color=MUTED, linestyle=":", linewidth=1)
    note(axes, f"step {step}: {values[step]:8.3f}")


def _density(z: Floats, loc: float, scale: float) -> Floats:
    """Of a normal."""
    return np.asarray(np.exp(-0.5 * ((z - loc) / scale) ** 2) / (scale * np.sqrt(2 * np.pi)), dtype=np.float64)


def _rings(axes: Axes, loc: Floats, covariance: Floats, colour: str, name: str | None = None) -> None:
    """Ellipses that hold 50% and 95% of a normal in the plane."""
    eigenvalues, vectors = np.linalg.eigh(covariance)
    if eigenvalues.min() <= 0:
        raise ValueError("a covariance should be positive definite")
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    for share, radius in _SHARE_RADIUS:
        width, height = 2 * radius * np.sqrt(eigenvalues[::-1])
        axes.add_patch(
            Ellipse(
                (float(loc[0]), float(loc[1])),
                float(width),
                float(height),
                angle=angle,
                facecolor=colour,
                alpha=0.14 if share > 0.9 else 0.22,
                edgecolor="none",
            )
        )
        axes.add_patch(
            Ellipse(
                (float(loc[0]), float(loc[1])),
                float(width),
                float(height),
                angle=angle,
                fill=False,
                edgecolor=colour,
                linewidth=1.5,
                label=name if share > 0.9 else None,
            )
        )
