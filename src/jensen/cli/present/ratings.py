"""Matrix factorisation: which factors matter, which items they are about, expected against given ratings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen import plots
from jensen.cli.estimates import Named, estimates
from jensen.cli.present.base import Presentation, count, numbered, shown_number
from jensen.report import Estimate, Picture, Row

if TYPE_CHECKING:
    from jensen.cli.infer_facts import Loaded

__all__ = ["RatingPresentation"]

_MOST_NUMBERS = 100_000
_MOST_POINTS = 5_000
_ITEMS = 25
_TOP = 10


class RatingPresentation(Presentation):
    """`GaussianFactorisation` and `PoissonFactorisation`."""

    @property
    def gaussian(self) -> bool:
        """Whether numbers are ratings with normal noise rather than counts."""
        return self.facts.variant == "gaussian"

    @property
    def factors(self) -> list[str]:
        """Their names, most relevant first."""
        return list(numbered("factor", self.fitted.n_factors))

    def summary(self) -> str:
        """A sentence or two under the heading."""
        what = "rating" if self.gaussian else "count"
        return (
            f"{count(self.facts.rows, what)} of {count(len(self.facts.items), 'item')} by "
            f"{count(len(self.facts.users), 'user')} in {self.data_name}, as products of at most "
            f"{count(self.fitted.n_factors, 'factor')}."
        )

    def named(self) -> Mapping[str, Named]:
        """What latents are called."""
        return {
            "items": Named("items", (self.facts.items, self.factors)),
            "item_bias": Named("biases of items", (self.facts.items,)),
            "users": Named("users", (self.facts.users, [*self.factors, "bias"])),
            "noise": Named("noise precision"),
            "ard": Named("precision of a factor (large: not needed)", (self.factors,)),
            "popularity": Named("rates of items", (self.facts.items,)),
        }

    def estimates(self) -> list[Estimate]:
        """Few numbers first; users and items only where they are not too many for a table."""
        sizes = {"users": len(self.facts.users), "items": len(self.facts.items)}
        left = {name for name, size in sizes.items() if size * self.fitted.n_factors > _MOST_NUMBERS}
        posterior = {name: q for name, q in self.fitted.posterior_.items() if name not in left}
        ordered = dict(sorted(posterior.items(), key=lambda entry: entry[1].batch_shape.numel()))
        return estimates(ordered, self.named(), self.facts.level)

    def own_facts(self) -> list[Row]:
        """The noise."""
        if not self.gaussian:
            return []
        noise = float(np.sqrt(self.fitted.noise_variance_))
        return [Row("Noise", shown_number(noise), "", "Standard deviation of ratings around what is expected.")]

    def data_facts(self, data: Loaded) -> list[Row]:
        """The error of what was fitted to."""
        if not (self._complete and self.gaussian):  # of counts most pairs are zeros, which are not in the file
            return []
        error = self.fitted.predict(data.predict["pairs"]) - data.fit["X"][2]
        value = float(np.sqrt(np.mean(error**2)))
        return [Row("Error", shown_number(value), "", "Root mean square, of the numbers fitted to.")]

    @property
    def _complete(self) -> bool:
        """Whether users are there: a fit that was interrupted has none yet."""
        return "users" in self.fitted.posterior_

    def pictures(self, data: Loaded | None) -> list[Picture]:
        """Relevance of factors; items by factor; expected against given."""
        text = "What each factor adds to the variance of a rating; near zero it is switched off."
        text = text if self.gaussian else "The share of all expected counts that each factor makes."
        figure = plots.relevance(
            self.fitted.relevance_, title="Relevance of factors", y="variance" if self.gaussian else "share"
        )
        alt = f"Bar chart of {self.fitted.n_factors} factors."
        found = [Picture("relevance", "How many factors", text, alt, figure), self._items()]
        drawn = data is not None and self._complete and self.gaussian
        return [*found, self._against_truth(data)] if drawn and data is not None else found

    def _items(self) -> Picture:
        items = self.fitted.item_factors_
        if self.gaussian:
            top = np.argsort(-np.square(items).sum(axis=1), kind="stable")[:_ITEMS]
            shown = min(10, self.fitted.n_factors)
            figure = plots.loadings(
                items[top][:, :shown], [self.facts.items[place] for place in top], [str(k) for k in range(shown)]
            )
            text = f"The {len(top)} items that factors tell most apart; a factor's sign means nothing."
            return Picture("items", "Items by factor", text, "Table of colours, items by factors.", figure)
        order = np.argsort(-items, axis=0, kind="stable")[:_TOP].T
        words = [[self.facts.items[place] for place in row] for row in order]
        weights = [items[row, k] for k, row in enumerate(order)]
        figure = plots.topics(
            words, weights, shares=self.fitted.relevance_, title="Factors by their items", what="factor"
        )
        return Picture(
            "items", "Items by factor", "The items with most of each factor.", "Bar charts of items.", figure
        )

    def _against_truth(self, data: Loaded) -> Picture:
        users, items, values = data.fit["X"]
        step = -(-len(values) // _MOST_POINTS)
        expected = self.fitted.predict((users[::step], items[::step]))
        figure = plots.table_reconstructions(
            values[::step, None],
            expected[:, None],
            (self.columns[2],),
            unit="own unit",
            title="Expected and given",
            words=("given", "expected"),
        )
        text = "Each number that was fitted to, against what the model expects."
        return Picture("predictions", "Expected and given", text, "Scatter plot.", figure)

    def predictions(self, data: Loaded, level: float) -> dict[str, Any]:
        """What is expected of each pair, and how sure that is (without a rating's own noise)."""
        users, items = data.predict["pairs"]
        mean, deviation = self.fitted.predict((users, items), return_std=True)
        return {
            self.columns[0]: [self.facts.users[place] for place in users],
            self.columns[1]: [self.facts.items[place] for place in items],
            "expected": mean,
            "standard deviation": deviation,
        }
