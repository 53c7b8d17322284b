"""What a model needs to know of its data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import yaml

from jensen.config.columns import Column
from jensen.data import Data
from jensen.data.condition import Condition
from jensen.data.own import fingerprint, is_own
from jensen.errors import CheckpointError, ConfigError
from jensen.files import write_text
from jensen.sections import read_yaml

__all__ = ["DataFacts"]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What a model needs to know of the data that it was trained on."""

    shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    levels: int | None
    class_names: tuple[str, ...]
    condition_shape: tuple[int, ...] | None = None
    """of what the model is told beside the datum; None: nothing"""
    condition_names: tuple[str, ...] = ()
    """of its classes or columns"""
    condition_mean: tuple[float, ...] = ()
    """of each column, in its own units; the model sees (value - mean) / sd. Empty where nothing is standardised"""
    condition_sd: tuple[float, ...] = ()
    symbols: tuple[str, ...] = ()
    """of its levels, where they are symbols and not grey levels"""
    columns: tuple[Column, ...] = ()
    """what each column of a table holds, where these are not all real numbers that are always known"""
    vocabulary: tuple[str, ...] = ()
    """the word of each column, where a datum is how often each word is in a document"""
    mean: tuple[float, ...] = ()
    """of the training data, a number a column or channel: the model sees (value - mean) / sd. Empty: nothing is
    standardised"""
    sd: tuple[float, ...] = ()
    fingerprint: str = ""
    """of data of one's own, see `jensen.data.own.fingerprint`"""

    @classmethod
    def of(cls, data: Data) -> Self:
        """The facts of loaded data."""
        facts = cls(data.shape, data.target_shape, data.levels, tuple(data.class_names), symbols=data.dataset.symbols)
        seen = data.train.transform_function
        facts = replace(
            facts,
            columns=data.columns,
            vocabulary=data.dataset.vocabulary,
            mean=() if seen.mean is None else tuple(seen.mean.flatten().tolist()),
            sd=() if seen.sd is None else tuple(seen.sd.flatten().tolist()),
            fingerprint=fingerprint(data.config) if is_own(data.config.name) else "",
        )
        return facts.told(data.train.condition)

    def told(self, condition: Condition | None) -> Self:
        """The same, of a model that is told this beside the datum; None: nothing."""
        if condition is None:
            return replace(self, condition_shape=None, condition_names=(), condition_mean=(), condition_sd=())
        return replace(
            self,
            condition_shape=condition.shape,
            condition_names=condition.names,
            condition_mean=condition.mean,
            condition_sd=condition.sd,
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """From the file that `write` wrote; raises `CheckpointError` if it is damaged.

        What a file says nothing of, the model is told nothing of.
        """
        try:
            facts = read_yaml(path)
            # What is cut off would be taken for what is not there; files before the first format have no end mark.
            if "format" in facts and path.read_text(encoding="utf-8").split()[-1:] != ["..."]:
                raise ConfigError("its end is missing, which should be a line of three dots")
            return cls(
                tuple(facts["shape"]),
                tuple(facts["target_shape"]),
                facts["levels"],
                tuple(facts["class_names"]),
                tuple(facts["condition_shape"]) if facts.get("condition_shape") is not None else None,
                tuple(facts.get("condition_names", ())),
                tuple(facts.get("condition_mean", ())),
                tuple(facts.get("condition_sd", ())),
                tuple(facts.get("symbols", ())),
                tuple(Column(**column) for column in facts.get("columns", ())),
                tuple(facts.get("vocabulary", ())),
                tuple(facts.get("mean", ())),
                tuple(facts.get("sd", ())),
                facts.get("fingerprint", ""),
            )
        except (ConfigError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is missing or damaged ({error})") from None

    def write(self, path: Path) -> None:
        """As YAML."""
        facts = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        facts["columns"] = [column.model_dump(mode="json") for column in self.columns]
        write_text(path, yaml.safe_dump({"format": FORMAT, **facts}, sort_keys=False, explicit_end=True))
