"""Pictures of training: the bound and its parts over epochs, a schedule over steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jensen.plots._input import Floats, as_array
from jensen.plots._style import COLOURS, MUTED, finish, integer_axis, legend_label, new_figure, note, plain

__all__ = ["curves", "schedule"]

_NATS = "nats per example"


class _Line(NamedTuple):
    column: str
    label: str
    colour: str
    style: str
    best: Literal["", "highest", "lowest"] = ""


class _Panel(NamedTuple):
    title: str
    unit: str
    lines: tuple[_Line, ...]


_ELBO = _Panel(
    "ELBO (higher is better)",
    _NATS,
    (_Line("train/elbo", "training", COLOURS[0], "-"), _Line("valid/elbo", "validation", COLOURS[1], "--", "highest")),
)
_IWAE = _Panel(
    "Bounds (higher is better)",
    _NATS,
    (
        _Line("train/iwae", "training, importance-weighted", COLOURS[0], "-"),
        _Line("valid/iwae", "validation, importance-weighted", COLOURS[1], "--", "highest"),
        _Line("train/elbo", "training, ELBO", COLOURS[4], "-"),
        _Line("valid/elbo", "validation, ELBO", COLOURS[5], "--"),
    ),
)
_LOSS = _Panel(
    "Loss (lower is better)",
    _NATS,
    (_Line("train/loss", "training", COLOURS[0], "-"), _Line("valid/loss", "validation", COLOURS[1], "--", "lowest")),
)
_PARTS = _Panel(
    "Rate and distortion",
    _NATS,
    (
        _Line("train/distortion", "distortion: −log p(x | z)", COLOURS[2], "-"),
        _Line("train/rate", "rate: KL from the prior", COLOURS[3], "--"),
    ),
)
_LR = _Panel("Learning rate", "step size", (_Line("lr", "learning rate", COLOURS[6], "-"),))


def curves(history: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """Training and validation ELBO, rate and distortion, and learning rate over epochs, a panel each.

    `history` maps columns (``epoch``, ``train/elbo``, ``valid/elbo``, ``train/rate``, ``train/distortion``, ``lr``) to
    one number an epoch; a column that is missing or holds no finite number is left out, as are single values that are
    not finite (a remark counts those of training). An importance-weighted bound (``train/iwae``, ``valid/iwae``) is
    drawn with the ELBO; without either the loss is drawn. The dotted line marks the best validation value. Raises
    `ValueError` where nothing can be drawn or lengths differ.
    """
    columns = {
        name: as_array(f"history[{name!r}]", values, dimensions=1, finite=False)
        for name, values in history.items()
        if len(values)
    }
    if "epoch" not in columns:
        raise ValueError(f"history should have a column epoch with at least one entry, but has {sorted(history)}")
    epoch = columns["epoch"]
    for name, values in columns.items():
        if values.shape != epoch.shape:
            raise ValueError(f"history[{name!r}] has {len(values)} entries, but epoch has {len(epoch)}")
    drawable = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    if "train/iwae" in drawable or "valid/iwae" in drawable:
        main = _IWAE
    else:
        main = _ELBO if any(line.column in drawable for line in _ELBO.lines) else _LOSS
    # Without a rate the distortion is the loss: one panel says it.
    parts = () if main is _LOSS and "train/rate" not in drawable else (_PARTS,)
    panels = [panel for panel in (main, *parts, _LR) if any(line.column in drawable for line in panel.lines)]
    if not panels:
        wanted = ", ".join(line.column for line in (*_ELBO.lines, *_PARTS.lines, *_LR.lines))
        raise ValueError(f"history should have at least one of {wanted} with a finite value, but has {sorted(history)}")
    figure = new_figure(4.1 * len(panels) + 0.3, 3.4)
    if title:
        figure.suptitle(title, fontsize=11)
    for position, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), position + 1)
        _draw_panel(axes, panel, epoch, drawable)
    return plain(figure)


def _draw_panel(axes: Axes, panel: _Panel, epoch: Floats, columns: Mapping[str, Floats]) -> None:
    finish(axes, panel.title, "epoch", panel.unit)
    integer_axis(axes)
    missing = 0
    marker = "o" if len(epoch) <= 25 else None
    for line in panel.lines:
        values = columns.get(line.column)
        if values is None:
            continue
        kept = np.isfinite(values)
        if line.column.startswith("train/"):
            missing += int((~kept).sum())
        axes.plot(
            epoch[kept],
            values[kept],
            line.style,
            color=line.colour,
            marker=marker,
            markersize=3.5,
            linewidth=1.8,
            label=line.label,
        )
        if line.best:
            _mark_best(
                axes,
                epoch[kept],
                values[kept],
                columns.get("valid/score", values if line.best == "highest" else -values)[kept],
            )
    if panel.unit == _NATS:
        axes.legend(fontsize=8.5, frameon=False)
    if panel is _LR:
        axes.set_ylim(0, 1.08 * float(np.nanmax(columns["lr"][np.isfinite(columns["lr"])])) or 1.0)
    if missing:
        note(axes, f"{missing} value{'s' * (missing > 1)} not finite")


def _mark_best(axes: Axes, epoch: Floats, values: Floats, scores: Floats) -> None:
    """A dotted line at the epoch with the best validation score, which is the checkpoint that is kept."""
    best = int(np.nanargmax(scores))
    axes.axvline(
        float(epoch[best]),
        color=MUTED,
        linestyle=":",
        linewidth=1.2,
        label=f"best: {values[best]:.2f} at epoch {epoch[best]:.0f}".replace("-", "−"),
    )


def schedule(
    schedule: Callable[[int], float] | Mapping[str, Callable[[int], float]],
    steps: int,
    *,
    name: str = "value",
    title: str = "Schedule",
) -> Figure:
    """A number over optimiser steps 0 ... `steps`: a `jensen.config.Schedule`, or several by name.

    `name` labels the value (with its unit). Raises `ValueError` for steps below 1 or a value that is not finite.
    """
    if steps < 1:
        raise ValueError(f"steps should be at least 1, but is {steps}")
    named = dict(schedule) if isinstance(schedule, Mapping) else {"": schedule}
    if not named:
        raise ValueError("schedule should be a function of the step or some by name, but is empty")
    at = np.unique(np.linspace(0, steps, min(steps, 2_000) + 1).round().astype(np.int64))
    figure = new_figure(5.6, 3.4)
    axes = figure.add_subplot()
    finish(axes, title, "optimiser step", name)
    for index, (label, function) in enumerate(named.items()):
        values = as_array("schedule", [function(int(step)) for step in at], dimensions=1)
        style = ("-", "--", "-.", ":")[index % 4]
        axes.plot(at, values, style, color=COLOURS[index % len(COLOURS)], linewidth=2, label=legend_label(label))
    integer_axis(axes)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.margins(x=0.02, y=0.08)
    if any(named):
        axes.legend(fontsize=8.5, frameon=False)
    return plain(figure)
