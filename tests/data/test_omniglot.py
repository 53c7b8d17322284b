"""Omniglot from the official archives and from npz: both ways the same arrays."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from jensen.data import fetch, load_data, omniglot
from jensen.data.download import BASE_URLS, FILES, Remote
from jensen.data.omniglot import reduce
from jensen.errors import DataError

if TYPE_CHECKING:
    from conftest import Server

CHARACTERS = [("Futurama", "images_background"), ("Futurama", "images_background"), ("ULOG", "images_evaluation")]


def test_reduce_against_a_fine_grid() -> None:
    """Each pixel split in 4 x 4, then averaged over 15 x 15: the area average by counting."""
    ink = np.random.default_rng(0).integers(0, 2, (5, 105, 105), dtype=np.uint8)
    fine = ink.repeat(4, axis=1).repeat(4, axis=2).reshape(5, 28, 15, 28, 15).mean(axis=(2, 4))
    assert np.array_equal(reduce(ink), np.rint(255 * fine))
    assert int(reduce(np.ones((1, 105, 105), np.uint8)).min()) == 255


def archives(ink: np.ndarray) -> dict[str, bytes]:  # type: ignore[type-arg]
    """The official form of drawings (characters, 20, 105, 105): black ink on white paper, a PNG each."""
    files = {name: io.BytesIO() for name in ("images_background", "images_evaluation")}
    opened = {name: zipfile.ZipFile(file, "w") for name, file in files.items()}
    for character in reversed(range(len(ink))):  # archives are in no useful order
        alphabet, part = CHARACTERS[character]
        for drawing in range(20):
            png = io.BytesIO()
            Image.fromarray((1 - ink[character, drawing]) * 255).convert("1").save(png, "PNG")
            name = f"{part}/{alphabet}/character{character + 1:02}/{character + 1:04}_{drawing + 1:02}.png"
            opened[part].writestr(name, png.getvalue())
    for archive in opened.values():
        archive.writestr("images_background/readme.txt", "not a drawing")
        archive.close()
    return {f"{name}.zip": file.getvalue() for name, file in files.items()}


def serve(server: Server, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    server.files = files
    remotes = tuple(Remote(name, f"md5:{hashlib.md5(body).hexdigest()}") for name, body in files.items())
    monkeypatch.setitem(FILES, "omniglot", remotes)
    monkeypatch.setitem(BASE_URLS, "omniglot", (server.url,))
    monkeypatch.setattr(omniglot, "CHARACTERS", len(CHARACTERS))
    monkeypatch.setattr(omniglot, "CHUNK", 7)


@pytest.fixture
def ink() -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(1).integers(0, 2, (3, 20, 105, 105), dtype=np.uint8)


def test_from_the_official_archives(server: Server, ink: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[type-arg]
    serve(server, archives(ink), monkeypatch)
    (path,) = fetch("omniglot")
    small = reduce(ink.reshape(-1, 105, 105)).reshape(3, 20, 28, 28)
    with np.load(path) as arrays:
        assert np.array_equal(arrays["x_train"], small[:, :15].reshape(-1, 28, 28))
        assert np.array_equal(arrays["x_test"], small[:, 15:].reshape(-1, 28, 28))
        assert arrays["alphabet_names"].tolist() == ["Futurama", "ULOG"]
        assert arrays["alphabet_test"].tolist() == [0] * 10 + [1] * 5
        assert arrays["character_train"].tolist() == [0] * 15 + [1] * 15 + [2] * 15
        assert arrays["drawer_test"].tolist() == [15, 16, 17, 18, 19] * 3
    asked = len(server.requests)
    data = load_data("omniglot", transform="none")
    assert fetch("omniglot") == [path]
    assert len(server.requests) == asked == 2
    assert data.class_names == ("Futurama", "ULOG")
    assert len(data.test) == 15
    assert sorted([*data.splits["train"].tolist(), *data.splits["valid"].tolist()]) == list(range(45))


@pytest.mark.parametrize("fault", ["missing", "size", "number", "png", "zip"])
def test_wrong_archives(
    fault: str,
    server: Server,
    ink: np.ndarray,  # type: ignore[type-arg]
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = archives(ink)
    name = "images_evaluation/ULOG/character03/0003_07.png"
    wrong = io.BytesIO()
    Image.new("1", (100, 105)).save(wrong, "PNG")
    if fault == "zip":
        files["images_evaluation.zip"] = b"no archive"
    else:
        content = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(files["images_evaluation.zip"])) as before,
            zipfile.ZipFile(content, "w") as after,
        ):
            for member in before.namelist():
                if member != name:
                    after.writestr(member, before.read(member))
            if fault == "size":
                after.writestr(name, wrong.getvalue())
            elif fault == "png":
                after.writestr(name, b"no picture")
            elif fault == "number":
                after.writestr(name.replace("0003_07", "0004_07"), before.read(name))
        files["images_evaluation.zip"] = content.getvalue()
    serve(server, files, monkeypatch)
    message = {
        "missing": "lack drawing 7 of character 3",
        "size": "is no drawing of Omniglot",
        "number": "is no drawing of Omniglot",
        "png": "cannot read .*images_evaluation.zip",
        "zip": "cannot read .*images_evaluation.zip",
    }[fault]
    with pytest.raises(DataError, match=message):
        load_data("omniglot")
    assert not (cache / "omniglot_28.npz").exists()


def test_damaged_npz(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "x_train": np.zeros((4, 28, 28), np.uint8),
        "x_test": np.zeros((2, 28, 28), np.uint8),
        "alphabet_train": np.array([0, 0, 1, 2], np.uint8),
        "alphabet_test": np.array([0, 1], np.uint8),
        "alphabet_names": np.array(["A", "B"]),
    }
    np.savez(tmp_path / "omniglot_28.npz", allow_pickle=False, **arrays)
    with pytest.raises(DataError, match=r"alphabet_train has labels 0 \.\. 2, but there are 2 classes"):
        load_data("omniglot", directory=tmp_path)
    del arrays["x_test"]
    np.savez(tmp_path / "omniglot_28.npz", allow_pickle=False, **arrays)
    with pytest.raises(DataError, match="no key x_test"):
        load_data("omniglot", directory=tmp_path)


def test_the_real_omniglot(real_data: Path) -> None:
    if not (real_data / "omniglot_28.npz").is_file():
        pytest.skip(f"no omniglot_28.npz in {real_data}")
    data = load_data("omniglot", directory=real_data)
    assert (len(data.train) + len(data.valid), len(data.test)) == (24_345, 8_115)
    assert len(data.class_names) == 50
    # all alphabets in every split
    for split in (data.train, data.valid, data.test):
        assert split.labels is not None
        assert len(split.labels.unique()) == 50


def test_the_reduction_of_the_real_omniglot(real_data: Path) -> None:
    if not all((real_data / name).is_file() for name in ("omniglot.npz", "omniglot_28.npz")):
        pytest.skip(f"no omniglot.npz and omniglot_28.npz in {real_data}")
    with np.load(real_data / "omniglot.npz") as large:
        packed = large["images_packed"].reshape(1623, 20, 105, 14)
    some = np.arange(0, 1623, 40)
    ink = np.unpackbits(packed[some], axis=-1)[..., :105]
    small = reduce(ink.reshape(-1, 105, 105)).reshape(len(some), 20, 28, 28)
    with np.load(real_data / "omniglot_28.npz") as given:
        assert np.array_equal(given["x_train"].reshape(1623, 15, 28, 28)[some], small[:, :15])
        assert np.array_equal(given["x_test"].reshape(1623, 5, 28, 28)[some], small[:, 15:])
    assert torch.from_numpy(small).float().mean() > 1.0
