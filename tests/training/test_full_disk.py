"""A disk that is full, or a kill, at every point of writing: what was there before stays usable."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jensen.errors import CheckpointError
from jensen.files import write_text
from jensen.training import Checkpoint, load_checkpoint, save_checkpoint
from jensen.training import checkpoint as module

POINTS = [
    (os, "fsync"),
    (os, "replace"),
    (os, "rename"),
    (os, "chmod"),
    (tempfile, "mkdtemp"),
    (tempfile, "mkstemp"),
    (module, "save_file"),
    (torch, "save"),
    (Path, "write_text"),
    (Path, "unlink"),
    (shutil, "rmtree"),
]
"""What writing calls, beside what only reads."""


class Died(BaseException):
    """In place of SIGKILL: nothing may run after it."""


class Faults:
    """Counts the calls of `POINTS`, and lets the one of number `at` fail: before it did its work, half done, or after.

    Args:
        at: number of the call, from 0.
        how: "before", "half" (a file has half of its bytes) or "after".
        error: what is raised.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, how: str, error: BaseException) -> None:
        self.at, self.how, self.error = at, how, error
        self.count = 0
        self.struck = ""
        for owner, name in POINTS:
            monkeypatch.setattr(owner, name, self._wrapped(name, getattr(owner, name)))

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if self.struck and isinstance(self.error, Died):
                raise self.error  # the dead do nothing
            if number != self.at:
                return call(*args, **kwargs)
            self.struck = name
            if self.how != "before":
                call(*args, **kwargs)
            if self.how == "half" and name in ("save_file", "save", "write_text"):
                for file in (value for value in args if isinstance(value, Path) and value.is_file()):
                    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            if name == "rmtree" and not isinstance(self.error, Died):
                return None  # it is asked to ignore errors
            raise self.error

        return counted


def caught(call: Callable[[], object]) -> BaseException | None:
    """What a call raises."""
    try:
        call()
    except (Exception, Died) as error:
        return error
    return None


def saved(value: float) -> Checkpoint:
    weights = {"a": torch.full((200,), value)}
    return Checkpoint(weights, {"position": {"epoch": int(value)}}, weights, weights)


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("how", ["before", "half", "after"])
@pytest.mark.parametrize("dies", [False, True])
def test_every_point_of_a_checkpoint(how: str, dies: bool, tmp_path: Path) -> None:
    """A fault at each call that writing a checkpoint makes, one after the other."""
    struck = []
    for at in range(100):
        folder = tmp_path / str(at)
        save_checkpoint(folder, 1, saved(1.0))
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, at, how, Died() if dies else full())
            error = caught(lambda folder=folder: save_checkpoint(folder, 2, saved(2.0)))
        assert isinstance(error, (Died if dies else CheckpointError, type(None)))
        if isinstance(error, CheckpointError):
            told = f"cannot write a checkpoint of step 2 in {folder}: No space left on device. The one before is kept"
            assert str(error).startswith(told)
            assert "\n" not in str(error)
        if not faults.struck:
            break
        struck.append(faults.struck)
        found = load_checkpoint(folder)
        value = found.state["position"]["epoch"]
        assert value in (1, 2)
        assert all(
            torch.equal(part["a"], torch.full((200,), float(value))) for part in (found.weights, found.best or {})
        )
        save_checkpoint(folder, 3, saved(3.0))  # when there is room again
        assert load_checkpoint(folder).state["position"]["epoch"] == 3
        assert sorted(path.name for path in folder.iterdir()) == ["latest", "step-00000003"]
    else:
        raise AssertionError("the faults never ended")
    assert {"fsync", "replace", "rename", "save_file", "save", "write_text", "mkdtemp", "mkstemp"} <= set(struck)
    assert struck.count("fsync") >= 9  # five files, the pointer, and three folders
    assert len(struck) > 18


def test_the_one_before_goes_only_when_the_new_one_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, saved(1.0))
    synced: list[str] = []
    flush, remove = os.fsync, shutil.rmtree

    def noted(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        flush(handle)

    def removed(path: Path, **options: Any) -> None:
        if path.name == "step-00000001":
            synced.append("removed")
        remove(path, **options)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(shutil, "rmtree", removed)
    save_checkpoint(tmp_path, 2, saved(2.0))
    files = {"weights.safetensors", "average.safetensors", "best.safetensors", "state.pt", "manifest.json"}
    assert set(synced[:5]) == files
    assert synced[5].startswith(".writing-")  # the folder's own names
    assert synced[6] == tmp_path.name  # its new name
    assert synced[7].startswith(".writing-")  # the pointer
    assert synced[8:] == [tmp_path.name, "removed"]


@pytest.mark.parametrize("how", ["before", "half", "after"])
@pytest.mark.parametrize("dies", [False, True])
def test_every_point_of_a_file(how: str, dies: bool, tmp_path: Path) -> None:
    for at in range(30):
        path = tmp_path / f"{at}.txt"
        write_text(path, "old")
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, at, how, Died() if dies else full())
            error = caught(lambda path=path: write_text(path, "new and longer"))
        assert isinstance(error, (Died if dies else OSError, type(None)))
        if isinstance(error, OSError):
            assert (error.errno, error.filename) == (errno.ENOSPC, str(path))
        assert path.read_text() in ("old", "new and longer")
        if not faults.struck:
            assert path.read_text() == "new and longer"
            assert at >= 4
            return
    raise AssertionError("the faults never ended")
