"""Linear regression: a forest of coefficients, which columns matter, predictions against truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen import plots
from jensen.cli.estimates import Named
from jensen.cli.present.base import Presentation, count, shown_number
from jensen.report import Estimate, Picture, Row

if TYPE_CHECKING:
    from jensen.cli.infer_facts import Loaded

__all__ = ["INTERCEPT", "RegressionPresentation", "forest"]

INTERCEPT = "intercept, at the columns' means"
"""What the last weight is called where it is one of the weights."""


def forest(rows: list[Estimate], level: float, *, title: str, text: str) -> Picture:
    """A forest plot of some estimates."""
    figure = plots.intervals(
        [row.name for row in rows],
        [row.mean for row in rows],
        [row.lower for row in rows],
        [row.upper for row in rows],
        title=f"{title}: mean and {100 * level:g}% interval",
    )
    return Picture("coefficients", title, text, f"Means and intervals of {len(rows)} coefficients.", figure)


class RegressionPresentation(Presentation):
    """`BayesianLinearRegression`."""

    def summary(self) -> str:
        """A sentence or two under the heading."""
        ard = ", with automatic relevance determination" if self.fitted.ard else ""
        return (
            f"“{self.facts.target}” as a linear function of {count(len(self.columns), 'column')}{ard}, fitted to "
            f"{count(self.facts.rows, 'row')} of {self.data_name}."
        )

    def named(self) -> Mapping[str, Named]:
        """What latents are called."""
        noise = {"noise standard deviation": ()}
        return {
            "weights": Named("weights", (self.columns,), axes_of=noise),
            "relevance": Named("prior precision (large: not needed)", (self.columns,)),
        }

    def estimates(self) -> list[Estimate]:
        """The intercept first: it is integrated out, so its interval is that of the plane at zero."""
        origin = np.zeros((1, len(self.columns)))
        ((lower, upper),) = self.fitted.predict_interval(origin, self.facts.level, noise=False)
        intercept = Estimate("intercept", "intercept", float(self.fitted.intercept_), float(lower), float(upper))
        return [intercept, *super().estimates()] if self.fitted.fit_intercept else super().estimates()

    def own_facts(self) -> list[Row]:
        """The noise."""
        meaning = f"Standard deviation of “{self.facts.target}” around the plane: what the columns do not explain."
        return [Row("Noise", shown_number(self.fitted.noise_), "", meaning)]

    def data_facts(self, data: Loaded) -> list[Row]:
        """R squared, and how many targets lie in their intervals."""
        x, y = data.fit["X"], data.fit["y"]
        low, high = self.fitted.predict_interval(x, self.facts.level).T
        inside = ((y >= low) & (y <= high)).mean()
        return [
            Row("R²", f"{self.fitted.score(x, y):.3f}".replace("-", "−"), "", "Share of the variance explained here."),
            Row(
                "In their intervals",
                f"{inside:.1%}",
                "",
                f"Of the rows fitted to; {self.facts.level:.0%} is what the intervals promise for new ones.",
            ),
        ]

    def pictures(self, data: Loaded | None) -> list[Picture]:
        """Coefficients; relevance; predictions against truth."""
        coefficients = [row for row in self.estimates() if row.group == "weights: coefficient"]
        text = "Change of the prediction for one unit more in a column, all others kept. Grey intervals hold zero."
        found = [forest(coefficients, self.facts.level, title="Coefficients", text=text)]
        if self.fitted.ard:
            found.append(self._relevance())
        if data is not None:
            found.append(self._against_truth(data))
        return found

    def _relevance(self) -> Picture:
        spread = self.fitted.noise_ / np.sqrt(self.fitted.relevance_)
        return Picture(
            "relevance",
            "Which columns matter",
            "The prior standard deviation that was learned for each coefficient: near zero, the column is switched "
            "off. It is in the coefficient's own unit, so compare columns of like scale.",
            f"Bar chart of {len(spread)} columns.",
            plots.relevance(
                spread, self.columns, title="Learned prior width", x="column, widest first", y="standard deviation"
            ),
        )

    def _against_truth(self, data: Loaded) -> Picture:
        x, y = data.fit["X"], data.fit["y"]
        return Picture(
            "predictions",
            "Predictions against truth",
            "Each row that was fitted to; on the dashed line the prediction is right.",
            "Scatter plot of predictions against true values.",
            plots.table_reconstructions(
                y[:, None],
                self.fitted.predict(x)[:, None],
                (str(self.facts.target),),
                unit="own unit",
                title="Prediction against truth",
                words=("truth", "prediction"),
            ),
        )

    def predictions(self, data: Loaded, level: float) -> dict[str, Any]:
        """Mean and predictive interval."""
        x = data.predict["X"]
        low, high = self.fitted.predict_interval(x, level).T
        return {"mean": self.fitted.predict(x), f"lower {level:g}": low, f"upper {level:g}": high}
