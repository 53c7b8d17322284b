"""Pictures of training: the bound and its parts over epochs, a schedule over steps."""

from __future__ import annotations

import math
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

_OF_THE_BOUND = ("loss", "elbo", "iwae", "rate", "distortion", "score", "log_likelihood")
_OF_A_LEVEL = "kl_level_"
"""These have a picture of their own, `kl_of_levels_over_training`."""
_MOST_PARTS = 6
_NAMES = {
    "balanced_rate": "KL with its levels balanced",
    "batch_norm": "largest scales of batch norms, weighted",
    "capacity": "capacity that the rate is held to",
    "classification": "surprise at known labels, weighted",
    "dimension_wise_kl": "dimension-wise KL",
    "dip_diagonal": "penalty on variances, weighted",
    "dip_off_diagonal": "penalty on covariances, weighted",
    "discriminator": "cross-entropy of the discriminator",
    "label_kl": "KL of the class from its prior",
    "gradient_norm": "mean over steps",
    "mmd": "squared MMD of codes and prior",
    "skipped": "left out, their gradient far too large",
    "spectral": "largest singular values, weighted",
}
"""What a term is called where its name with spaces would not do."""
_SHARE = "share of examples"
_PENALTY = "added to the loss"
_LEVELS = ("", "_top", "_bottom")
_UNITS = {
    "accuracy": _SHARE,
    "mmd": "no unit, unweighted",
    "bits_per_code": "bits",
    "gradient_norm": "norm",
    "skipped": "steps of an epoch",
    "spectral": _PENALTY,
    "batch_norm": _PENALTY,
    **{f"perplexity{level}": "equally frequent codes" for level in _LEVELS},
    **{f"codes_used{level}": "share of all codes" for level in _LEVELS},
}
_TITLES = {
    _SHARE: "Classes told rightly",
    _PENALTY: "Penalties on the weights",
    "bits": "What a code costs",
    "norm": "Size of the gradient",
    "steps of an epoch": "Steps left out",
    "equally frequent codes": "Perplexity of a batch's codes",
    "share of all codes": "Codes used in a batch",
}


def curves(history: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """Training and validation ELBO, rate and distortion, the objective's own terms and the learning rate over epochs.

    `history` maps columns (``epoch``, ``train/elbo``, ``valid/elbo``, ``train/rate``, ``train/distortion``, ``lr``) to
    one number an epoch; a column that is missing or holds no finite number is left out, as are single values that are
    not finite (a remark counts those of training). An importance-weighted bound (``train/iwae``, ``valid/iwae``) is
    drawn with the ELBO; without either the loss is drawn. Any other ``train/NAME`` is a term of the objective and
    drawn as a part of the code's price, six at most; then a learning rate that stays the same is not. The KL of single
    levels (``train/kl_level_1``) is left to `kl_of_levels_over_training`. The dotted line stands at the epoch with the
    best validation score, whose weights are kept. Raises `ValueError` where nothing can be drawn or lengths differ.
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
    panels = _panels(drawable)
    if not panels:
        wanted = ", ".join(line.column for line in (*_ELBO.lines, *_PARTS.lines, *_LR.lines))
        raise ValueError(f"history should have at least one of {wanted} with a finite value, but has {sorted(history)}")
    across = len(panels) if len(panels) <= 3 else math.ceil(len(panels) / 2)
    down = math.ceil(len(panels) / across)
    figure = new_figure(4.1 * across + 0.3, 3.4 * down)
    if title:
        figure.suptitle(title, fontsize=11)
    for position, panel in enumerate(panels):
        axes = figure.add_subplot(down, across, position + 1)
        _draw_panel(axes, panel, epoch, drawable)
    _clear_legends(figure)
    return plain(figure)


def _panels(columns: Mapping[str, Floats]) -> list[_Panel]:
    """What is drawn of these columns."""
    if "train/iwae" in columns or "valid/iwae" in columns:
        main = _IWAE
    else:
        main = _ELBO if any(line.column in columns for line in _ELBO.lines) else _LOSS
    # Without a rate the distortion is the loss: one panel says it.
    parts = () if main is _LOSS and "train/rate" not in columns else (_PARTS,)
    panels = [panel for panel in (main, *parts) if any(line.column in columns for line in panel.lines)]
    terms = _term_panels(columns)
    rate = columns.get("lr")
    if rate is not None and not (terms and np.ptp(rate[np.isfinite(rate)]) == 0):
        terms.append(_LR)
    return panels + terms


def _term_panels(columns: Mapping[str, Floats]) -> list[_Panel]:
    """The objective's own terms, a panel for each unit."""
    names = [name.removeprefix("train/") for name in columns if name.startswith("train/")]
    names = [name for name in names if not (name in _OF_THE_BOUND or name.startswith(_OF_A_LEVEL))]
    names = [name for name in names if name != "skipped" or columns[f"train/{name}"].any()][:_MOST_PARTS]
    styles = ("-", "--", "-.", ":")
    lines: dict[str, list[_Line]] = {}
    for place, name in enumerate(names):
        line = _Line(
            f"train/{name}", _NAMES.get(name, name.replace("_", " ")), COLOURS[place % len(COLOURS)], styles[place % 4]
        )
        lines.setdefault(_UNITS.get(name, _NATS), []).append(line)
        if name == "capacity":
            # It says something only beside what it bounds.
            lines[_NATS].append(_PARTS.lines[1])
    return [_Panel(_TITLES.get(unit, "Parts of the price"), unit, tuple(found)) for unit, found in lines.items()]


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
            own = values if line.best == "highest" else -values
            _mark_best(axes, epoch[kept], values[kept], own[kept], columns.get("valid/score", own)[kept])
    if panel.unit != _LR.unit:
        axes.legend(fontsize=8.5, frameon=False)
    if panel.unit == _SHARE:
        axes.set_ylim(-0.02, 1.02)
    if panel is _LR:
        axes.set_ylim(0, 1.08 * float(np.nanmax(columns["lr"][np.isfinite(columns["lr"])])) or 1.0)
    if missing:
        note(axes, f"{missing} value{'s' * (missing > 1)} not finite")


def _clear_legends(figure: Figure) -> None:
    """Room above the lines of each panel where its legend finds no free place among them."""
    figure.draw_without_rendering()  # only then is it known where legends lie
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is None:
            continue
        box = legend.get_window_extent()
        drawn = [line for line in axes.lines if line.get_transform() == axes.transData]  # no marks of an epoch
        if any(axes.transData.transform_path(line.get_path()).intersects_bbox(box, filled=False) for line in drawn):
            low, high = axes.get_ylim()
            share = min(1.15 * box.height / axes.get_window_extent().height, 0.6)
            axes.set_ylim(low, high + (high - low) * share / (1 - share))


def _mark_best(axes: Axes, epoch: Floats, values: Floats, own: Floats, scores: Floats) -> None:
    """A dotted line at the epoch with the best validation score, which is the checkpoint that is kept.

    Its value is told only where the score is what is drawn (`own`, higher is better): the best score of a beta-VAE
    need not be its best ELBO.
    """
    if not np.isfinite(scores).any():
        scores = own
    best = int(np.nanargmax(scores))
    same = np.allclose(scores, own, rtol=1e-5, atol=1e-6, equal_nan=True)
    label = f"best: {values[best]:.2f} at epoch {epoch[best]:.0f}" if same else f"kept: epoch {epoch[best]:.0f}"
    axes.axvline(
        float(epoch[best]),
        color=MUTED,
        linestyle=":",
        linewidth=1.2,
        label=label.replace("-", "−"),
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
