"""Run directories: a run is trained, resumed and looked at through one.

runs/NAME/
    config.yaml     the whole configuration
    data.yaml       shapes, grey levels and class names: what a model needs to be rebuilt without its data
    splits.npz      which examples were for training, validation and testing
    metrics.csv     a row an epoch
    checkpoints/    see `jensen.training.checkpoint`
    prior/          of a vqvae, by `jensen train prior`: see `jensen.training.prior_run`
    evaluation.json, figures/, report.html     by `jensen evaluate` and `jensen report`
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from jensen.autoencoders import NeuralModel, make_model
from jensen.autoencoders.vqvae import VQVAE
from jensen.config import Config
from jensen.data import Data, load_data
from jensen.data.npz import read_arrays
from jensen.data.own import fingerprint
from jensen.data.visible import PARTS
from jensen.errors import CheckpointError, ConfigError, DataError
from jensen.files import write_atomically, write_text
from jensen.training.checkpoint import load_weights
from jensen.training.facts import DataFacts
from jensen.training.folder import TrainedFolder, load_into, read_metrics, read_whole, write_metrics
from jensen.training.prior_run import PriorRun, Which, digest_of

__all__ = ["DataFacts", "Run", "StalePriorWarning", "Told", "list_runs", "read_metrics", "write_metrics"]

Told = Literal["label", "properties", "image", "part"]


class StalePriorWarning(UserWarning):
    """The prior of a run was left out, as it is not one of the model's codes as they are now."""


