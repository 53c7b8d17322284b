"""Hidden Markov models: states over time, transitions, what each state emits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen import plots
from jensen.cli.estimates import Named
from jensen.cli.present.base import Presentation, count, finite_rows, numbered, shown_number
from jensen.cli.present.mixture import component_names, covariances_of
from jensen.report import Picture, Row

if TYPE_CHECKING:
    from jensen.cli.infer_facts import Loaded

__all__ = ["HmmPresentation"]


class HmmPresentation(Presentation):
    """`BayesianGaussianHMM` and `BayesianCategoricalHMM`."""

    @property
    def gaussian(self) -> bool:
        """Whether states emit numbers rather than symbols."""
        return self.facts.variant == "gaussian"

    @property
    def states(self) -> list[str]:
        """Their names."""
        return list(numbered("state", self.fitted.n_states))

    def summary(self) -> str:
        """A sentence or two under the heading."""
        what = count(len(self.columns), "column") if self.gaussian else f"{len(self.facts.classes)} symbols"
        return (
            f"A hidden Markov model with {count(self.fitted.n_states, 'state')}, fitted to "
            f"{count(self.facts.rows, 'time')} of {self.data_name} ({what})."
        )

    def named(self) -> Mapping[str, Named]:
        """What latents are called."""
        to = [f"to {place}" for place in range(self.fitted.n_states)]
        emissions = Named("emissions", (self.states, self.facts.classes))
        if self.gaussian:
            emissions = component_names(self.columns, self.fitted.n_states, "state", "emissions")
        return {
            "initial": Named("first state", (self.states,)),
            "transitions": Named("transitions", ([f"from {name}" for name in self.states], to)),
            "emissions": emissions,
        }

    def own_facts(self) -> list[Row]:
        """How long states last."""
        stay = np.diag(self.fitted.transitions_)
        lengths = ", ".join(shown_number(float(value), 3) for value in 1 / np.maximum(1 - stay, 1e-12))
        return [Row("States last", lengths, "times", "Expected stay in each state, 1 / (1 − probability of staying).")]

    def data_facts(self, data: Loaded) -> list[Row]:
        """Density of an observation."""
        meaning = "Mean log-density of an observation given those before it."
        return [Row("Log-density", shown_number(self.fitted.score(**data.predict)), "nats a time", meaning)]

    def pictures(self, data: Loaded | None) -> list[Picture]:
        """States over time, transitions, emissions."""
        found = [] if data is None else [self._over_time(data)]
        found.append(
            Picture(
                "transitions",
                "Transitions",
                "The probability of going from the row's state to the column's, posterior mean.",
                f"Table of {self.fitted.n_states} by {self.fitted.n_states} probabilities.",
                plots.emission_table(
                    self.fitted.transitions_,
                    self.states,
                    self.states,
                    title="Transition probabilities",
                    x="to",
                    y="from",
                ),
            )
        )
        if not self.gaussian:
            found.append(self._symbols())
        elif data is not None:
            found.append(self._ellipses(data))
        return found

    def _over_time(self, data: Loaded) -> Picture:
        text = "The observations, and below them the probability of each state given the whole series."
        if np.isnan(data.table.x).any():
            text += " Where an observation is missing, the curve has a gap."
        if data.predict["lengths"] is not None:
            text += " The curve is broken where a sequence begins."
        return Picture(
            "states",
            "States over time",
            text,
            "Curve of the series over a band coloured by state.",
            plots.states(
                data.table.x,
                self.fitted.predict_proba(**data.predict),
                names=self.columns,
                state_names=self.states,
                symbols=self.facts.classes,
                lengths=data.predict["lengths"] or (),
            ),
        )

    def _symbols(self) -> Picture:
        return Picture(
            "emissions",
            "What each state emits",
            "The probability of each symbol in each state, posterior mean.",
            "Table of probabilities, a row a state and a column a symbol.",
            plots.emission_table(
                self.fitted.emissions_,
                self.states,
                self.facts.classes,
                x=self.columns[0],
                title="Emission probabilities",
            ),
        )

    def _ellipses(self, data: Loaded) -> Picture:
        x = data.predict["X"]
        seen = ~np.isnan(x).any(axis=1)
        path = self.fitted.predict(**data.predict)
        figure = plots.ellipses(
            finite_rows(x),
            self.fitted.means_,
            covariances_of(self.fitted, self.fitted.n_states, x.shape[1]),
            np.bincount(path, minlength=self.fitted.n_states) / len(path),
            path[seen],
            names=self.columns,
            title="What each state emits",
        )
        text = "Each state by the ellipses that hold half and 95% of its observations; points by their probable state."
        return Picture("emissions", "What each state emits", text, "Ellipses over points.", figure)

    def predictions(self, data: Loaded, level: float) -> dict[str, Any]:
        """The most probable path, and the probability of each state at each time."""
        shares = self.fitted.predict_proba(**data.predict)
        columns: dict[str, Any] = {"state": self.fitted.predict(**data.predict)}
        columns |= {f"probability {k}": shares[:, k] for k in range(shares.shape[1])}
        return {**columns, "log density": self.fitted.score_samples(**data.predict)}
