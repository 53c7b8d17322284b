"""The amortisation gap in pictures: nats lost by kind, and an encoder's q beside the best one on exact posteriors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from jensen.plots._input import Array, as_array, as_images, same_shape
from jensen.plots._style import COLOURS, INK, MUTED, finish, new_figure, plain

__all__ = ["LocalPosterior", "amortisation_gaps"]

_ENCODER, _OWN = COLOURS[1], COLOURS[0]


@dataclass(frozen=True)
class LocalPosterior:
    """The posterior of one datum's two latents, and two normal approximations of it.

    Attributes:
        title: what stands above.
        image: the datum, (C, H, W) in [0, 1].
        x, y: the grid, (G,) and (H,).
        log_density: log p(x, z) up to a constant on it, (H, G), rows along y.
        encoder: means (2,) and standard deviations (2,) of the encoder's q.
        optimised: the same of the q optimised for this datum.
    """

    title: str
    image: Array
    x: Array
    y: Array
    log_density: Array
    encoder: tuple[Array, Array]
    optimised: tuple[Array, Array]


def amortisation_gaps(gaps: Mapping[str, tuple[float, float]], posteriors: Sequence[LocalPosterior] = ()) -> Figure:
    """Mean amortisation and approximation gaps as stacked bars, and posteriors with both q on them.

    Args:
        gaps: (amortisation gap, approximation gap) in nats per datum, by what they were measured on.
        posteriors: a panel each; ellipses at one and two standard deviations.

    Raises:
        ValueError: nothing to draw, or arrays of the wrong shape.
    """
    if not gaps:
        raise ValueError("amortisation_gaps needs at least one measurement, but got none")
    width = 4.6 + 2.75 * len(posteriors)
    figure = new_figure(width, 3.4)
    grid = figure.add_gridspec(1, 1 + len(posteriors), width_ratios=[4.4] + [2.75] * len(posteriors))
    _draw_bars(figure.add_subplot(grid[0, 0]), gaps)
    for place, posterior in enumerate(posteriors):
        _draw_posterior(figure.add_subplot(grid[0, place + 1]), posterior, place == 0)
    return plain(figure)


def _draw_bars(axes: Axes, gaps: Mapping[str, tuple[float, float]]) -> None:
    values = as_array("gaps", list(gaps.values()), dimensions=2)
    if values.shape[1] != 2:
        raise ValueError(f"gaps should hold two numbers each, but hold {values.shape[1]}")
    finish(axes, "Nats lost per datum", "log p(x) − ELBO, nats")
    places = np.arange(len(values))[::-1]
    shown = values.clip(0.0)  # an estimate may fall a hair below zero
    axes.barh(places, shown[:, 0], color=_ENCODER, height=0.62, label="encoder (amortisation gap)")
    axes.barh(places, shown[:, 1], left=shown[:, 0], color=_OWN, height=0.62, label="normal q (approximation gap)")
    for place, (amortisation, approximation), total in zip(places, values, shown.sum(1), strict=True):
        text = f" {amortisation:.2f} + {approximation:.2f}".replace("-", "−")
        axes.text(total, place, text, va="center", fontsize=8.5, color=INK)
    axes.set_yticks(places, list(gaps))
    axes.set_xlim(0, 1.35 * max(float(shown.sum(1).max()), 1e-9))
    axes.grid(axis="y", visible=False)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=1)


def _draw_posterior(axes: Axes, posterior: LocalPosterior, first: bool) -> None:
    x, y = as_array("x", posterior.x, dimensions=1), as_array("y", posterior.y, dimensions=1)
    log_density = as_array("log_density", posterior.log_density, dimensions=2, finite=False)
    same_shape("log_density", log_density, "the grid", np.empty((len(y), len(x))))
    finish(axes, posterior.title, "z₁", "z₂", grid=False)
    axes.pcolormesh(
        x, y, np.exp(log_density - np.nanmax(log_density)), cmap="Greys", shading="gouraud", rasterized=True
    )
    for (mean, deviation), colour, style, label in (
        (posterior.encoder, _ENCODER, "--", "q of the encoder"),
        (posterior.optimised, _OWN, "-", "q of this datum"),
    ):
        centre, spread = as_array("means", mean, dimensions=1), as_array("deviations", deviation, dimensions=1)
        for size in (1, 2):
            axes.add_patch(
                Ellipse(
                    (float(centre[0]), float(centre[1])),
                    *(2.0 * size * spread),
                    fill=False,
                    color=colour,
                    linestyle=style,
                    linewidth=1.6,
                    label=label if size == 1 else None,
                )
            )
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    picture = axes.inset_axes((0.03, 0.72, 0.25, 0.25))
    picture.imshow(as_images("image", np.asarray(posterior.image)[None])[0], cmap="gray_r", vmin=0, vmax=1)
    picture.set_xticks([])
    picture.set_yticks([])
    for spine in picture.spines.values():
        spine.set_color(MUTED)
    if first:
        axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2))
