"""`jensen sample` and `jensen interpolate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen


def test_samples_are_those_of_python(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.npz"
    assert jensen("sample", digits, "-n", "5", "--temperature", "0.5", "--seed", "3", "-o", out).code == 0
    model = Run.open(digits).model()
    torch.manual_seed(3)
    with torch.no_grad():
        expected = model.sample(5, 0.5)
    with np.load(out) as file:
        np.testing.assert_array_equal(file["images"], expected.numpy())


def test_the_picture_goes_into_the_run_under_a_free_name(jensen: Jensen, digits: Path) -> None:
    first, second = jensen("sample", digits, "-n", "4"), jensen("sample", digits, "-n", "4")
    paths = [Path(said.out.strip().removeprefix("4 samples: ")) for said in (first, second)]
    assert paths[0] != paths[1]
    for path in paths:
        assert path.parent == digits / "figures"
        with Image.open(path) as image:
            assert min(image.size) > 50


def test_a_file_is_not_overwritten_without_force(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.png"
    out.write_text("precious")
    said = jensen("sample", digits, "-n", "4", "-o", out)
    assert said.code == 2
    assert "--force" in said.err
    assert out.read_text() == "precious"
    assert jensen("sample", digits, "-n", "4", "-o", out, "--force").code == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_an_autoencoder_has_nothing_to_sample_from(jensen: Jensen, plain: Path) -> None:
    said = jensen("sample", plain)
    assert said.code == 2
    assert said.err.startswith("jensen: error: an auto-encoder has no prior")
    assert said.err.count("\n") == 1
    assert not (plain / "figures" / "samples.png").exists()


def test_samples_of_a_table_are_in_its_own_units(jensen: Jensen, iris: Path, tmp_path: Path) -> None:
    from sklearn.datasets import load_iris

    assert jensen("sample", iris, "-n", "50", "-o", tmp_path / "a.npz").code == 0
    with np.load(tmp_path / "a.npz") as file:
        values = file["values"]
    table = load_iris().data
    assert values.shape == (50, 4)
    assert np.all(np.abs(values.mean(0) - table.mean(0)) < table.std(0))
    said = jensen("sample", iris, "-o", tmp_path / "a.png")
    assert said.code == 2
    assert "write .npz" in said.err


@pytest.mark.parametrize(
    ("flag", "value"), [("-n", "0"), ("--temperature", "-1"), ("--temperature", "nan"), ("--seed", "x")]
)
def test_wrong_numbers(jensen: Jensen, digits: Path, flag: str, value: str) -> None:
    said = jensen("sample", digits, flag, value)
    assert said.code == 2
    assert said.err.count("\n") == 1


def test_interpolate_between_places_and_files(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(tmp_path / "mine.png")
    for path in ("linear", "spherical"):
        out = tmp_path / f"{path}.png"
        said = jensen("interpolate", digits, "0", tmp_path / "mine.png", "--steps", "5", "--path", path, "-o", out)
        assert said.code == 0
        with Image.open(out) as image:
            assert image.width > 3 * image.height  # 5 steps and 2 ends in a row


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0", "359"), "there is no example 359"),
        (("0", "one"), "'one' is neither a place in the split (0, 1, ...) nor an image file"),
        (("0", "none.png"), "none.png: no such file"),
        (("0",), "J is missing"),
        (("0", "1", "--steps", "1"), "should be at least 2"),
        (("0", "1", "--path", "crooked"), "linear"),
    ],
)
def test_wrong_walks(jensen: Jensen, digits: Path, arguments: tuple[str, ...], message: str) -> None:
    said = jensen("interpolate", digits, *arguments)
    assert said.code == 2
    assert message in said.err


def test_no_walk_where_nothing_is_drawn(jensen: Jensen, iris: Path, large: Path) -> None:
    assert "no walk to draw" in jensen("interpolate", iris, "0", "1").err
    assert "nothing to interpolate" in jensen("interpolate", large, "0", "1").err
