"""Figures as files: whole, the same each time, and without pyplot."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from jensen.plots import image_grid, png, save


def figure() -> Figure:
    return image_grid(
        torch.linspace(0, 1, 32).view(2, 1, 4, 4), title="A title that is longer than the images are wide"
    )


def test_png_is_an_image_and_sharper_with_more_dots() -> None:
    small, large = (Image.open(BytesIO(png(figure(), dpi=dpi))) for dpi in (60, 120))
    assert small.format == "PNG"
    assert large.width == pytest.approx(2 * small.width, abs=8)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_save_writes_the_format_of_the_suffix(tmp_path: Path, suffix: str) -> None:
    path = save(figure(), tmp_path / "new" / f"picture.{suffix}")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # no temporary file is left


def test_no_suffix_means_png(tmp_path: Path) -> None:
    assert save(figure(), str(tmp_path / "picture")).name == "picture.png"


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = save(figure(), tmp_path / "a.png"), save(figure(), tmp_path / "b.png")
    assert first.read_bytes() == second.read_bytes()


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(figure(), tmp_path / "a.png")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save(image_grid(torch.zeros(1, 1, 2, 2)), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"picture\.xyz: the suffix should be one of .*png"):
        save(figure(), tmp_path / "picture.xyz")


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys, torch; from jensen import plots;"
        "plots.png(plots.latent_space(torch.randn(9, 3), torch.zeros(9)));"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
