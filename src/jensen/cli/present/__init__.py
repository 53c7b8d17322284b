"""How each model of `jensen infer` shows itself: names of its numbers, headline facts, pictures, predictions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jensen.cli.present.base import Presentation

if TYPE_CHECKING:
    from jensen.cli.infer_facts import Facts

__all__ = ["Presentation", "present"]

_HOMES = {
    "factors": "factors:FactorPresentation",
    "gaussian": "gaussian:GaussianPresentation",
    "hmm": "hmm:HmmPresentation",
    "lda": "lda:TopicPresentation",
    "logistic": "logistic:LogisticPresentation",
    "mixture": "mixture:MixturePresentation",
    "pca": "factors:FactorPresentation",
    "poisson": "poisson:PoissonPresentation",
    "ratings": "ratings:RatingPresentation",
    "regression": "regression:RegressionPresentation",
}


def present(facts: Facts, estimator: Any) -> Presentation:
    """The presentation of a fitted estimator."""
    module, name = _HOMES[facts.model].split(":")
    made: Presentation = getattr(import_module(f"jensen.cli.present.{module}"), name)(facts, estimator)
    return made
