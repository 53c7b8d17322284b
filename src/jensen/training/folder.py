"""What the folder of anything that was trained holds: checkpoints, metrics, and a lock."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from filelock import FileLock, Timeout
from torch import Tensor, nn

from jensen.errors import CheckpointError, ConfigError
from jensen.files import write_text
from jensen.training.checkpoint import load_state

__all__ = ["TrainedFolder", "forget_evaluation", "load_into", "read_metrics", "read_whole", "write_metrics"]


class _Readable(Protocol):
    @classmethod
    def from_yaml(cls, path: Path) -> Self: ...


Readable = TypeVar("Readable", bound=_Readable)


@dataclass(frozen=True)
class TrainedFolder:
    """A directory with checkpoints and metrics."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @contextmanager
    def training_alone(self, alone: bool = True) -> Iterator[None]:
        """Keep other processes from training this meanwhile; `alone` False does nothing (a helper process).

        Raises:
            CheckpointError: another process is training it, or it cannot be written.
        """
        if not alone:
            yield
            return
        lock = FileLock(self.path / ".training.lock", timeout=0)  # a process that dies lets go of it
        try:
            lock.acquire()
        except Timeout:
            raise CheckpointError(f"{self.path} is being trained by another process; wait for it or stop it") from None
        except (OSError, NotImplementedError) as error:  # the latter: a file system that has no locks
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise CheckpointError(
                f"{self.path} cannot be locked for training ({reason}): it has to be a folder that can be written"
            ) from None
        try:
            yield
        finally:
            lock.release()

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


def read_whole(path: Path, section: type[Readable]) -> Readable:
    """A configuration that was written to its end.

    Raises:
        CheckpointError: it cannot be read, or is cut off.
    """
    try:
        config = section.from_yaml(path)
        # What is cut off would be taken for defaults.
        if path.read_text(encoding="utf-8").split()[-1:] != ["..."]:
            raise ConfigError("its end is missing, which should be a line of three dots")
    except ConfigError as error:
        newer = "; perhaps a newer version of Jensen wrote it: update Jensen" if "unknown key" in str(error) else ""
        raise CheckpointError(f"{path}: {error}{newer}") from None
    return config


def load_into(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Give a model the weights of a checkpoint of its training.

    Raises:
        CheckpointError: they are of another model than the configuration in `path` describes.
    """
    own = {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit its configuration: {' '.join(str(error).split())[:300]}") from None


def forget_evaluation(path: Path) -> str | None:
    """Delete the evaluation.json in the folder of a run, as what it is about changes.

    Returns:
        What is lost by it, and how to measure it again; None where there is no such file.
    """
    file = path / "evaluation.json"
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        further = [name for name, value in found.items() if isinstance(value, dict) and "weights" in value]
    except (OSError, ValueError, AttributeError):
        further = []
    file.unlink(missing_ok=True)
    return f"dropped {file} ({', '.join(['bound', *further])}): jensen evaluate {path} measures anew"


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
