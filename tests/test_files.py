"""Atomic writing: the old file or the new one, never a part; nothing left over."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jensen.files import clear_unfinished, write_atomically, write_text


def test_text_is_written_as_utf8_in_place_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "first")
    write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_temporary_file_has_the_same_suffix_and_folder(tmp_path: Path) -> None:
    seen: list[Path] = []
    write_atomically(tmp_path / "a.npz", seen.append)
    assert seen[0].suffix == ".npz"
    assert seen[0].parent == tmp_path
    assert (tmp_path / "a.npz").read_bytes() == b""


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises(error):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    left: list[Path] = []
    write_atomically(tmp_path / "a.txt", left.append)
    left[0].write_text("half")
    (tmp_path / f"{left[0].name}-folder").mkdir()
    (tmp_path / "inner").mkdir()
    clear_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "inner"]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "a.txt", "")


WRITER = """
import sys
from pathlib import Path
from jensen.files import write_text
path, i = Path(sys.argv[1]), 0
while True:
    write_text(path, f"{i}\\n" * 20_000)
    i += 1
    if i == 3: print("ready", flush=True)
"""


def test_a_kill_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        lines = path.read_text().splitlines()
        assert len(lines) == 20_000
        assert len(set(lines)) == 1
