"""Principal components and factor analysis: which factors are needed, what they do, where the rows lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen import plots
from jensen.cli.estimates import Named
from jensen.cli.present.base import Presentation, count, numbered, shown_number
from jensen.report import Picture, Row

if TYPE_CHECKING:
    from jensen.cli.infer_facts import Loaded

__all__ = ["FactorPresentation"]

_MOST_ROWS = 5_000


class FactorPresentation(Presentation):
    """`BayesianPCA` and `BayesianFactorAnalysis`."""

    @property
    def own_noise(self) -> bool:
        """Whether every column has noise of its own."""
        return self.facts.model == "factors"

    @property
    def factors(self) -> list[str]:
        """Their names, most relevant first."""
        return list(numbered("factor", len(self.fitted.components_)))

    def summary(self) -> str:
        """A sentence or two under the heading."""
        noise = "noise of its own in each column" if self.own_noise else "the same noise in each column"
        return (
            f"{count(self.facts.rows, 'row')} of {self.data_name} ({count(len(self.columns), 'column')}) as at most "
            f"{count(len(self.factors), 'factor')} and {noise}."
        )

    def named(self) -> Mapping[str, Named]:
        """What latents are called."""
        return {
            "loadings": Named("loadings", (self.columns, self.factors)),
            "mean": Named("mean", (self.columns,)),
            "noise": Named("noise precision", (self.columns,) if self.own_noise else ()),
            "ard": Named("precision of a factor's loadings (large: not needed)", (self.factors,)),
        }

    def own_facts(self) -> list[Row]:
        """Factors that are kept, and noise."""
        meaning = "Factors whose loadings are more signal than uncertainty; the others are switched off."
        rows = [Row("Factors used", f"{self.fitted.n_relevant_} of {len(self.factors)}", "", meaning)]
        if self.own_noise:
            return rows
        noise = float(np.sqrt(self.fitted.noise_variance_))
        meaning = "Standard deviation of what the factors leave unexplained, in every column."
        return [*rows, Row("Noise", shown_number(noise), "", meaning)]

    def data_facts(self, data: Loaded) -> list[Row]:
        """Density of a row, and how much was missing."""
        x = data.predict["X"]
        meaning = "Mean log-density of what is observed of a row."
        rows = [Row("Log-density", shown_number(self.fitted.score(x)), "nats a row", meaning)]
        missing = int(np.isnan(x).sum())
        if missing:
            meaning = "Values that were missing; `jensen infer predict` fills them in."
            rows.append(Row("Missing", f"{missing:,} of {x.size:,}", "", meaning))
        return rows

    def pictures(self, data: Loaded | None) -> list[Picture]:
        """Relevance, loadings, rows in the plane of the first two factors."""
        found = [self._relevance(), self._loadings()]
        return found if data is None else [*found, self._plane(data)]

    def _relevance(self) -> Picture:
        return Picture(
            "relevance",
            "How many factors",
            "The standard deviation that each factor gives to a row, all columns together: near zero, it is off.",
            f"Bar chart of {len(self.factors)} factors.",
            plots.relevance(np.sqrt(self.fitted.relevance_), title="Relevance of factors", y="standard deviation"),
        )

    def _loadings(self) -> Picture:
        shown = max(1, min(20, self.fitted.n_relevant_))
        text = "What one unit of a factor adds to each column; a factor's sign means nothing."
        return Picture(
            "loadings",
            "Loadings",
            text + ("" if shown == len(self.factors) else f" The first {count(shown, 'factor')}, most relevant first."),
            f"Table of colours, {len(self.columns)} columns by {shown} factors.",
            plots.loadings(self.fitted.components_[:shown].T, self.columns, [str(k) for k in range(shown)]),
        )

    def _plane(self, data: Loaded) -> Picture:
        step = -(-len(data.table.x) // _MOST_ROWS)
        codes = self.fitted.transform(data.table.x[::step])[:, :2]
        labels = data.table.labels
        classes = None if labels is None or len(labels.names) > 20 else labels
        text = "Posterior means of the first two factors of each row"
        text += "." if classes is None else f", coloured by “{classes.column}”, which the model did not see."
        figure = plots.latent_space(
            codes,
            None if classes is None else classes.places[::step],
            () if classes is None else classes.names,
            title="Rows by their first factors",
        )
        return Picture("rows", "Rows by their first factors", text, f"Scatter plot of {len(codes)} rows.", figure)

    def predictions(self, data: Loaded, level: float) -> dict[str, Any]:
        """Factors of each row, and its missing values with their standard deviations."""
        x = data.predict["X"]
        factors = self.fitted.transform(x)
        columns: dict[str, Any] = {name: factors[:, place] for place, name in enumerate(self.factors)}
        gaps = np.flatnonzero(np.isnan(x).any(axis=0))
        if len(gaps):
            values, deviations = self.fitted.impute(x)
            for place in gaps:
                columns[f"{self.columns[place]}, filled"] = values[:, place]
                columns[f"{self.columns[place]}, standard deviation"] = deviations[:, place]
        return columns
