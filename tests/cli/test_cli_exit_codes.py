"""How a command ends: exit codes, one line, and no traceback, whatever goes wrong."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jensen.cli import app
from jensen.errors import ConfigError, NonFiniteError

if TYPE_CHECKING:
    from .conftest import Jensen

CODES = {"MISTAKE": 2, "FAULT": 70, "INTERRUPTED": 130, "CLOSED_PIPE": 141, "TERMINATED": 143}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JENSEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JENSEN_DEBUG", raising=False)
    return tmp_path / "cache" / "errors"


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `jensen runs` meet this."""

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("jensen.training.list_runs", broken)


FAULTS = [
    RuntimeError("a bug\nin two lines"),
    KeyError("name"),
    RecursionError("maximum recursion depth exceeded"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError("ascii", "ß", 0, 1, "ordinal not in range"),
    AssertionError(),
    ZeroDivisionError("division by zero"),
    ImportError("no module named x"),
    EOFError(),
    NotImplementedError("x"),
    ExceptionGroup("several", [ValueError("a"), TypeError("b")]),
]


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
def test_a_fault_is_one_line_and_a_file(
    error: Exception, cache: Path, monkeypatch: pytest.MonkeyPatch, jensen: Jensen
) -> None:
    raising(monkeypatch, error)
    said = jensen("runs", "some where")
    (file,) = cache.iterdir()
    assert (said.code, said.out, said.err.count("\n")) == (70, "", 1)
    assert said.err.startswith(f"jensen: error: unexpected {type(error).__name__}")
    assert said.err.endswith(f"(a fault of Jensen: please report it, with {file})\n")
    kept = file.read_text()
    assert kept.startswith("jensen runs 'some where'\nJensen 0.1.0, Python 3.")
    assert "Traceback (most recent call last)" in kept
    assert type(error).__name__ in kept


def test_debugging_shows_the_traceback(cache: Path, monkeypatch: pytest.MonkeyPatch, jensen: Jensen) -> None:
    raising(monkeypatch, RuntimeError("a bug"))
    monkeypatch.setenv("JENSEN_DEBUG", "1")
    said = jensen("runs")
    assert said.code == 70
    assert said.err.startswith("Traceback (most recent call last)")
    assert "jensen: error: unexpected RuntimeError: a bug (" in said.err.splitlines()[-1]
    assert list(cache.iterdir())


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jensen: Jensen) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("JENSEN_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "other"))
    raising(monkeypatch, RuntimeError("a bug"))
    assert f"please report it, with {tmp_path / 'other' / 'jensen-'}" in jensen("runs").err
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert jensen("runs").err.endswith("please report it, with what JENSEN_DEBUG=1 shows)\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("train.lr: too small"), "train.lr: too small"),
        (NonFiniteError("the loss\nstopped"), "the loss stopped"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.csv"),
            "a.csv: No space left on device; make room and try",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "a: Permission denied"),
        (OSError("500 requested and 0 written"), "file: 500 requested and 0 written"),
        (MemoryError("Unable to allocate 9 GiB"), "Unable to allocate 9 GiB: not enough memory; take less at once"),
        (MemoryError(), "out of memory: not enough memory"),
    ],
)
def test_what_can_be_mended_is_2(
    error: Exception, said: str, cache: Path, monkeypatch: pytest.MonkeyPatch, jensen: Jensen
) -> None:
    raising(monkeypatch, error)
    ended = jensen("runs")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith(f"jensen: error: {said}")
    assert not cache.exists()


def test_signals_while_a_command_works(monkeypatch: pytest.MonkeyPatch, jensen: Jensen) -> None:
    def stopped(number: signal.Signals) -> Callable[..., None]:
        return lambda *_: signal.raise_signal(number)

    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        monkeypatch.setattr("jensen.training.list_runs", stopped(number))
        assert jensen("runs") == (code, "", "")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    signal.signal(signal.SIGINT, ours)


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A real process."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


MAIN = "import sys; from jensen.__main__ import main; sys.exit(main())"


@pytest.mark.parametrize("module", ["cyclopts", "jensen.cli.app", "jensen.cli.runs", "jensen.errors"])
def test_interrupted_while_it_is_loaded(module: str) -> None:
    hook = f"""
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}: raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
"""
    ended = run(hook + MAIN, "runs", "nowhere")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_interrupted_while_arguments_are_read() -> None:
    hook = """
import cyclopts
def interrupted(*_, **__): raise KeyboardInterrupt
cyclopts.App.__call__ = interrupted
"""
    assert run(hook + MAIN, "train", "--latent", "3").returncode == 130


def test_an_encoding_that_lacks_a_letter() -> None:
    ended = run(MAIN, "runs", "größe", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0
    assert "no runs in gr" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "jensen", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "jensen 0.1.0\n"


def test_the_codes_are_documented(jensen: Jensen) -> None:
    assert {name: getattr(app, name) for name in CODES} == CODES
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
    table = page[page.index("## How it ends") :]
    assert [int(code) for code in re.findall(r"^\| (\d+)", table, re.MULTILINE)] == [0, *CODES.values()]
    told = " ".join(jensen("--help").out.split())
    assert all(f"{code} " in told[told.index("Exit codes") :] for code in (0, 2, 70, 130, 143))
