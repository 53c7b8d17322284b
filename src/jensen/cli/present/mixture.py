"""A mixture of Gaussians: ellipses over points, weights, clusters against known classes."""

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

__all__ = ["MixturePresentation", "component_names", "covariances_of"]

LEAST = 0.5
"""rows in a component that counts as used"""
_NAMES = {"coefficient": "mean", "noise standard deviation": "standard deviation"}


def component_names(columns: tuple[str, ...], total: int, what: str, title: str, *, shared: bool = False) -> Named:
    """Names of the numbers of K Gaussians over D columns; `shared` where all have one covariance."""
    tied = {"standard deviation": (columns,)} if shared else {}
    return Named(title, (numbered(what, total), columns), _NAMES, tied)


def covariances_of(estimator: Any, count: int, size: int) -> np.ndarray[Any, Any]:
    """`covariances_` of any type as (K, D, D)."""
    found = np.asarray(estimator.covariances_)
    kind = estimator.covariance_type
    if kind == "full":
        return found
    if kind == "tied":
        return np.broadcast_to(found, (count, size, size))
    scales = found[:, :, None] if kind == "diag" else found[:, None, None]
    return np.asarray(np.eye(size) * scales)


class MixturePresentation(Presentation):
    """`BayesianMixture`."""

    @property
    def used(self) -> int:
        """Components that hold at least half a row."""
        return int((self.fitted.counts_ >= LEAST).sum())

    def summary(self) -> str:
        """A sentence or two under the heading."""
        kinds = {"full": "of any shape", "diag": "along the axes", "spherical": "round", "tied": "of one common shape"}
        fitted = self.fitted
        prior = "a Dirichlet process" if fitted.weight_prior == "process" else "a Dirichlet prior"
        return (
            f"A mixture of at most {fitted.n_components} Gaussians, {kinds[fitted.covariance_type]}, with {prior} on "
            f"the weights, fitted to {count(self.facts.rows, 'row')} of {self.data_name} "
            f"({count(len(self.columns), 'column')})."
        )

    def named(self) -> Mapping[str, Named]:
        """What latents are called."""
        total, tied = self.fitted.n_components, self.fitted.covariance_type == "tied"
        weights = "sticks" if self.fitted.weight_prior == "process" else "weights"
        components = component_names(self.columns, total, "component", "components", shared=tied)
        return {"weights": Named(weights, (numbered("component", total),)), "components": components}

    def own_facts(self) -> list[Row]:
        """How many components are used."""
        meaning = "Components that hold at least half a row; the others are as the prior has them."
        return [Row("Components used", f"{self.used} of {self.fitted.n_components}", "", meaning)]

    def data_facts(self, data: Loaded) -> list[Row]:
        """Density of a row, and agreement with known classes."""
        score = self.fitted.score(data.predict["X"])
        meaning = "Mean log-density of a row under the posterior predictive, a mixture of Student-t distributions."
        rows = [Row("Log-density", shown_number(score), "nats a row", meaning)]
        labels = data.table.labels
        if labels is not None:
            from sklearn.metrics import adjusted_rand_score

            value = adjusted_rand_score(labels.places, self.fitted.predict(data.predict["X"]))
            meaning = f"Agreement of components with “{labels.column}”: 1 the same division, 0 as by chance."
            rows.append(Row("Adjusted Rand index", f"{value:.3f}".replace("-", "−"), "", meaning))
        return rows

    def pictures(self, data: Loaded | None) -> list[Picture]:
        """Ellipses over the points; weights; components against known classes."""
        found = [] if data is None else [self._ellipses(data)]
        found.append(
            Picture(
                "weights",
                "Sizes",
                "How many rows each component holds, largest first.",
                f"Bar chart of the sizes of {self.fitted.n_components} components.",
                plots.relevance(
                    self.fitted.counts_.clip(0),
                    threshold=LEAST,
                    title="Sizes",
                    x="component, largest first",
                    y="expected rows",
                ),
            )
        )
        if data is not None and data.table.labels is not None:
            found.append(self._against_classes(data))
        return found

    def _ellipses(self, data: Loaded) -> Picture:
        x, fitted = data.predict["X"], self.fitted
        shape = (fitted.n_components, x.shape[1])
        text = (
            "Each component by the ellipses that hold half and 95% of its mass; points in the colour of the component "
        )
        text += "that they most probably belong to."
        if x.shape[1] > 2:
            text += (
                " Drawn in the plane of the data's first two principal components: what overlaps there may be apart."
            )
        figure = plots.ellipses(
            x,
            fitted.means_,
            covariances_of(fitted, *shape),
            fitted.counts_.clip(0) / self.facts.rows,
            fitted.predict(x),
            names=self.columns,
            least=LEAST / self.facts.rows,
            title="Components over the data",
        )
        return Picture("components", "Components", text, f"{self.used} ellipses over {len(x)} points.", figure)

    def _against_classes(self, data: Loaded) -> Picture:
        labels = data.table.labels
        assert labels is not None
        places = self.fitted.predict(data.predict["X"])
        used = np.unique(places)
        table = np.array([[(labels.places[places == k] == c).mean() for c in range(len(labels.names))] for k in used])
        return Picture(
            "classes",
            f"Components and “{labels.column}”",
            "Of the rows in each component, the share of each known class, which the model did not see.",
            "Table of shares, a row a component and a column a class.",
            plots.emission_table(
                table,
                [f"component {k}" for k in used],
                labels.names,
                title="Shares of known classes",
                x=labels.column,
                y="",
            ),
        )

    def predictions(self, data: Loaded, level: float) -> dict[str, Any]:
        """The most probable component, the probability of each, the log-density."""
        x = data.predict["X"]
        shares = self.fitted.predict_proba(x)
        columns: dict[str, Any] = {"component": shares.argmax(axis=1)}
        columns |= {f"probability {k}": shares[:, k] for k in range(shares.shape[1])}
        return {**columns, "log density": self.fitted.score_samples(x)}
