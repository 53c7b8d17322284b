"""Whether a classifier knows what it does not know: calibration, and confidence in what it was never taught."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jensen.plots._input import Array, Floats, as_array, same_shape
from jensen.plots._style import COLOURS, INK, MARKERS, MUTED, finish, legend_label, new_figure, plain

__all__ = ["confidences", "reliability"]


def reliability(predictions: Mapping[str, tuple[Array, Array]], *, bins: int = 10, title: str = "") -> Figure:
    """How often each classifier is right, by how sure it was; on the dotted line it is as good as it says.

    `predictions` maps a name to (confidence, correct), both (N,): the largest predicted probability in [0, 1], and 1
    where that class was the true one, 0 where not. Bins hold equally many predictions; error bars are standard errors.
    The legend gives the calibration error, the bins' mean of |share correct - confidence|, weighted by their size.
    Raises `ValueError` for other values, lengths that differ, or no classifier.
    """
    if not predictions or bins < 1:
        raise ValueError("reliability needs at least one classifier and one bin")
    figure = new_figure(5.4, 4.4)
    axes = figure.add_subplot()
    finish(axes, title, "confidence", "share that is correct")
    for index, (name, (confidence, correct)) in enumerate(predictions.items()):
        sure, right = _shares(f"confidence of {name!r}", confidence), _shares(f"correct of {name!r}", correct)
        same_shape(f"confidence of {name!r}", sure, "correct", right)
        if not np.isin(right, (0, 1)).all():
            raise ValueError(f"correct of {name!r} should be 1 for a right prediction and 0 for a wrong one")
        _curve(axes, index, name, sure, right, bins)
    lowest = min(axes.get_xlim()[0], axes.get_ylim()[0], 0.9)
    axes.plot([lowest, 1], [lowest, 1], ":", color=MUTED, linewidth=1.2)
    axes.set_xlim(lowest, 1.02)
    axes.set_ylim(lowest, 1.02)
    figure.legend(fontsize=8.5, frameon=False, loc="outside lower center")  # lines may pass anywhere in the axes
    return plain(figure)


def confidences(
    groups: Mapping[str, Mapping[str, Array]], *, x: str = "confidence", bins: int = 20, title: str = ""
) -> Figure:
    """Histograms of confidence, a panel for each classifier and a colour for each group of data.

    `groups` maps a classifier's name to {group: confidences (N,) in [0, 1]}; heights are shares of the group, and the
    legend gives its mean. Raises `ValueError` for other values, or nothing to draw.
    """
    if not groups or not all(groups.values()) or bins < 1:
        raise ValueError("confidences needs at least one classifier with one group of data, and one bin")
    figure = new_figure(3.6 * len(groups) + 0.3, 3.4)
    if title:
        figure.suptitle(title, fontsize=11, fontweight="bold", color=INK)
    first: Axes | None = None
    for place, (name, data) in enumerate(groups.items()):
        axes = figure.add_subplot(1, len(groups), place + 1, sharey=first)
        first = first or axes
        finish(axes, name, x, "share of the group" if place == 0 else "")
        for index, (group, given) in enumerate(data.items()):
            values = _shares(f"confidence of {name!r} in {group!r}", given)
            label = legend_label(f"{group}: mean {values.mean():.2f}")
            edges, weights = np.linspace(0, 1, bins + 1).tolist(), np.full(len(values), 1 / len(values))
            axes.hist(values, edges, weights=weights, color=COLOURS[index % len(COLOURS)], alpha=0.55, label=label)
        axes.set_xlim(0, 1)
        axes.legend(fontsize=8, frameon=False, loc="upper left")
    return plain(figure)


def _shares(name: str, value: Array) -> Floats:
    values = as_array(name, value, dimensions=1)
    if values.min() < 0 or values.max() > 1 + 1e-6:
        raise ValueError(f"{name} should lie in [0, 1], but goes from {values.min():g} to {values.max():g}")
    return values


def _curve(axes: Axes, index: int, name: str, confidence: Floats, correct: Floats, bins: int) -> None:
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    sure = np.array([confidence[part].mean() for part in parts])
    right = np.array([correct[part].mean() for part in parts])
    size = np.array([len(part) for part in parts])
    error = float((size * np.abs(right - sure)).sum() / size.sum())
    # Of a share with one more success and failure: a bin where all are right is not certain.
    smooth = (right * size + 1) / (size + 2)
    axes.errorbar(
        sure,
        right,
        yerr=np.sqrt(smooth * (1 - smooth) / size),
        marker=MARKERS[index % len(MARKERS)],
        color=COLOURS[index % len(COLOURS)],
        linewidth=1.6,
        markersize=5,
        capsize=2,
        label=legend_label(f"{name}: calibration error {error:.3f}"),
    )
