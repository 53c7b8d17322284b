"""Logistic regression: coefficients, predicted against true classes, probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen import plots
from jensen.cli.estimates import Named
from jensen.cli.present.base import Presentation, count, shown_number
from jensen.cli.present.regression import INTERCEPT, forest
from jensen.report import Picture, Row

if TYPE_CHECKING:
    from jensen.cli.infer_facts import Loaded

__all__ = ["LogisticPresentation"]


class LogisticPresentation(Presentation):
    """`BayesianLogisticRegression`; its labels are places in the run's list of classes."""

    @property
    def classes(self) -> list[str]:
        """Their names, in the order of the estimator's columns."""
        return [self.facts.classes[place] for place in self.fitted.classes_.tolist()]

    @property
    def against(self) -> list[str]:
        """What each regression tells from the rest; of two classes there is one, for the second."""
        return [self.classes[1]] if len(self.classes) == 2 else self.classes

    def summary(self) -> str:
        """A sentence or two under the heading."""
        named = " or ".join(self.classes) if len(self.classes) < 6 else f"{len(self.classes)} classes"
        rest = "" if len(self.classes) == 2 else ", each class against the rest"
        return (
            f"Whether “{self.facts.target}” is {named}, as a function of {count(len(self.columns), 'column')}{rest}; "
            f"fitted to {count(self.facts.rows, 'row')} of {self.data_name}."
        )

    def named(self) -> Mapping[str, Named]:
        """What latents are called."""
        weights = (*self.columns, INTERCEPT) if self.fitted.fit_intercept else self.columns
        precisions = self.columns if self.fitted.ard else ("all columns",)
        return {
            "weights": Named("log-odds", (self.against, weights)),
            "relevance": Named("prior precision (large: not needed)", (self.against, precisions)),
        }

    @property
    def bound(self) -> str:
        """What was climbed."""
        return "ELBO" if self.fitted.bound_ == "ELBO" else f"{self.fitted.bound_} bound"

    @property
    def bound_meaning(self) -> str:
        """What it says."""
        below = "" if self.fitted.bound_ == "ELBO" else " It lies below the ELBO itself."
        return super().bound_meaning + below

    def data_facts(self, data: Loaded) -> list[Row]:
        """Accuracy and log-probability, of the rows fitted to."""
        x, y = data.fit["X"], data.fit["y"]
        most = np.bincount(y).max() / len(y)
        meaning = f"Of the rows fitted to; always giving the most frequent class scores {most:.1%}."
        score = float(self.fitted.score_samples(x, y).mean())
        return [
            Row("Right answers", f"{self.fitted.score(x, y):.1%}", "", meaning),
            Row("Log-probability", shown_number(score), "nats a row", "Of the true class, of the rows fitted to."),
        ]

    def pictures(self, data: Loaded | None) -> list[Picture]:
        """Coefficients, and predicted against true classes."""
        intercepts = {f"{name}, {INTERCEPT}" for name in self.against}
        rows = [row for row in self.estimates() if row.group == "log-odds" and row.name not in intercepts]
        text = "Change of the log-odds for one unit more in a column, all others kept. Grey intervals hold zero."
        found = [forest(rows, self.facts.level, title="Coefficients", text=text)]
        return found if data is None else [*found, self._against_truth(data)]

    def _against_truth(self, data: Loaded) -> Picture:
        x, y = data.fit["X"], data.fit["y"]
        guess = self.fitted.predict(x)
        shares = [
            [(guess[y == true] == given).mean() for given in self.fitted.classes_] for true in self.fitted.classes_
        ]
        return Picture(
            "classes",
            "True and predicted classes",
            "Of the rows of each class (fitted to), the share that is predicted to be of each.",
            "Table of shares, a row a true class and a column a predicted one.",
            plots.emission_table(
                shares, self.classes, self.classes, title="True and predicted", x="predicted", y="true"
            ),
        )

    def predictions(self, data: Loaded, level: float) -> dict[str, Any]:
        """The most probable class, the probability of each; for two classes with its interval."""
        x = data.predict["X"]
        probabilities = self.fitted.predict_proba(x)
        columns: dict[str, Any] = {"class": [self.facts.classes[place] for place in self.fitted.predict(x)]}
        columns |= {f"probability {name}": probabilities[:, place] for place, name in enumerate(self.classes)}
        if len(self.classes) == 2:
            low, high = self.fitted.predict_interval(x, level).T
            columns |= {f"lower {level:g}": low, f"upper {level:g}": high}
        return columns
