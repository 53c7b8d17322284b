"""Data from strangers, named with `--data` or lying in a run: one clear line, at once, and nothing in them is run."""

from __future__ import annotations

import io
import os
import shutil
import signal
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_cli_hostile_files import CONTENTS, npy, pickled, refuses

from jensen.data import declared
from jensen.data.cifar import _members
from jensen.data.declared import require_sizes
from jensen.errors import CheckpointError, ConfigError, DataError
from jensen.training import portable

if TYPE_CHECKING:
    from .conftest import Jensen


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Whatever waits for a pipe or reads a device to its end fails after a while."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def bomb(size: int = 3 * 2**30) -> bytes:
    """An archive whose one array is told to unpack from a few bytes to so many."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (size, 1)})
        archive.writestr("x.npy", header.getvalue() + b"\0" * 1_000)
    content = bytearray(buffer.getvalue())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, size)
    return bytes(content)


def endless_header() -> bytes:
    """Lengths that no integer of the machine holds."""
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 40 + ", 2), }\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def deep_header() -> bytes:
    text = "{'descr': " + "(" * 4_000 + ")" * 4_000 + ", 'fortran_order': False, 'shape': (1, 2), }\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def crafted_zip(method: int) -> bytes:
    """An archive that says that it is packed in another way than it is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00 nothing")
    content = bytearray(buffer.getvalue())
    struct.pack_into("<H", content, content.index(b"PK\x03\x04") + 8, method)
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 10, method)
    return bytes(content)


MORE: dict[str, Callable[[Path], bytes]] = {
    **CONTENTS,
    "bomb": lambda _: bomb(),
    "endless header": lambda _: endless_header(),
    "deep header": lambda _: deep_header(),
    "wrong method": lambda _: crafted_zip(14),
    "unknown method": lambda _: crafted_zip(77),
    "parquet garbage": lambda _: b"PAR1" + b"\xff" * 60 + struct.pack("<I", 50) + b"PAR1",
    "nul rows": lambda _: b"a,b\n" + b"\0,\0\n" * 50,
    "open quote": lambda _: b'a,b\n1,"' + b"x" * 300_000,
}


SOME = ("pickle", "torch pickle", "object arrays", "yaml object", "yaml bomb", "web page", "huge header", "empty")
"""Contents for files that are read in one way whatever is in them."""

WORDS = ("yaml object", "web page", "nul rows")
"""What can be read as lines of text."""


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("content", MORE)
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".csv", ".parquet"])
def test_as_data(suffix: str, content: str, jensen: Jensen, tmp_path: Path) -> None:
    file, marker, run = tmp_path / f"file{suffix}", tmp_path / "marker", tmp_path / "run"
    file.write_bytes(MORE[content](marker))
    if suffix == ".csv" and content in WORDS:  # a poor table, but a table
        said = jensen("train", "--data", file, "--run", run, "--epochs", "1")
        assert said.code in (0, 2), said
        assert not marker.exists()
        return
    told = refuses(jensen, marker, "train", "--data", file, "--run", run, "--epochs", "1")
    assert str(file) in told
    refuses(jensen, marker, "data", "inspect", file)
    assert not run.exists()


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".json", ".zip", ".csv"])
@pytest.mark.parametrize("content", ["bomb", "endless header", "deep header", "wrong method", "unknown method"])
def test_for_inference(suffix: str, content: str, jensen: Jensen, tmp_path: Path) -> None:
    file, marker = tmp_path / f"file{suffix}", tmp_path / "marker"
    file.write_bytes(MORE[content](marker))
    (tmp_path / "model.py").write_text("raise SystemExit('never')\n")
    for model in ("mixture", "lda", tmp_path / "model.py"):
        refuses(jensen, marker, "infer", model, "--data", file, "--run", tmp_path / "run")


@pytest.mark.parametrize("content", ["pickle", "web page", "climbing archive", "zeros", "empty", "bomb"])
def test_in_a_folder_of_images(content: str, jensen: Jensen, tmp_path: Path) -> None:
    folder, marker = tmp_path / "images", tmp_path / "marker"
    folder.mkdir()
    for number, suffix in enumerate((".png", ".jpg", ".webp")):
        (folder / f"{number}{suffix}").write_bytes(MORE[content](marker))
    said = refuses(jensen, marker, "train", "--data", folder, "--run", tmp_path / "run")
    assert "3 of 3 images cannot be read" in said
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(" + str(marker).encode() + b") (w) file\n"
    (tmp_path / "program.png").write_bytes(postscript)
    shutil.move(tmp_path / "program.png", folder / "0.png")
    refuses(jensen, marker, "train", "--data", folder, "--run", tmp_path / "run")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".csv", ".parquet", ".png", ".yaml", ".json"])
