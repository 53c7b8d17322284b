"""A table of what q says of each number, with its spread corrected where that is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.inference.coordinates import Coordinates, labels
from jensen.inference.model import Model
from jensen.inference.variational.base import Factor, Family
from jensen.inference.variational.layout import Layout

__all__ = ["Summary", "among_all", "corrected_sd", "mean_order", "optimum_error", "scalars", "summarise"]

_SHOWN, _LEAST = 40, 3  # rows of a printed table, and of each latent in it
_PARTIAL = ("sd (LR)", "error")
_DRAWS = 4_000


@dataclass(frozen=True)
class Summary:
    """What is known of each scalar number of the latents, on its support.

    Attributes:
        names: `mu`, `theta[0]`, ...; a categorical latent has a row for each value, `z=0`, its probability. Numbers
            that are constant by construction, such as the zeros of a Cholesky factor, have none.
        columns: (P,) each, by heading. `mean`, `sd`, `5%`, `95%` of q; `sd (LR)`, the standard deviation corrected by
            linear response; `error`, the standard deviation that the fit's finite draws leave in the mean;
            `mean (IW)`, `sd (IW)`, importance-reweighted. Only those that are known are there.
        remarks: lines about the fit.
    """

    names: list[str]
    columns: dict[str, Tensor]
    remarks: Sequence[str] = ()

    def __getitem__(self, name: str) -> dict[str, float]:
        if name not in self.names:
            raise KeyError(f"there is no {name!r}; there are: {', '.join(self.names[:_SHOWN])}")
        place = self.names.index(name)
        return {heading: float(column[place]) for heading, column in self.columns.items()}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def rows(self) -> list[dict[str, float | str]]:
        """One a number: its name and columns."""
        return [
            {"name": name, **{heading: float(column[place]) for heading, column in self.columns.items()}}
            for place, name in enumerate(self.names)
        ]

    def __str__(self) -> str:
        columns = self.columns.items()
        table = [["", *self.columns]]
        after: dict[int, str] = {}
        for latent, shown, left in self._shown():
            table += [
                [self.names[row], *(_cell(name, float(column[row])) for name, column in columns)] for row in shown
            ]
            if left:
                after[len(table) - 1] = f"... and {left:,} more of {latent}: see .rows"
        widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
        lines = []
        for place, row in enumerate(table):
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            lines.append("  ".join(cells))
            lines += [after[place]] if place in after else []
        return "\n".join([*lines, "", *self.remarks]).rstrip()

    def _shown(self) -> list[tuple[str, Sequence[int], int]]:
        """Of each latent the rows that are printed, whole elements, and how many are not."""
        elements = [name.partition("=")[0] for name in self.names]
        rows: dict[str, list[int]] = {}
        for place, element in enumerate(elements):
            rows.setdefault(element.partition("[")[0], []).append(place)
        found: list[tuple[str, Sequence[int], int]] = []
        for (latent, places), count in zip(rows.items(), _allotted([len(r) for r in rows.values()]), strict=True):
            together = sum(elements[place] == elements[places[0]] for place in places)  # values of a categorical one
            count = len(places) if count == len(places) else max(together, count - count % together)
            found.append((latent, places[:count], len(places) - count))
        return found


def _allotted(sizes: Sequence[int]) -> list[int]:
    """Rows of each latent in a table of about `_SHOWN`: all of those that have few, as many of each of the others."""
    shown, left = [0] * len(sizes), _SHOWN
    order = sorted(range(len(sizes)), key=lambda place: sizes[place])
    for done, place in enumerate(order):
        shown[place] = min(sizes[place], max(_LEAST, left // (len(order) - done)))
        left -= shown[place]
    return shown


def _cell(heading: str, value: float) -> str:
    """A number; a dash where it is not known of this one (a discrete latent has no linear response)."""
    return "-" if heading in _PARTIAL and math.isnan(value) else f"{value:.4g}"


def scalars(model: Model, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every scalar number of the latents by its label, (S,) each; of a categorical latent whether it is each value.

    Without those that are constant by construction (`Variable.varying`).
    """
    found: dict[str, Tensor] = {}
    for name, variable in model.latents.items():
        value = values[name]
        flat = value.reshape(len(value), -1)
        varying = variable.varying(model.plates).flatten().tolist()
        for place, label in enumerate(labels(name, value.shape[1:])):
            if not varying[place]:
                continue
            if variable.family == "categorical":
                assert variable.size is not None
                found.update({f"{label}={k}": (flat[:, place] == k).double() for k in range(variable.size)})
            else:
                found[label] = flat[:, place].double()
    return found


def _table(model: Model, values: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(scalars(model, values).values()), 1)


