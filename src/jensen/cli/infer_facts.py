"""What an inference run remembers of its data, and data as an estimator takes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.infer_models import MODELS, Model
from jensen.errors import CheckpointError
from jensen.files import write_text
from jensen.sections import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jensen.cli.tables import Table

__all__ = ["FACTS_FILE", "Facts", "Loaded"]

FACTS_FILE = "inference.json"


class Facts(Section):
    """What an inference run remembers beside its posterior; inference.json in the run."""

    model: str
    variant: str = ""
    source: str
    """absolute path, or the name of a set that comes with scikit-learn"""
    columns: tuple[str, ...] = ()
    """for documents the words"""
    target: str | None = None
    label: str | None = None
    sequence: str | None = None
    standardise: bool = False
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    """what is subtracted from each column, and what it is then divided by, where they are standardised"""
    classes: tuple[str, ...] = ()
    """names of the target's classes, or of the symbols"""
    users: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    """names in ratings, in the order of their numbers"""
    rows: int = 0
    seconds: float = 0.0
    level: float = 0.95

    def write(self, folder: Path) -> None:
        """Into `folder`, atomically."""
        write_text(folder / FACTS_FILE, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """From the `folder` of a run; raises CheckpointError where it is missing or damaged."""
        path = folder / FACTS_FILE
        try:
            facts = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is missing or damaged: {error}") from None
        if facts.model not in MODELS:
            raise CheckpointError(f"{path} is about a model {facts.model!r} that this version does not have")
        return facts

    @property
    def spec(self) -> Model:
        """The model's entry."""
        return MODELS[self.model]


@dataclass(frozen=True)
class Loaded:
    """Data as an estimator takes them.

    `fit` are the arguments of `fit`, `predict` those of `predict` and the like.
    """

    facts: Facts
    fit: Mapping[str, Any]
    predict: Mapping[str, Any]
    table: Table
    """empty where the data are no table"""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What to call a run on these data by."""
        return Path(self.facts.source).stem
