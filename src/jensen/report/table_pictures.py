"""Pictures of tables: each column by what it holds."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from jensen import plots
from jensen.likelihoods import TableLikelihood
from jensen.report.material import HeldOut, Material

__all__ = ["drawn_rows", "spread", "table_reconstructions", "table_samples"]


def table_reconstructions(material: Material, held_out: HeldOut) -> Figure:
    """Reconstruction against original, in the table's own units where these are known."""
    own = _own(material)
    return plots.table_reconstructions(
        material.in_own_units(held_out.target), material.in_own_units(held_out.decoded), **own
    )


def table_samples(material: Material, held_out: HeldOut, drawn: Tensor, **classes: Any) -> Figure:
    """Distribution of each column in test data and in `drawn` rows."""
    own = _own(material)
    return plots.table_samples(
        material.in_own_units(held_out.clean), material.in_own_units(drawn), **{**own, **classes}
    )


def drawn_rows(material: Material, count: int, condition: Tensor | None = None) -> Tensor:
    """New rows, (count, columns): of likelihood table drawn from p(x | z), of another one its means."""
    likelihood = material.model.likelihood
    if not isinstance(likelihood, TableLikelihood):
        return material.model.sample(count, condition=condition)
    likelihood.draws = True
    try:
        return material.model.sample(count, condition=condition)
    finally:
        likelihood.draws = False


def spread(material: Material) -> str:
    """What to expect of the spread of such rows, in a sentence after a space."""
    if isinstance(material.model.likelihood, TableLikelihood):
        return " Rows are drawn from p(x | z), so that they should spread as the data do."
    return " Means of p(x | z) are shown, so samples spread less than data by the noise that the likelihood would add."


def _own(material: Material) -> dict[str, Any]:
    columns = material.columns
    if not columns:
        return {}
    return {
        "names": [column.name for column in columns],
        "categories": [column.categories for column in columns],
        "unit": "",
    }