def test_what_never_ends(suffix: str, jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    pipe, device, marker = tmp_path / f"pipe{suffix}", tmp_path / f"device{suffix}", tmp_path / "marker"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    (tmp_path / "model.py").write_text("raise SystemExit('never')\n")
    run = ("--run", tmp_path / "run")
    for file in (pipe, device):
        if suffix == ".yaml":
            assert str(file) in refuses(jensen, marker, "train", "--config", file, *run)
            continue
        for words in (
            ("train", "--data", file, *run),
            ("data", "inspect", file),
            ("reconstruct", digits, file, "-o", tmp_path / "out.npz"),
            ("decode", digits, file, "-o", tmp_path / "out.npz"),
            ("infer", "mixture", "--data", file, *run),
            ("infer", "lda", "--data", file, *run),
            ("infer", tmp_path / "model.py", "--data", file, *run),
        ):
            refuses(jensen, marker, *words)


def test_a_line_without_end(jensen: Jensen, tmp_path: Path) -> None:
    """A gigabyte in one line is not read to its end, whether it is the header or a row."""
    for name, begin in (("header.csv", b"a"), ("row.csv", b"a,b\n1,")):
        file = tmp_path / name
        file.write_bytes(begin)
        os.truncate(file, 2**30)
        said = refuses(jensen, tmp_path / "marker", "train", "--data", file, "--run", tmp_path / "run")
        assert f"{file} has a line of more than 16,777,216 characters" in said


def test_sizes_against_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tmp_path / "a.npz"
    np.savez(plain, x=np.zeros(10_000), y=np.zeros(10))
    require_sizes(plain)
    monkeypatch.setattr(declared, "memory", lambda: 50_000)
    with pytest.raises(DataError, match=r"a\.npz takes 0\.0 GB, but this machine has"):
        require_sizes(plain)
    single = tmp_path / "a.npy"
    np.save(single, np.zeros(10_000))
    with pytest.raises(DataError, match=r"a\.npy takes"):
        require_sizes(single)
    monkeypatch.undo()
    single.write_bytes(single.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"says that it holds 80,000 bytes, but there are 79,992"):
        require_sizes(single)


@pytest.mark.parametrize("content", CONTENTS)
def test_in_a_saved_model(content: str, jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    saved, marker = tmp_path / "saved", tmp_path / "marker"
    assert jensen("export", digits, "-o", saved).code == 0
    files = [file for file in sorted(saved.rglob("*")) if file.is_file() and file.suffix in (".yaml", ".safetensors")]
    assert portable.MANIFEST in {file.name for file in files}
    for file in files:
        kept = file.read_bytes()
        file.write_bytes(CONTENTS[content](marker))
        with pytest.raises((CheckpointError, ConfigError)) as refusal:
            portable.load(saved)
        assert "\n" not in str(refusal.value)
        assert str(saved) in str(refusal.value)
        assert not marker.exists()
        file.write_bytes(kept)
    portable.load(saved)


@pytest.mark.parametrize("content", SOME)
@pytest.mark.parametrize("name", ["data.yaml", "metrics.csv"])
def test_beside_a_run(name: str, content: str, jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    run, marker = tmp_path / "run", tmp_path / "marker"
    shutil.copytree(digits, run)
    (run / name).write_bytes(CONTENTS[content](marker))
    for words in (("report", run), ("sample", run, "-n", "2", "-o", tmp_path / "a.npz"), ("runs", tmp_path)):
        said = jensen(*words)
        assert said.code in (0, 2), said
        assert said.code == 0 or said.err.count("\n") == 1, said
        assert not marker.exists()


@pytest.fixture(scope="module")
def posterior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from jensen.cli import main

    folder = tmp_path_factory.mktemp("posterior") / "run"
    assert main(["infer", "regression", "--data", "diabetes", "--target", "target", "--run", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("content", SOME)
def test_in_a_posterior(content: str, jensen: Jensen, posterior: Path, tmp_path: Path) -> None:
    run, marker = tmp_path / "run", tmp_path / "marker"
    shutil.copytree(posterior, run)
    kinds = (".safetensors", ".json", ".yaml", ".npz")
    files = [file for file in sorted(run.rglob("*")) if file.is_file() and file.suffix in kinds]
    assert len(files) >= 2
    refused = 0
    for file in files:
        kept = file.read_bytes()
        file.write_bytes(CONTENTS[content](marker))
        for words in (("infer", "predict", run, "--data", "diabetes"), ("report", run)):
            said = jensen(*words)
            assert said.code in (0, 2), said
            assert said.code == 0 or said.err.count("\n") == 1, said
            refused += said.code == 2
            assert not marker.exists()
        file.write_bytes(kept)
    assert refused >= 2


def test_an_archive_that_climbs(tmp_path: Path) -> None:
    """Of an archive of pictures only its own members are looked at, and nothing is unpacked to where they say."""
    marker, archive = tmp_path / "marker", tmp_path / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in (str(marker), f"../../{marker.name}", "cifar-10-batches-bin/../marker"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"lacks data_batch_1\.bin"):
        _members(archive)
    assert not marker.exists()
    for content in (pickled(marker), npy(marker), b"", b"\0" * 100):
        archive.write_bytes(content)
        with pytest.raises(DataError, match="delete it and try again"):
            _members(archive)
    assert not marker.exists()


@pytest.mark.parametrize("content", ["pickle", "torch pickle", "object arrays", "huge arrays", "empty"])
def test_as_a_known_data_set(content: str, jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a data set that JENSEN_DATA holds."""
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path))
    marker = tmp_path / "marker"
    (tmp_path / "omniglot.npz").write_bytes(CONTENTS[content](marker))
    refuses(jensen, marker, "train", "--data", "omniglot", "--run", tmp_path / "run")
