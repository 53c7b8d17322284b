"""How near a reconstruction comes to a table, column by column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.autoencoders import EncoderDecoder
from jensen.autoencoders.model import NeuralModel
from jensen.config.columns import Column
from jensen.data import Batch
from jensen.likelihoods import TableLikelihood

__all__ = ["ColumnError", "column_errors", "column_rows", "made_errors", "rows_made"]

UNITS = {"real": "standard deviations, root mean square", "count": "root mean square", "categorical": "share wrong"}


@dataclass(frozen=True)
class ColumnError:
    """Of one column, over the rows in which it is known.

    Attributes:
        kind: real, categorical or count.
        value: root mean square error, of a real column as the model sees it (in standard deviations of the training
            data), of a count in its own unit; of a categorical one the share of rows whose most probable category is
            another. None where it is known nowhere.
        baseline: the same for what is best without looking: the mean, or the most frequent category, of these rows.
        known: rows in which it is known.
    """

    name: str
    kind: str
    value: float | None
    baseline: float | None
    known: int


def column_errors(columns: Sequence[Column], values: Tensor, made: Tensor) -> list[ColumnError]:
    """The errors of `made` against `values`, (N, columns) both, NaN in `values` where it is not known.

    Raises:
        ValueError: shapes differ, or there is another number of columns.
    """
    if values.shape != made.shape or values.shape[1:] != (len(columns),):
        raise ValueError(f"expected (N, {len(columns)}) twice, got {tuple(values.shape)} and {tuple(made.shape)}")
    found = []
    for place, column in enumerate(columns):
        known = ~values[:, place].isnan()
        truth, guess = values[known, place].double(), made[known, place].double()
        value: float | None = None
        baseline: float | None = None
        if len(truth) and column.kind == "categorical":
            value = (truth.round() != guess.round()).double().mean().item()
            baseline = 1 - torch.bincount(truth.round().long()).max().item() / len(truth)
        elif len(truth):
            value = math.sqrt((truth - guess).square().mean().item())
            baseline = math.sqrt((truth - truth.mean()).square().mean().item())
        found.append(ColumnError(column.name, column.kind, value, baseline, len(truth)))
    return found


def column_rows(errors: Sequence[ColumnError]) -> list[tuple[str, str, str]]:
    """Rows (name, value, unit and meaning) for a table of numbers."""
    best = {"categorical": "the most frequent category"}
    return [
        (
            f"error of {error.name}",
            f"{error.value:.3f}",
            f"{UNITS[error.kind]}, of the reconstruction ({error.baseline:.3f} for "
            f"{best.get(error.kind, 'the mean')} of these {error.known:,})",
        )
        for error in errors
        if error.value is not None and error.baseline is not None
    ]


def rows_made(model: NeuralModel, batch: Batch) -> Tensor | None:
    """Reconstructions of rows beside the rows, (batch, 2, columns), NaN where these are not scored.

    None where the likelihood is another, or the model has no code.
    """
    if not isinstance(model.likelihood, TableLikelihood) or not isinstance(model, EncoderDecoder):
        return None
    made = model.reconstruct(batch.x, condition=batch.condition)
    target = batch.target if batch.mask is None else batch.target.masked_fill(batch.mask == 0, torch.nan)
    return torch.stack([made, target], 1)


def made_errors(model: NeuralModel, made: Tensor | None) -> list[ColumnError]:
    """The errors of each column, from what `rows_made` gives; none of None."""
    if made is None or not isinstance(model.likelihood, TableLikelihood):
        return []
    return column_errors(model.likelihood.columns, made[:, 1], made[:, 0])
