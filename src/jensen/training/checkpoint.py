"""Checkpoints: weights as safetensors, the rest of the state as plain tensors and numbers. Loading runs no code.

checkpoints/
    latest                 the name of the newest complete checkpoint
    step-00001234/
        weights.safetensors    model and objective
        average.safetensors    their moving average, where one is kept
        best.safetensors       the weights (averaged, if so) with the best validation score so far
        state.pt               optimiser, learning rate, position, history, random state
        manifest.json          version of this format, and the SHA-256 of each of these files

A file that is not as it was written is refused. Checkpoints of Jensen 0.1.0 before there were manifests are read, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from jensen.errors import CheckpointError
from jensen.files import UNFINISHED, clear_unfinished, sync_folder, write_text

__all__ = ["Checkpoint", "load_checkpoint", "load_state", "load_weights", "save_checkpoint"]

Weights = Mapping[str, Tensor]

FORMAT = 1
"""Version of what is described above."""
MANIFEST = "manifest.json"
STEP = re.compile(r"step-\d{8,}(-\d+)?")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that training needs to go on as if it had not stopped."""

    weights: Weights
    state: dict[str, Any]
    average: Weights | None = None
    best: Weights | None = None


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint under `folder` and make it the latest; the one before is deleted only once this is on disk.

    Raises:
        CheckpointError: it cannot be written, e.g. on a full disk; the one before is kept.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        target = _written(folder, step, checkpoint)
        write_text(folder / "latest", target.name)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else _short(error)
        kept = "The one before is kept" if (folder / "latest").is_file() else "There is none before it"
        raise CheckpointError(
            f"cannot write a checkpoint of step {step} in {folder}: {reason}. {kept}; make room, or mend what it "
            "says, and go on with --resume"
        ) from None
    for old in folder.glob("step-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def _clear(folder: Path) -> None:
    """Delete what a writer left that was killed, or whose disk was full."""
    clear_unfinished(folder)
    latest = folder / "latest"
    named = latest.read_text(encoding="utf-8", errors="replace").strip() if latest.is_file() else None
    if named is None or (folder / named).is_dir():
        for path in folder.glob("step-*"):
            if path.name != named:
                shutil.rmtree(path, ignore_errors=True)


def _written(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """The folder of the checkpoint, whole and on disk."""
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
        _save_state(checkpoint.state, temporary / "state.pt")
        sums = {file.name: _sum(file) for file in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps({"format": FORMAT, "sha256": sums}, indent=1), encoding="utf-8")
        for file in temporary.iterdir():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
        sync_folder(temporary)
        # The same step again (a resumed run that stopped at once): its name is taken by an equal checkpoint.
        serial = 1
        while target.exists():
            target = folder / f"step-{step:08d}-{serial}"
            serial += 1
        temporary.rename(target)
        sync_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _save_state(state: dict[str, Any], file: Path) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:  # what torch makes of a write that fails
        raise OSError(f"state.pt could not be written ({_short(error)})") from None


def load_checkpoint(folder: Path) -> Checkpoint:
    """The latest complete checkpoint under `folder`.

    Raises:
        CheckpointError: there is none, it is damaged, or of a newer version of Jensen.
    """
    path = _latest(folder)
    state, there = _state(path), _there(path)
    optional = {name: _read(path, name) for name in ("average", "best") if name in there}
    return Checkpoint(_read(path, "weights"), state, **optional)


def load_state(folder: Path, mmap: bool = False) -> dict[str, Any]:
    """What the latest checkpoint holds beside weights; with `mmap`, tensors are read only when looked at, unchecked.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or of a newer version of Jensen.
    """
    return _state(_latest(folder), mmap)


def load_weights(folder: Path, which: str) -> dict[str, Tensor]:
    """Weights of the latest checkpoint: `best` by validation (`last` where none is), or `last` (averaged, if kept).

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or of a newer version of Jensen.
    """
    path = _latest(folder)
    order, there = ["best", "average", "weights"] if which == "best" else ["average", "weights"], _there(path)
    return _read(path, next((name for name in order if name in there), "weights"))


def _latest(folder: Path) -> Path:
    pointer = folder / "latest"
    if not pointer.exists():
        raise CheckpointError(
            f"no checkpoint in {folder}: the run was stopped before its first. Delete {folder.parent} and train again"
        )
    try:
        name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise CheckpointError(f"{pointer} cannot be read ({_short(error)})") from None
    if not STEP.fullmatch(name):
        raise CheckpointError(f"{pointer} is damaged: it names no checkpoint; write the name of a whole one there")
    path = folder / name
    if not path.is_dir():
        raise CheckpointError(f"{pointer} names {path.name}, which is missing")
    return path


def _state(path: Path, mmap: bool = False) -> dict[str, Any]:
    file = path / "state.pt"
    _check(path, file.name, contents=not mmap)
    try:
        with zipfile.ZipFile(file) as archive:  # torch packs nothing, so that what is packed may be a bomb
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("compressed")
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # a damaged archive or pickle may lead to any
        raise CheckpointError(f"{file} is missing or damaged ({_short(error)})") from None
    if not isinstance(state, dict) or not isinstance(state.get("position"), dict):
        raise CheckpointError(f"{file} holds no training state")
    return state


def _read(path: Path, name: str) -> dict[str, Tensor]:
    file = path / f"{name}.safetensors"
    _check(path, file.name)
    try:
        weights: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError, ValueError, KeyError, MemoryError) as error:
        raise CheckpointError(f"{file} is missing or damaged ({_short(error)})") from None
    return weights


def _there(path: Path) -> set[str]:
    """Which weights a checkpoint has, by its manifest where there is one, so that a lost file is missed."""
    sums = _sums(path)
    files = [file.name for file in path.glob("*.safetensors")] if sums is None else list(sums)
    return {name.removesuffix(".safetensors") for name in files}


def _check(path: Path, name: str, *, contents: bool = True) -> None:
    """Raise `CheckpointError` unless a file of a checkpoint is there, and as it was written."""
    sums = _sums(path)
    if sums is None:
        return
    if not (path / name).is_file():
        raise CheckpointError(f"{path / name} is missing or damaged (no such file)")
    try:
        if contents and sums.get(name) != _sum(path / name):
            raise CheckpointError(f"{path / name} is missing or damaged (its contents are not those that were written)")
    except OSError as error:
        raise CheckpointError(f"{path / name} is missing or damaged ({_short(error)})") from None


def _sums(path: Path) -> dict[str, str] | None:
    """The manifest's checksums by file; None: the checkpoint is from before there were manifests."""
    file = path / MANIFEST
    if not file.exists():
        return None
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version, sums = int(manifest["format"]), dict(manifest["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{file} is damaged ({_short(error)}); delete it to read the checkpoint unchecked"
        ) from None
    if version > FORMAT:
        raise CheckpointError(
            f"{path} was written by a newer version of Jensen (format {version} of checkpoints; this one reads up to "
            f"{FORMAT}): update Jensen"
        )
    return sums


def _sum(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _short(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