def summarise(
    model: Model,
    values: Mapping[str, Tensor],
    log_weights: Tensor | None = None,
    spread: Tensor | None = None,
    error: Tensor | None = None,
    remarks: Sequence[str] = (),
) -> Summary:
    """The table of draws.

    Args:
        values: draws of q, (S, *shape) each.
        log_weights: (S,), importance weights that may be believed.
        spread: corrected standard deviations, (P,).
        error: of the means, (P,).
    """
    names = list(scalars(model, {n: v[:1] for n, v in values.items()}))
    table = _table(model, values)
    columns = {"mean": table.mean(0), "sd": table.std(0)}
    if spread is not None:
        columns["sd (LR)"] = spread
    # By sorting: torch.quantile refuses large tables.
    ordered = table.sort(0).values
    for level in (0.05, 0.95):
        columns[f"{level:.0%}"] = ordered[round(level * (len(ordered) - 1))]
    if error is not None:
        columns["error"] = error
    if log_weights is not None:
        weights = log_weights.exp().to(table).unsqueeze(1)
        mean = (weights * table).sum(0)
        columns["mean (IW)"] = mean
        columns["sd (IW)"] = (weights * (table - mean).square()).sum(0).sqrt()
    return Summary(names, {heading: column.cpu() for heading, column in columns.items()}, tuple(remarks))


def _pushed(model: Model, coordinates: Coordinates, points: Tensor) -> Tensor:
    """Standard deviations of the numbers at real coordinates (S, D), NaN for discrete ones, (P,)."""
    values, _ = coordinates.constrain(points)
    whole = dict(values)
    for name, variable in model.latents.items():
        if variable.discrete:
            kind = torch.int64 if variable.family == "categorical" else points.dtype
            whole[name] = torch.zeros(len(points), *variable.full_shape(model.plates), dtype=kind)
    discrete = [
        model.latents[label.partition("=")[0].partition("[")[0]].discrete
        for label in scalars(model, {n: v[:1] for n, v in whole.items()})
    ]
    spread = _table(model, {name: whole[name].cpu() for name in model.latents}).std(0)
    return spread.masked_fill(torch.tensor(discrete), torch.nan)


def among_all(model: Model, continuous: Tensor) -> Tensor:
    """Numbers of the continuous latents' values, one after another, at their places in the summary; NaN elsewhere."""
    parts, start = [], 0
    for variable in model.latents.values():
        count = variable.full_shape(model.plates).numel()
        if variable.discrete:
            rows = count * (variable.size or 1) if variable.family == "categorical" else count
            parts.append(torch.full((rows,), torch.nan, dtype=continuous.dtype))
        else:
            varying = variable.varying(model.plates).flatten().to(continuous.device)
            parts.append(continuous[start : start + count][varying])
            start += count
    return torch.cat(parts)


def mean_order(family: Family, coordinates: Coordinates) -> Tensor:
    """Which coordinate each entry of `family.mean()` is, (D,): factors join latents in an order of their own."""
    places = {n: p[0] for n, p in coordinates.split(torch.arange(coordinates.size, dtype=torch.float64)[None]).items()}
    parts = []
    for factor in family.factors:
        layout = getattr(factor, "layout", None)
        if layout is not None:
            assert isinstance(layout, Layout)
            vector = torch.zeros(*layout.rows, layout.size, dtype=torch.float64)
            layout.write(vector, places)
            parts.append(vector.reshape(-1))
        else:
            assert isinstance(factor, Factor)
            parts += [places[name].reshape(-1) for name in factor.names if name in places]
    return torch.cat(parts).long()


def corrected_sd(model: Model, coordinates: Coordinates, mean: Tensor, covariance: Tensor) -> Tensor:
    """Standard deviations on the supports under N(mean, covariance) of the real coordinates, (P,).

    Linear response (Giordano, Broderick & Jordan 2018) corrects the covariance on the real scale; draws from it pushed
    through the transforms give that on the supports. Negative eigenvalues (q was no optimum) count as 0.
    """
    generator = torch.Generator().manual_seed(1)
    values, vectors = torch.linalg.eigh(covariance.cpu())
    noise = torch.randn(_DRAWS, len(mean), dtype=mean.dtype, generator=generator)
    return _pushed(model, coordinates, mean.cpu() + (noise * values.clamp(min=0).sqrt()) @ vectors.mT)


def optimum_error(model: Model, coordinates: Coordinates, mean: Tensor, error: Tensor) -> Tensor:
    """What an error (D,) of the real coordinates' mean is on the supports, (P,), at the transformed mean."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(_DRAWS, len(mean), dtype=mean.dtype, generator=generator)
    return _pushed(model, coordinates, mean.cpu() + error.cpu() * noise)