@dataclass(frozen=True)
class Run(TrainedFolder):
    """A run directory. Get one from `fit`, or with `Run.open`."""

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
        if (path / "codes.yaml").is_file():
            raise CheckpointError(f"{path} is the prior over the codes of a run: name the run, {path.parent}")
        if (path / "model.yaml").is_file():
            from jensen.training.portable import check_portable  # it makes runs itself

            check_portable(path)
        return cls(path, read_whole(path / "config.yaml", Config))

    @property
    def facts(self) -> DataFacts:
        """Shapes, grey levels and class names of its data; what its model is told, if only by way of its prior."""
        facts, teller = self.own_facts, self._teller
        if teller is None:
            return facts
        told, names = teller.facts, ("condition_shape", "condition_names", "condition_mean", "condition_sd")
        return replace(facts, **{name: getattr(told, name) for name in names})

    @property
    def own_facts(self) -> DataFacts:
        """The facts that the networks of the model were made for, whatever its prior is told."""
        return DataFacts.read(self.path / "data.yaml")

    @property
    def condition(self) -> str | None:
        """What its model is told, if only by way of its prior, as `DataConfig.condition`; None: nothing."""
        if self.config.data.condition is not None:
            return self.config.data.condition
        return None if self._teller is None else self._teller.config.condition

    @property
    def told(self) -> Told | None:
        """What its model is told beside the datum; None: nothing."""
        condition, shape = self.condition, self.facts.condition_shape
        if condition is None or shape is None:
            return None
        if condition == "label":
            return "label"
        if condition in PARTS:
            return "part"
        return "image" if len(shape) == 3 else "properties"

    @property
    def prior(self) -> PriorRun | None:
        """The learned prior over its codes, whether or not it is one of the model's weights as they are now.

        Raises:
            CheckpointError: it is damaged.
        """
        path = self.path / "prior"
        there = self.config.model.kind == "vqvae" and (path / "config.yaml").is_file()
        return PriorRun.open(path) if there else None

    @property
    def prior_in_place(self) -> PriorRun | None:
        """The learned prior, if it is whole and of the model's best weights as they are now: what `model` attaches."""
        try:
            prior = self.prior
            return None if prior is None or self.unfit(prior) is not None else prior
        except CheckpointError:
            return None

    @property
    def prior_command(self) -> str | None:
        """The command after which a learned prior is in place; None: one is, or the model takes none."""
        if self.config.model.kind != "vqvae":
            return None
        try:
            prior = self.prior
            fault = None if prior is None else self._fault(prior)
        except CheckpointError:
            return f"jensen train prior --run {shlex.quote(str(self.path))} --replace"
        if prior is None:
            return f"jensen train prior --run {shlex.quote(str(self.path))}"
        return None if fault is None else fault[1]

    def unfit(self, prior: PriorRun, which: Which = "best") -> str | None:
        """Why a prior cannot be put in place of these weights, and what to do; None: it can."""
        fault = self._fault(prior, which)
        return None if fault is None else ": ".join(fault)

    def _fault(self, prior: PriorRun, which: Which = "best") -> tuple[str, str] | None:
        """What is wrong with a prior for these weights, and the command that helps; None: nothing is."""
        alone = self.config.data.condition is None and prior.config.condition is not None
        told = f" --condition {prior.config.condition}" if alone else ""
        path = shlex.quote(str(self.path))
        anew = f"jensen train prior --run {path} --replace{told}"
        if prior.not_begun:
            return f"{prior.path} has no epoch behind it yet", anew
        if (damage := prior.damage()) is not None:
            return damage, anew
        if prior.codes.weights != digest_of(self.checkpoints, which):
            return f"{prior.path} was fitted to the codes of other weights of the model", anew
        if not prior.begun:
            return f"{prior.path} has no epoch behind it yet", f"jensen train prior --resume {path}"
        return None

    @property
    def _teller(self) -> PriorRun | None:
        """The prior that makes the model one that is told something, where its networks are told nothing."""
        if self.config.data.condition is not None:
            return None
        prior = self.prior_in_place
        return None if prior is None or prior.config.condition is None else prior

    def data(self, directory: Path | None = None, **changes: Any) -> Data:
        """The data, with the splits that the run was trained on, and the condition that `condition` says.

        Args:
            directory: where to look for data files, if not where the configuration says.
            **changes: fields of `DataConfig` to see them in another way, e.g. transform="none" for grey levels.

        Raises:
            DataError: the data cannot be found or are not those of the run.
        """
        if directory is not None:
            changes["directory"] = directory
        if "condition" not in changes:
            changes["condition"] = self.condition
        config = self.config.data.model_copy(update=changes)
        then = self.own_facts.fingerprint
        if then and (now := fingerprint(config)) != then:
            raise DataError(
                f"{config.name} has changed since {self.path} was trained ({then} then, {now} now), so that its splits "
                "no longer fit: restore the files, or train anew"
            )
        return load_data(config, splits=self._splits())

    def model(self, which: Which = "best", *, prior: bool | None = None) -> NeuralModel:
        """The trained model on the CPU, in evaluation mode; needs no data.

        Args:
            which: best by validation score, or last; averaged weights where an average was kept.
            prior: of a vqvae, whether its codes get the learned prior. None: if there is one of these very weights;
                one that does not fit is left out, codes are then uniform, and a `StalePriorWarning` says so. A model
                that is told nothing is told what its prior is told; `data` and `facts` go with that, unless False.

        Raises:
            CheckpointError: no checkpoint, a damaged one, or one of another model; a damaged prior; no prior that fits,
                though asked for.
        """
        model = make_model(self.config.model, self.own_facts)
        weights = load_weights(self.checkpoints, which)
        load_into(model, weights, self.path)
        if prior is not False:
            self._attach(model, which, required=prior is True)
        return model.eval()

    def _attach(self, model: NeuralModel, which: Which, *, required: bool) -> None:
        prior = self.prior
        if prior is None:
            if required:
                what = "; that is for model vqvae" if self.config.model.kind != "vqvae" else ""
                raise CheckpointError(
                    f"{self.path} has no prior over codes{what}: jensen train prior --run {self.path}"
                )
            return
        assert isinstance(model, VQVAE)
        fault = self.unfit(prior, which)
        if fault is None:
            try:
                model.attach_prior(prior.model())
            except (CheckpointError, ValueError) as error:
                remedy = f"jensen train prior --run {self.path} --replace"
                raise CheckpointError(f"{prior.path} is damaged: {error}: {remedy}") from None
        elif required or (prior.damage() is not None and not prior.not_begun):
            raise CheckpointError(fault)
        else:
            warnings.warn(f"codes are taken as uniform: {fault}", StalePriorWarning, stacklevel=3)

    def _splits(self) -> Mapping[str, Tensor]:
        path = self.path / "splits.npz"
        names = ("train", "valid", "test")
        try:
            return {name: torch.from_numpy(rows.astype(np.int64)) for name, rows in read_arrays(path, names).items()}
        except (DataError, ValueError, TypeError) as error:
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
