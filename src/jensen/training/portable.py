"""A trained model as a folder that can be sent to someone: saved and loaded.

FOLDER/
    model.yaml      number of this format, version of Jensen, and the SHA-256 of every file below
    config.yaml     the whole configuration that the model was trained with, without paths of that machine
    data.yaml       what the model needs to know of its data: shapes, columns, mean and standard deviation, words, ...
    checkpoints/    the weights, as safetensors
    prior/          of a vqvae: the learned prior over its codes
    README.md       what this is and how to use it

It is a run without its training state, splits and metrics, so that every command that needs a model only takes it in
place of a run. Nothing in it is executed when it is loaded: numbers are safetensors, words plain YAML.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import yaml
from safetensors.torch import save_file
from torch import Tensor

from jensen.autoencoders import NeuralModel, make_model
from jensen.config import Config, DataConfig
from jensen.data import Data
from jensen.data.own import is_own
from jensen.errors import CheckpointError, ConfigError, DataError
from jensen.files import UNFINISHED
from jensen.sections import read_yaml
from jensen.training.checkpoint import load_weights
from jensen.training.facts import DataFacts
from jensen.training.prior_run import PriorRun
from jensen.training.run import Run

__all__ = [
    "FORMAT",
    "Portable",
    "check_portable",
    "facts_with_units",
    "is_portable",
    "load",
    "portable_run",
    "save",
    "write_portable",
]

FORMAT = 1
MANIFEST = "model.yaml"


@dataclass(frozen=True)
class Portable:
    """What is written: all that makes a model, and nothing of how far its training came."""

    config: Config
    facts: DataFacts
    weights: Mapping[str, Tensor]
    """`state_dict` of the model"""
    prior: PriorRun | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    """more files of text, by name"""


def save(what: NeuralModel | Run, folder: Path | str, *, data: Data | None = None, replace: bool = False) -> Path:
    """Write a trained model to a folder from which `load` makes it again, here or on another machine.

    Args:
        what: a run, of which the best weights are taken (and the learned prior of a vqvae), or a model.
        folder: where to; it should not exist, or be empty.
        data: of a model that is given by itself, the data that it was trained on, where it could not be made again
            without: what it is told, symbols, the mean and standard deviation of a table.
        replace: write over a model that was saved there before.

    Raises:
        ConfigError: the folder is taken; or the model has networks of its own, or cannot be made again from what is
            known of it.
        CheckpointError: the run has no weights, or they are damaged.
    """
    parts = _of_run(what) if isinstance(what, Run) else _of_model(what, data)
    return write_portable(Path(folder), parts, replace=replace)


def load(folder: Path | str) -> NeuralModel:
    """The model that `save` (or `jensen export`) wrote, on the CPU and in evaluation mode; of a run, its best one.

    Raises:
        CheckpointError: there is none, a file of it is missing, cut off or changed, or it was written by a newer
            version.
    """
    folder = Path(folder)
    if not is_portable(folder) and (folder / "config.yaml").is_file():
        return Run.open(folder).model()
    return portable_run(folder).model()


def portable_run(folder: Path | str) -> Run:
    """A saved model as a run, whose `facts` say what its data were like; see `load` for what is raised."""
    check_portable(Path(folder))
    return Run.open(folder)


def is_portable(folder: Path) -> bool:
    """Whether there is a saved model in this folder, in whatever state."""
    return (folder / MANIFEST).is_file()


def check_portable(folder: Path) -> None:
    """Raise `CheckpointError` unless the folder holds a saved model, whole, of a format that is known."""
    path = folder / MANIFEST
    if not path.is_file():
        what = f"has no {MANIFEST}" if folder.exists() else "does not exist"
        raise CheckpointError(f"{folder} holds no saved model ({what}); jensen.save or `jensen export` writes one")
    try:
        said = read_yaml(path)
        number, files = said["format"], said["files"]
        if not isinstance(number, int) or not isinstance(files, dict):
            raise TypeError("format should be a number and files a mapping")
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged, or none of Jensen's ({error})") from None
    if number > FORMAT:
        raise CheckpointError(
            f"{folder} was saved in format {number} by Jensen {said.get('jensen', 'of a later version')}; this one "
            f"reads up to format {FORMAT}: upgrade (pip install -U jensen)"
        )
    for name, digest in files.items():
        file = folder / str(name)
        if not file.is_file():
            raise CheckpointError(f"{file} is missing: copy the folder {folder} again, all of it")
        if _sha256(file) != digest:
            raise CheckpointError(f"{file} is cut off or was changed: copy the folder {folder} again")


def write_portable(folder: Path, parts: Portable, *, replace: bool = False) -> Path:
    """Write what was prepared, all at once or not at all; see `save`."""
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken and not (replace and is_portable(folder)):
        hint = "" if replace else ", or replace it"
        what = f"holds a saved model already: choose another folder{hint}" if is_portable(folder) else "is not empty"
        raise ConfigError(f"{folder} {what}" + ("" if is_portable(folder) else ": choose another folder"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    try:
        _fill(temporary, parts)
        temporary.chmod(folder.parent.stat().st_mode & 0o777)  # mkdtemp makes it private
        if folder.exists():
            old = temporary.with_name(f"{temporary.name}-old")
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _of_run(run: Run) -> Portable:
    weights = load_weights(run.checkpoints, "best")
    own = {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
    config = run.config.model_copy(update={"data": _without_paths(run.config.data)})
    return Portable(config, facts_with_units(run), own, run.prior_in_place)


def facts_with_units(run: Run, directory: Path | None = None) -> DataFacts:
    """Its own facts; of a run from before they held mean and standard deviation, with those of its data.

    Raises:
        ConfigError: the data of such a run cannot be had.
    """
    facts = run.own_facts
    if len(facts.shape) == 3 or "mean" in read_yaml(run.path / "data.yaml"):  # images were not standardised then
        return facts
    try:
        seen = run.data(directory, condition=run.config.data.condition).train.transform_function
    except (DataError, CheckpointError) as error:
        raise ConfigError(f"{run.path} does not say what its data were standardised with, and: {error}") from None
    if seen.mean is None or seen.sd is None:
        return facts
    return replace(facts, mean=tuple(seen.mean.flatten().tolist()), sd=tuple(seen.sd.flatten().tolist()))


def _without_paths(config: DataConfig) -> DataConfig:
    """Where the data were is nobody else's business; what they were called stays."""
    name = f"./{Path(config.name).name}" if is_own(config.name) else config.name
    return config.model_copy(update={"name": name, "directory": None})


