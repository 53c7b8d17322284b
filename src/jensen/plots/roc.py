"""Pictures of scores that tell anomalies from the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array, as_images, same_shape
from jensen.plots._style import COLOURS, MUTED, finish, legend_label, new_figure, plain
from jensen.plots._tiles import tile_figure

__all__ = ["most_anomalous", "roc_curves"]

LINES = ("-", "--", ":")


def roc_curves(curves: Mapping[str, tuple[Array, Array]], *, title: str = "") -> Figure:
    """The share of anomalies found against the share of others taken for anomalies, one line for each score.

    `curves` maps a name to (false positives, true positives), both (T,), shares that rise from 0 to 1. The legend gives
    the area under each line; the dotted line is chance. Raises `ValueError` for other values, or no curve.
    """
    if not curves:
        raise ValueError("roc_curves needs at least one curve")
    figure = new_figure(5.6, 4.6)
    axes = figure.add_subplot()
    finish(axes, title, "others taken for anomalies", "anomalies found")
    for index, (name, (false, true)) in enumerate(curves.items()):
        x, y = _rising(f"false positives of {name!r}", false), _rising(f"true positives of {name!r}", true)
        same_shape(f"false positives of {name!r}", x, "true positives", y)
        area = float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)
        style = LINES[index // len(COLOURS) % len(LINES)]
        label = legend_label(f"{name}: {area:.3f}")
        axes.plot(x, y, style, color=COLOURS[index % len(COLOURS)], linewidth=1.6, label=label)
    axes.plot([0, 1], [0, 1], ":", color=MUTED, linewidth=1.2)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    figure.legend(fontsize=8.5, frameon=False, loc="outside right center", title="area", title_fontsize=8.5)
    return plain(figure)


def most_anomalous(images: Mapping[str, Array], scores: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """The images that each score finds the most anomalous, a row a score, with their scores in nats below.

    `images` maps a score to images (B, C, H, W), `scores` to one number for each. Raises `ValueError` where these
    differ in number, or there are none.
    """
    if not images or list(images) != list(scores):
        raise ValueError(f"images and scores should be of the same methods, got {list(images)} and {list(scores)}")
    rows: list[list[Floats | None]] = []
    captions: list[str] = []
    for method, given in images.items():
        tiles = as_images(f"images of {method}", given)
        if len(tiles) != len(scores[method]):
            raise ValueError(f"{method} has {len(tiles)} images, but {len(scores[method])} scores")
        rows.append(list(tiles))
        captions += [f"{score:,.1f}" for score in scores[method]]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("every method should have equally many images")
    return tile_figure(rows, title=title or "The most anomalous", row_labels=list(images), captions=captions)


def _rising(name: str, value: Array) -> Floats:
    values = as_array(name, value, dimensions=1)
    if len(values) < 2 or values[0] != 0 or values[-1] != 1 or (np.diff(values) < 0).any():
        raise ValueError(f"{name} should rise from 0 to 1")
    return values
