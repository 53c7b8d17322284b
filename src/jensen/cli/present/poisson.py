"""Poisson regression: coefficients, rates against counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jensen import plots
from jensen.cli.estimates import Named
from jensen.cli.present.base import Presentation, count, shown_number
from jensen.cli.present.regression import INTERCEPT, forest
from jensen.report import Picture, Row

if TYPE_CHECKING:
    from jensen.cli.infer_facts import Loaded

__all__ = ["PoissonPresentation"]


class PoissonPresentation(Presentation):
    """`BayesianPoissonRegression`."""

    def summary(self) -> str:
        """A sentence or two under the heading."""
        return (
            f"Counts of “{self.facts.target}”, the logarithm of whose rate is a linear function of "
            f"{count(len(self.columns), 'column')}; fitted to {count(self.facts.rows, 'row')} of {self.data_name}."
        )

    def named(self) -> Mapping[str, Named]:
        """What latents are called; there is one row of targets."""
        weights = (*self.columns, INTERCEPT) if self.fitted.fit_intercept else self.columns
        precisions = self.columns if self.fitted.ard else ("all columns",)
        return {
            "weights": Named("log-rate", ([""], weights)),
            "relevance": Named("prior precision (large: not needed)", ([""], precisions)),
        }

    def data_facts(self, data: Loaded) -> list[Row]:
        """Log-probability of the counts fitted to."""
        score = float(self.fitted.score_samples(data.fit["X"], data.fit["y"]).mean())
        return [Row("Log-probability", shown_number(score), "nats a row", "Of the counts fitted to.")]

    def pictures(self, data: Loaded | None) -> list[Picture]:
        """Coefficients, and rates against counts."""
        rows = [row for row in self.estimates() if row.group == "log-rate" and row.name != INTERCEPT]
        text = "Change of the log-rate for one unit more in a column, all others kept: 0.1 is about ten per cent more. "
        found = [forest(rows, self.facts.level, title="Coefficients", text=text + "Grey intervals hold zero.")]
        if data is None:
            return found
        x, y = data.fit["X"], data.fit["y"]
        figure = plots.table_reconstructions(
            y[:, None],
            self.fitted.predict(x)[:, None],
            (str(self.facts.target),),
            unit="per row",
            title="Rate and count",
            words=("count", "rate"),
        )
        text = "Each row that was fitted to. Counts scatter around their rate by its square root."
        return [
            *found,
            Picture("predictions", "Rates against counts", text, "Scatter plot of rates and counts.", figure),
        ]

    def predictions(self, data: Loaded, level: float) -> dict[str, Any]:
        """The expected count, its standard deviation, and the interval of the rate."""
        x = data.predict["X"]
        mean, deviation = self.fitted.predict(x, return_std=True)
        low, high = self.fitted.predict_interval(x, level).T
        return {
            "mean": mean,
            "standard deviation": deviation,
            f"rate lower {level:g}": low,
            f"rate upper {level:g}": high,
        }
