"""The directory of a prior over the codes of a run.

RUN/prior/
    config.yaml     the whole configuration of the prior
    data.yaml       what its codes are as data: how many, how many values each takes, and what the prior is told
    codes.yaml      shapes of the levels of codes, and which weights of the model gave them
    metrics.csv     a row an epoch
    checkpoints/    see `jensen.training.checkpoint`
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import torch
import yaml
from torch import Tensor

from jensen.autoencoders.code_prior import CodePrior
from jensen.config import PriorConfig
from jensen.errors import CheckpointError, ConfigError
from jensen.files import write_text
from jensen.sections import read_yaml
from jensen.training.checkpoint import load_weights
from jensen.training.facts import DataFacts
from jensen.training.folder import TrainedFolder, load_into, read_whole

__all__ = ["CodeFacts", "PriorRun", "digest", "digest_of"]

Which = Literal["best", "last"]


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """The codes that a prior is about."""

    shapes: tuple[tuple[int, ...], ...]
    """(books, *grid) of each level, the top first"""
    levels: int
    """values that a code takes, K"""
    weights: str
    """`digest` of the weights that gave them"""

    @classmethod
    def read(cls, path: Path) -> Self:
        """From the file that `write` wrote; raises `CheckpointError` if it is damaged."""
        try:
            facts = read_yaml(path)
            shapes = tuple(tuple(int(size) for size in shape) for shape in facts["shapes"])
            return cls(shapes, int(facts["levels"]), str(facts["weights"]))
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is missing or damaged ({error})") from None

    def write(self, path: Path) -> None:
        """As YAML."""
        facts = {"shapes": [list(shape) for shape in self.shapes], "levels": self.levels, "weights": self.weights}
        write_text(path, yaml.safe_dump(facts, sort_keys=False))


@dataclass(frozen=True)
class PriorRun(TrainedFolder):
    """A prior over the codes of a run: RUN/prior. Get one from `fit_prior`, or with `Run.prior`."""

    config: PriorConfig

    @classmethod
    def open(cls, path: Path) -> Self:
        """The prior in this directory; raises `CheckpointError` if there is none, or it cannot be read."""
        if not (path / "config.yaml").is_file():
            raise CheckpointError(f"{path.parent} has no prior: jensen train prior --run {path.parent}")
        try:
            return cls(path, read_whole(path / "config.yaml", PriorConfig))
        except CheckpointError as error:
            raise CheckpointError(f"{error}; begin anew: jensen train prior --run {path.parent} --replace") from None

    @classmethod
    def create(cls, path: Path, config: PriorConfig, facts: DataFacts, codes: CodeFacts) -> Self:
        """Make the directory and record what the prior is about."""
        path.mkdir()
        facts.write(path / "data.yaml")
        codes.write(path / "codes.yaml")
        write_text(path / "config.yaml", config.to_yaml())  # last: with it the directory holds a prior
        return cls(path, config)

    @property
    def facts(self) -> DataFacts:
        """Its codes as data: shape (codes,), levels K; and what the prior is told."""
        return DataFacts.read(self.path / "data.yaml")

    @property
    def codes(self) -> CodeFacts:
        """Shapes of its codes, and where they came from."""
        return CodeFacts.read(self.path / "codes.yaml")

    @property
    def begun(self) -> bool:
        """Whether it has learned for an epoch at least."""
        return bool(self.history().get("epoch"))

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is anything to go on from."""
        return (self.checkpoints / "latest").is_file()

    @property
    def not_begun(self) -> bool:
        """Whether there is nothing of it yet but its settings."""
        return not self.has_checkpoint and not self.begun

    @property
    def digest(self) -> str:
        """`digest` of its best weights; raises `CheckpointError` where they are missing or damaged."""
        return digest_of(self.checkpoints, "best")

    def damage(self) -> str | None:
        """What its model needs and is missing or damaged; None: nothing."""
        if not self.has_checkpoint:
            return f"{self.path} has lost its checkpoints"
        try:
            CodeFacts.read(self.path / "codes.yaml")
            DataFacts.read(self.path / "data.yaml")
            digest_of(self.checkpoints, "best")
        except CheckpointError as error:
            return f"{self.path} is damaged: {error}"
        return None

    def new(self) -> CodePrior:
        """The prior as its configuration describes it, with random weights."""
        codes = self.codes
        return CodePrior(codes.shapes, codes.levels, self.config.net, condition_shape=self.facts.condition_shape)

    def model(self, which: Which = "best") -> CodePrior:
        """The trained prior on the CPU, in evaluation mode.

        Args:
            which: best by validation score, or last; averaged weights where an average was kept.

        Raises:
            CheckpointError: no checkpoint, a damaged one, or one of another prior.
        """
        prior = self.new()
        load_into(prior, load_weights(self.checkpoints, which), self.path)
        return prior.eval()


def digest(weights: Mapping[str, Tensor]) -> str:
    """A fingerprint of a model's weights in a checkpoint: SHA-256 of names, types, shapes and numbers."""
    found = hashlib.sha256()
    for name in sorted(weights):
        if name.startswith("model."):
            value = weights[name].contiguous()
            found.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
            found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def digest_of(folder: Path, which: Which) -> str:
    """`digest` of the weights in the latest checkpoint under `folder`; `CheckpointError` if there is none."""
    pointer = folder / "latest"
    if not pointer.exists():
        return digest(load_weights(folder, which))  # says what is missing
    files = sorted((folder / pointer.read_text(encoding="utf-8", errors="replace").strip()).glob("*.safetensors"))
    states = ((file, file.stat()) for file in (pointer, *files))
    return _digest_of(folder, which, tuple((file.name, state.st_size, state.st_mtime_ns) for file, state in states))


@lru_cache(maxsize=16)
def _digest_of(folder: Path, which: Which, files: tuple[tuple[str, int, int], ...]) -> str:
    """Of the files as they were then, so that a command reads the weights once."""
    return digest(load_weights(folder, which))
