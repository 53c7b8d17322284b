"""What every model's presentation has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen import plots
from jensen.cli.estimates import Named, estimates
from jensen.report import Estimate, Picture, Row

if TYPE_CHECKING:
    from jensen.cli.infer_facts import Facts, Loaded

__all__ = ["Presentation", "count", "shown_number"]


class Presentation(ABC):
    """How one model shows itself; a subclass says what its latents are called and draws its pictures.

    Args:
        facts: what the run remembers of its data.
        estimator: fitted.
    """

    def __init__(self, facts: Facts, estimator: Any) -> None:
        self.facts = facts
        self.fitted = estimator

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.facts.columns

    @property
    def data_name(self) -> str:
        """The data's name, as a reader knows it."""
        return Path(self.facts.source).name

    @property
    def bound(self) -> str:
        """What was climbed, as it is called."""
        return "ELBO"

    @property
    def bound_meaning(self) -> str:
        """What it says."""
        return (
            "What was climbed: a lower bound on the log-probability that the model gives to all the data together. "
            "Higher is better, for the same data."
        )

    @abstractmethod
    def summary(self) -> str:
        """A sentence or two under the heading."""

    def named(self) -> Mapping[str, Named]:
        """What latents are called."""
        return {}

    def estimates(self) -> list[Estimate]:
        """Rows of the table of posterior means and intervals."""
        return estimates(self.fitted.posterior_, self.named(), self.facts.level)

    def own_facts(self) -> list[Row]:
        """What tells most about the posterior."""
        return []

    def data_facts(self, data: Loaded) -> list[Row]:
        """The same where the data are needed for it."""
        return []

    def pictures(self, data: Loaded | None) -> list[Picture]:
        """The model's own pictures; without data those that need none."""
        return []

    @abstractmethod
    def predictions(self, data: Loaded, level: float) -> dict[str, Any]:
        """Columns of a table with a row for each row of the data."""

    def elbo(self) -> Picture:
        """How the bound rose."""
        trace = self.fitted.elbo_trace_
        arguments = self.fitted.get_params()
        method, size = arguments.get("method"), arguments.get("batch_size")
        whole = method != "svi" and (size is None or method in ("auto", "cavi"))
        text = "The bound after each sweep" if whole else "Estimates of the bound from minibatches, a value a pass"
        text += "; on the right how far it still was below the best, on a logarithmic scale." if whole else "."
        return Picture(
            "elbo",
            "How the bound rose",
            text,
            f"Curve of {len(trace)} values of the evidence lower bound in nats.",
            plots.elbo_curve(trace, gap=whole, title=f"{self.bound} (higher is better)"),
        )


def count(number: int, what: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def shown_number(value: float, digits: int = 4) -> str:
    """A number for people, with a true minus sign."""
    return f"{value:,.{digits}g}".replace("-", "−")


def numbered(what: str, total: int) -> Sequence[str]:
    """ "what 0", "what 1", ..."""
    return [f"{what} {place}" for place in range(total)]


def finite_rows(x: Any) -> Any:
    """The rows without NaN."""
    return x[~np.isnan(x).any(axis=1)]
