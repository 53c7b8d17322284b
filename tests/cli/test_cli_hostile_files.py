"""Files from strangers: one clear line, and nothing of what is in them is run."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from .conftest import Jensen


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def pickled(marker: Path) -> bytes:
    return pickle.dumps(Payload(marker), protocol=2)


def torch_zip(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"position": Payload(marker)}, buffer)
    return buffer.getvalue()


def npy(marker: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(marker)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def npz(marker: Path) -> bytes:
    buffer = io.BytesIO()
    payload = np.array([Payload(marker)], dtype=object)
    names = ("images", "values", "codes", "train", "valid", "test", "x")
    np.savez(buffer, allow_pickle=True, **dict.fromkeys(names, payload))
    return buffer.getvalue()


def huge_npy() -> bytes:
    """A header that declares 80 TB, and 16 bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 10)})
    return header.getvalue() + b"\0" * 16


def huge_npz() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("images", "values", "codes", "train", "valid", "test", "x"):
            archive.writestr(f"{name}.npy", huge_npy())
    return buffer.getvalue()


def climbing(marker: Path) -> bytes:
    """An archive whose member would be unpacked to the marker."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"../../../../../../../..{marker}", "x")
        archive.writestr(str(marker), "x")
    return buffer.getvalue()


CONTENTS: dict[str, Callable[[Path], bytes]] = {
    "pickle": pickled,
    "torch pickle": torch_zip,
    "object array": npy,
    "object arrays": npz,
    "huge array": lambda _: huge_npy(),
    "huge arrays": lambda _: huge_npz(),
    "climbing archive": climbing,
    "huge header": lambda _: struct.pack("<Q", 2**62) + b"{}",
    "yaml object": lambda marker: f"!!python/object/apply:os.mkdir ['{marker}']\n...\n".encode(),
    "yaml bomb": lambda _: _bomb().encode(),
    "web page": lambda _: b"<!DOCTYPE html>\n<html><svg xmlns='http://www.w3.org/2000/svg'/></html>\n",
    "empty": lambda _: b"",
    "zeros": lambda _: b"\0" * 5_000,
}


def _bomb() -> str:
    levels = [f"l{at}: &l{at} {{{', '.join(f'k{n}: *l{at - 1}' for n in range(9))}}}" for at in range(1, 12)]
    return "\n".join(["l0: &l0 {k: v}", *levels, "..."])


def refuses(jensen: Jensen, marker: Path, *words: object) -> str:
    """What it says, one line, as it refuses."""
    said = jensen(*words)
    assert said.code == 2, (words, said)
    assert said.err.startswith("jensen: error: "), said.err
    assert said.err.count("\n") == 1, said.err
    assert len(said.err) < 1_500, said.err
    assert not marker.exists()
    return said.err


IN_CHECKPOINTS = {"state.pt": "resume", "weights.safetensors": "resume", "best.safetensors": "sample"}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", [*IN_CHECKPOINTS, "config.yaml", "splits.npz", "latest"])
def test_in_a_run(name: str, content: str, jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    run, marker = tmp_path / "run", tmp_path / "marker"
    shutil.copytree(digits, run)
    (folder,) = (run / "checkpoints").glob("step-*")
    file = {"config.yaml": run / name, "splits.npz": run / name, "latest": run / "checkpoints" / name}.get(name)
    file = folder / name if file is None else file
    file.write_bytes(CONTENTS[content](marker))
    commands: dict[str, tuple[object, ...]] = {
        "resume": ("train", "--resume", run, "--epochs", "2"),
        "sample": ("sample", run, "-n", "2", "-o", tmp_path / "a.npz"),
        "evaluate": ("evaluate", run, "--samples", "1"),
    }
    told = IN_CHECKPOINTS.get(name, "evaluate" if name == "splits.npz" else "resume")
    for manifest in (True, False):  # without, as older versions wrote them
        if not manifest:
            (folder / "manifest.json").unlink()
        refuses(jensen, marker, *commands[told])
    listed = jensen("runs", tmp_path)
    assert listed.code == 0
    assert not marker.exists()


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".png", ".jpg"])
def test_as_images(suffix: str, content: str, jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    file, marker = tmp_path / f"file{suffix}", tmp_path / "marker"
    file.write_bytes(CONTENTS[content](marker))
    said = refuses(jensen, marker, "reconstruct", digits, file, "-o", tmp_path / "out.npz")
    assert str(file) in said or ("huge" in content and "not enough memory" in said)


@pytest.mark.parametrize("content", CONTENTS)
def test_as_codes(content: str, jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    file, marker = tmp_path / "codes.npz", tmp_path / "marker"
    file.write_bytes(CONTENTS[content](marker))
    said = refuses(jensen, marker, "decode", digits, file, "-o", tmp_path / "out.npz")
    assert str(file) in said or ("huge" in content and "not enough memory" in said)


@pytest.mark.parametrize("content", [name for name in CONTENTS if name not in ("empty", "yaml bomb")])
def test_as_settings(content: str, jensen: Jensen, tmp_path: Path) -> None:
    file, marker = tmp_path / "my.yaml", tmp_path / "marker"
    file.write_bytes(CONTENTS[content](marker))
    refuses(jensen, marker, "train", "--config", file, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", CONTENTS)
def test_as_a_table(content: str, jensen: Jensen, tmp_path: Path) -> None:
    file, marker = tmp_path / "table.csv", tmp_path / "marker"
    file.write_bytes(CONTENTS[content](marker))
    refuses(jensen, marker, "infer", "mixture", "--data", file, "--run", tmp_path / "run")


def test_settings_of_a_newer_version(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("seed:", "telepathy: 3\nseed:"))
    said = refuses(jensen, tmp_path / "marker", "sample", run)
    assert "unknown key telepathy; perhaps a newer version of Jensen wrote it: update Jensen" in said


def test_a_picture_that_is_a_bomb(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    """A few kilobytes that declare 50,000 x 50,000 pixels."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    file = tmp_path / "bomb.png"
    pixels = zlib.compress(b"\0" * 100_000)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    assert str(file) in refuses(jensen, tmp_path / "marker", "reconstruct", digits, file, "-o", tmp_path / "out.npz")
