"""Run directories: a run is trained, resumed and looked at through one.

runs/NAME/
    config.yaml     the whole configuration
    data.yaml       shapes, grey levels and class names: what a model needs to be rebuilt without its data
    splits.npz      which examples were for training, validation and testing
    metrics.csv     a row an epoch
    checkpoints/    see `jensen.training.checkpoint`
    evaluation.json, figures/, report.html     by `jensen evaluate` and `jensen report`
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self
from zipfile import BadZipFile

import numpy as np
import torch
import yaml
from filelock import FileLock, Timeout
from torch import Tensor

from jensen.autoencoders import EncoderDecoder, make_model
from jensen.config import Config
from jensen.data import Data, load_data
from jensen.data.visible import PARTS
from jensen.errors import CheckpointError, ConfigError
from jensen.files import write_atomically, write_text
from jensen.sections import read_yaml
from jensen.training.checkpoint import load_state, load_weights

__all__ = ["DataFacts", "Run", "Told", "list_runs", "read_metrics", "write_metrics"]

Told = Literal["label", "properties", "image", "part"]


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

    @classmethod
    def of(cls, data: Data) -> Self:
        """The facts of loaded data."""
        facts = (data.shape, data.target_shape, data.levels, tuple(data.class_names))
        told = data.train.condition
        return cls(*facts) if told is None else cls(*facts, told.shape, told.names, told.mean, told.sd)

    @classmethod
    def read(cls, path: Path) -> Self:
        """From the file that `write` wrote; raises `CheckpointError` if it is damaged.

        What a file says nothing of, the model is told nothing of.
        """
        try:
            facts = read_yaml(path)
            return cls(
                tuple(facts["shape"]),
                tuple(facts["target_shape"]),
                facts["levels"],
                tuple(facts["class_names"]),
                tuple(facts["condition_shape"]) if facts.get("condition_shape") is not None else None,
                tuple(facts.get("condition_names", ())),
                tuple(facts.get("condition_mean", ())),
                tuple(facts.get("condition_sd", ())),
            )
        except (ConfigError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is missing or damaged ({error})") from None

    def write(self, path: Path) -> None:
        """As YAML."""
        facts = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        write_text(path, yaml.safe_dump(facts, sort_keys=False))


@dataclass(frozen=True)
class Run:
    """A run directory. Get one from `fit`, or with `Run.open`."""

    path: Path
    config: Config

    @staticmethod
    def refuse_taken(path: Path) -> None:
        """Raise ConfigError if there is a run already, or something else, at this path."""
        if (path / "config.yaml").exists():
            raise ConfigError(f"{path} holds a run already: continue it with --resume {path}, or choose another --run")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path} exists and is not an empty directory: choose another --run")

    @classmethod
    def create(cls, path: Path, config: Config, data: Data) -> Self:
        """Make the directory and record configuration, data and splits.

        Raises:
            ConfigError: there is a run already, or something else, at this path.
        """
        cls.refuse_taken(path)
        path.mkdir(parents=True, exist_ok=True)
        train, valid, test = (data.splits[name].to(torch.int32).numpy() for name in ("train", "valid", "test"))

        def write_splits(file: Path) -> None:
            with file.open("wb") as handle:
                np.savez_compressed(handle, train=train, valid=valid, test=test)

        write_atomically(path / "splits.npz", write_splits)
        DataFacts.of(data).write(path / "data.yaml")
        write_text(path / "config.yaml", config.to_yaml())  # last: with it the directory is a run
        return cls(path, config)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """An existing run.

        Raises:
            CheckpointError: there is none at this path, or its configuration cannot be read.
        """
        path = Path(path)
        if not (path / "config.yaml").is_file():
            what = "is no run (it has no config.yaml)" if path.exists() else "does not exist"
            raise CheckpointError(f"{path} {what}; `jensen runs` lists those that there are")
        try:
            config = Config.from_yaml(path / "config.yaml")
            # What is cut off would be taken for defaults.
            if (path / "config.yaml").read_text(encoding="utf-8").split()[-1:] != ["..."]:
                raise ConfigError("its end is missing, which should be a line of three dots")
            return cls(path, config)
        except ConfigError as error:
            raise CheckpointError(f"{path / 'config.yaml'}: {error}") from None

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def facts(self) -> DataFacts:
        """Shapes, grey levels and class names of its data."""
        return DataFacts.read(self.path / "data.yaml")

    @property
    def told(self) -> Told | None:
        """What its model is told beside the datum; None: nothing."""
        condition, shape = self.config.data.condition, self.facts.condition_shape
        if condition is None or shape is None:
            return None
        if condition == "label":
            return "label"
        if condition in PARTS:
            return "part"
        return "image" if len(shape) == 3 else "properties"

    @contextmanager
    def training_alone(self, alone: bool = True) -> Iterator[None]:
        """Keep other processes from training this run meanwhile; `alone` False does nothing (a helper process).

        Raises:
            CheckpointError: another process is training it.
        """
        if not alone:
            yield
            return
        try:
            with FileLock(self.path / ".training.lock", timeout=0):
                yield
        except Timeout:
            raise CheckpointError(f"{self.path} is being trained by another process; wait for it or stop it") from None

    def data(self, directory: Path | None = None, **changes: Any) -> Data:
        """The data, with the splits that the run was trained on.

        Args:
            directory: where to look for data files, if not where the configuration says.
            **changes: fields of `DataConfig` to see them in another way, e.g. transform="none" for grey levels.

        Raises:
            DataError: the data cannot be found or are not those of the run.
        """
        if directory is not None:
            changes["directory"] = directory
        return load_data(self.config.data.model_copy(update=changes), splits=self._splits())

    def model(self, which: Literal["best", "last"] = "best") -> EncoderDecoder:
        """The trained model on the CPU, in evaluation mode; needs no data.

        Args:
            which: best by validation score, or last; averaged weights where an average was kept.

        Raises:
            CheckpointError: no checkpoint, a damaged one, or one of another model.
        """
        model = make_model(self.config.model, self.facts)
        weights = load_weights(self.checkpoints, which)
        own = {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
        try:
            model.load_state_dict(own)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path} does not fit its configuration: {' '.join(str(error).split())[:300]}"
            ) from None
        return model.eval()

    def history(self) -> dict[str, list[float]]:
        """Columns of metrics.csv; empty before the first epoch has ended."""
        return read_metrics(self.path / "metrics.csv")

    @property
    def finished(self) -> bool:
        """Whether training came to its end, rather than being stopped."""
        try:
            return bool(load_state(self.checkpoints, mmap=True)["position"]["finished"])
        except CheckpointError:
            return False

    def _splits(self) -> Mapping[str, Tensor]:
        path = self.path / "splits.npz"
        try:
            with np.load(path, allow_pickle=False) as splits:
                return {name: torch.from_numpy(splits[name].astype(np.int64)) for name in ("train", "valid", "test")}
        except (OSError, ValueError, KeyError, EOFError, TypeError, BadZipFile, zlib.error) as error:
            raise CheckpointError(f"{path} is missing or damaged ({error})") from None


def list_runs(root: Path | str = "runs") -> list[Run]:
    """The runs directly under `root`, by name; directories that hold no readable run are passed over."""
    runs = []
    for path in sorted(Path(root).glob("*/config.yaml")):
        try:
            runs.append(Run.open(path.parent))
        except CheckpointError:
            continue
    return runs


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """A row an epoch, atomically."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else ["epoch"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def read_metrics(path: Path) -> dict[str, list[float]]:
    """Columns of a metrics file; empty if there is none. Raises `CheckpointError` where it is no table of numbers."""
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
        return {key: [float(row[key]) for row in rows] for key in rows[0]} if rows else {}
    except (TypeError, ValueError, csv.Error) as error:
        raise CheckpointError(f"{path} is damaged ({error}); resuming the run writes it anew") from None
