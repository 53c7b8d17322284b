"""`jensen data` of text, and of what cannot be downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Jensen = Callable[..., Any]


def rows(out: str) -> dict[str, str]:
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in out.splitlines()}


def test_text_is_shown_as_text(jensen: Jensen, tmp_path: Path) -> None:
    said = jensen("data", "show", "text")
    assert said.code == 0
    told = rows(said.out)
    assert told["example"] == "signal 1 x 128, 97 symbols"
    assert (told["training"], told["test"]) == ("8,750 examples", "288 examples")
    assert told["transform"] == "none"
    assert len(told["first"].replace(r"\n", "n").replace(r"\\", "b")) == 128
    assert told["symbols"].endswith("} ~ \ufffd")
    said = jensen("data", "show", "text", "-o", tmp_path / "sheet.png")
    assert said.code == 2
    assert "text is a signal, no image; there is no picture of it" in said.err
    assert not (tmp_path / "sheet.png").exists()
    assert "needs no download" in jensen("data", "fetch", "text").out


def test_the_list_says_what_is_a_file(jensen: Jensen) -> None:
    told = rows(jensen("data", "list").out)
    assert told["text"].startswith("1 x 128")
    assert "download, 170.1 MB" in told["cifar10"]
    assert " file " in told["cifar10-subset"]


def test_a_file_that_is_not_there(jensen: Jensen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JENSEN_DATA", raising=False)
    for command in ("show", "fetch"):
        said = jensen("data", command, "cifar10-subset")
        assert said.code == 2
        assert "put cifar10-subset.npz or cifar10_jpeg75_subset.npz" in said.err


def test_a_sheet_in_colour(jensen: Jensen, tmp_path: Path) -> None:
    red = np.zeros((20, 32, 32, 3), np.uint8)
    red[..., 0] = 255
    labels = (np.arange(20) % 10).astype(np.uint8)
    np.savez(tmp_path / "cifar10.npz", allow_pickle=False, x_train=red, y_train=labels, x_test=red, y_test=labels)
    said = jensen("data", "show", "cifar10", "--data-dir", tmp_path, "-o", tmp_path / "sheet.png", "-n", "4")
    assert said.code == 0, said.err
    assert rows(said.out)["example"] == "image 3 x 32 x 32, 256 grey levels"
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert float((pixels == (255, 0, 0)).all(1).mean()) > 0.3
