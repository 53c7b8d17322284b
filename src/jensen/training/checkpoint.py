"""Checkpoints: weights as safetensors, the rest of the state as plain tensors and numbers. Loading runs no code.

checkpoints/
    latest                 the name of the newest complete checkpoint
    step-00001234/
        weights.safetensors    model and objective
        average.safetensors    their moving average, where one is kept
        best.safetensors       the weights (averaged, if so) with the best validation score so far
        state.pt               optimiser, learning rate, position, history, random state
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from jensen.errors import CheckpointError
from jensen.files import UNFINISHED, clear_unfinished, write_text

__all__ = ["Checkpoint", "load_checkpoint", "load_state", "load_weights", "save_checkpoint"]

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that training needs to go on as if it had not stopped."""

    weights: Weights
    state: dict[str, Any]
    average: Weights | None = None
    best: Weights | None = None


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint under `folder` and make it the latest; the one before is deleted only then."""
    folder.mkdir(parents=True, exist_ok=True)
    clear_unfinished(folder)
    target = folder / f"step-{step:08d}"
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
    try:
        temporary.chmod(folder.stat().st_mode)  # mkdtemp makes it private
        for name in ("weights", "average", "best"):
            weights: Weights | None = getattr(checkpoint, name)
            if weights is not None:
                save_file(
                    {key: value.detach().contiguous() for key, value in weights.items()},
                    temporary / f"{name}.safetensors",
                )
        torch.save(checkpoint.state, temporary / "state.pt")
        for file in temporary.iterdir():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
        # The same step again (a resumed run that stopped at once): its name is taken by an equal checkpoint.
        serial = 1
        while target.exists():
            target = folder / f"step-{step:08d}-{serial}"
            serial += 1
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    write_text(folder / "latest", target.name)
    for old in folder.glob("step-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(folder: Path) -> Checkpoint:
    """The latest complete checkpoint under `folder`.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = _latest(folder)
    state = _state(path)
    optional = {name: _read(path, name) for name in ("average", "best") if (path / f"{name}.safetensors").exists()}
    return Checkpoint(_read(path, "weights"), state, **optional)


def load_state(folder: Path, mmap: bool = False) -> dict[str, Any]:
    """What the latest checkpoint holds beside weights; with `mmap`, tensors are read only when looked at.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    return _state(_latest(folder), mmap)


def _state(path: Path, mmap: bool = False) -> dict[str, Any]:
    file = path / "state.pt"
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise CheckpointError(f"{file} is missing or damaged ({_short(error)})") from None
    if not isinstance(state, dict) or not isinstance(state.get("position"), dict):
        raise CheckpointError(f"{file} holds no training state")
    return state


def load_weights(folder: Path, which: str) -> dict[str, Tensor]:
    """Weights of the latest checkpoint: `best` by validation (`last` where none is), or `last` (averaged, if kept).

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    path = _latest(folder)
    order = ["best", "average", "weights"] if which == "best" else ["average", "weights"]
    name = next((name for name in order if (path / f"{name}.safetensors").exists()), "weights")
    return _read(path, name)


def _latest(folder: Path) -> Path:
    pointer = folder / "latest"
    if not pointer.exists():
        raise CheckpointError(
            f"no checkpoint in {folder}: the run was stopped before its first. Delete {folder.parent} and train again"
        )
    path = folder / pointer.read_text(encoding="utf-8", errors="replace").strip()
    if not path.is_dir():
        raise CheckpointError(f"{pointer} names {path.name}, which is missing")
    return path


def _read(path: Path, name: str) -> dict[str, Tensor]:
    file = path / f"{name}.safetensors"
    try:
        weights: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} is missing or damaged ({_short(error)})") from None
    return weights


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