def _of_model(model: NeuralModel, data: Data | None) -> Portable:
    """What makes this model again; raises `ConfigError` where that is not known."""
    if model.config is None:
        raise ConfigError(
            "this model has networks or a likelihood of its own, which no configuration describes: keep its code, and "
            "its weights with torch.save(model.state_dict(), ...)"
        )
    if getattr(model, "code_prior", None) is not None:
        raise ConfigError("a learned prior over codes is saved with its run: jensen.save(Run.open(...), folder)")
    if data is None:
        if model.condition_shape is not None or getattr(model, "symbols", False):
            raise ConfigError("what this model is told, or its symbols, are known to its data alone: give data=")
        facts = DataFacts(model.shape, model.target_shape, model.likelihood.levels, ())
        settings = DataConfig(name="unknown", transform="none")
    else:
        facts = DataFacts.of(data)
        settings = _without_paths(data.config).model_copy(update={"transform": data.transform})
    weights = model.state_dict()
    try:
        make_model(model.config, facts).load_state_dict(weights)
    except (RuntimeError, ConfigError, ValueError) as error:
        hint = "give data=, what it was trained on" if data is None else "are these the data that it was trained on?"
        raise ConfigError(f"this model cannot be made again ({' '.join(str(error).split())[:200]}): {hint}") from None
    return Portable(Config(data=settings, model=model.config), facts, weights)


def _fill(folder: Path, parts: Portable) -> None:
    """Write every file into an empty folder."""
    _write_weights(folder / "checkpoints", {f"model.{name}": value for name, value in parts.weights.items()})
    parts.facts.write(folder / "data.yaml")
    (folder / "config.yaml").write_text(parts.config.to_yaml(), encoding="utf-8")
    if parts.prior is not None:
        prior = folder / "prior"
        prior.mkdir()
        for name in ("data.yaml", "codes.yaml", "config.yaml", "metrics.csv"):
            shutil.copyfile(parts.prior.path / name, prior / name)
        _write_weights(prior / "checkpoints", load_weights(parts.prior.checkpoints, "best"))
    for name, text in parts.extra.items():
        (folder / name).write_text(text, encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "format": FORMAT,
        "jensen": version("jensen"),
        "model": parts.config.model.kind,
        "files": {path.relative_to(folder).as_posix(): _sha256(path) for path in files},
    }
    (folder / MANIFEST).write_text(yaml.safe_dump(manifest, sort_keys=False, explicit_end=True), encoding="utf-8")
    (folder / "README.md").write_text(_readme(parts), encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as handle:
                os.fsync(handle.fileno())


def _write_weights(checkpoints: Path, weights: Mapping[str, Tensor]) -> None:
    """As a checkpoint that has weights only."""
    home = checkpoints / "step-00000000"
    home.mkdir(parents=True)
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    save_file(copies, home / "weights.safetensors")
    (checkpoints / "latest").write_text(home.name, encoding="utf-8")


def _readme(parts: Portable) -> str:
    config, facts = parts.config.model, parts.facts
    size = sum(math.prod(value.shape) for value in parts.weights.values())
    title = parts.config.data.title
    trained = "" if title == "unknown" else f", trained on {title}"
    return f"""# A {config.kind} saved by Jensen {version("jensen")}

A datum has shape {facts.shape}; p(x | z) is {config.likelihood}; {size:,} numbers in all{trained}.

In Python, `model = jensen.load("this folder")`; on the command line this folder stands where a run does, e.g.
`jensen reconstruct`, `jensen encode`, or `jensen sample` of a model that has a prior. The weights are safetensors and
the rest is plain YAML: loading executes nothing. `model.yaml` has the SHA-256 of every file.
"""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
