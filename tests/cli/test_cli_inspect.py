"""`jensen data inspect`, and image files for runs of own images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jensen.cli.inputs import Scale, read
from jensen.cli.survey import survey
from jensen.data import load_data
from jensen.errors import DataError

Jensen = Callable[..., Any]
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left in the user's own folders."""
    monkeypatch.setenv("JENSEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty noisy images of two classes, one of them wide, one of them twice, one broken."""
    root = tmp_path / "photos"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(RNG.integers(0, 256, (8, 8), dtype=np.uint8)).save(root / name / f"{i}.png")
    Image.fromarray(RNG.integers(0, 256, (8, 12), dtype=np.uint8)).save(root / "cat" / "0.png")
    (root / "dog" / "9.png").write_bytes((root / "dog" / "1.png").read_bytes())
    (root / "dog" / "bad.png").write_text("no image")
    return root


def test_a_folder(jensen: Jensen, photos: Path, tmp_path: Path) -> None:
    said = jensen("data", "inspect", photos, "-o", tmp_path / "sheet.png")
    assert said.code == 0, said.err
    for part in (
        "21 images",
        "8 x 8: 19",
        "12 x 8: 1",
        "L: 20",
        "dog/bad.png: no image",
        "dog/1.png = dog/9.png",
        "image 1 x 64 x 64, 256 levels",
        "cat 10, dog 10",
        "1 examples equal an earlier one",
        f"jensen train --data {photos} --size 64 --skip-bad",
    ):
        assert part in said.out, part
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 100


def test_flags_say_how_it_is_read(jensen: Jensen, photos: Path) -> None:
    said = jensen("data", "inspect", photos, "--size", "4x6", "--fit", "pad", "--colour", "rgb", "--skip-bad")
    assert said.code == 0, said.err
    assert "image 3 x 4 x 6" in said.out
    assert "--colour grey loses nothing" in said.out
    assert said.out.splitlines()[-1].endswith("--size 4x6 --fit pad --colour rgb --skip-bad")


def test_arrays_and_what_is_wrong_with_them(jensen: Jensen, tmp_path: Path) -> None:
    x = RNG.normal(size=(30, 3, 16))
    x[:, 0, 0] = 7
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(30) % 3)
    said = jensen("data", "inspect", tmp_path / "a.npz", "-o", tmp_path / "lines.png")
    assert said.code == 0, said.err
    assert "(30, 3, 16) float64" in said.out
    assert "1 of 48 places never vary" in said.out
    assert (tmp_path / "lines.png").is_file()
    x[2, 1, 5] = np.nan
    np.savez(tmp_path / "a.npz", x=x)
    said = jensen("data", "inspect", tmp_path / "a.npz")
    assert said.code == 2
    assert "(30, 3, 16) float64" in said.out
    assert "cannot be trained on as it is" in said.err
    assert "index (2, 1, 5)" in said.err


def test_a_set_by_name(jensen: Jensen) -> None:
    said = jensen("data", "inspect", "digits")
    assert said.code == 0, said.err
    assert "0 to 16" in said.out
    assert said.out.splitlines()[-1] == "jensen train --data digits"
    assert jensen("data", "inspect", "absent").code == 2


def test_a_survey_counts_what_is_there(tmp_path: Path) -> None:
    x = RNG.normal(size=(50, 4))
    x[:, 2] = 3
    x[40:] = x[:10]
    np.save(tmp_path / "a.npy", x)
    dataset = load_data(str(tmp_path / "a.npy")).dataset
    found = survey(dataset)
    assert found.constant.tolist() == [False, False, True, False]
    assert (found.low, found.high) == pytest.approx((x.min(), x.max()))
    assert found.mean == pytest.approx(x.mean())
    assert found.equal == 10
    train, test = set(dataset.train.tolist()), dataset.test.tolist()
    twin = {**{i: i + 40 for i in range(10)}, **{i + 40: i for i in range(10)}}
    assert found.leaked == sum(twin.get(place) in train for place in test)


def test_files_come_to_the_form_of_the_run(photos: Path) -> None:
    files = [photos / "cat" / "0.png", photos / "cat" / "1.png"]
    inputs = read(files, (3, 4, 4), Scale(fit="crop"))
    data = load_data(str(photos), size="4", colour="rgb", skip_bad=True, transform="none").dataset
    assert torch.equal(inputs.values, data.values[torch.arange(2)].float() / 255)
    with pytest.raises(DataError, match="resize it first"):
        read(files, (3, 4, 4))
    with pytest.raises(DataError, match=r"bad\.png is damaged or no image \(no image"):
        read([photos / "dog"], (3, 4, 4), Scale(fit="crop"))
    assert read([photos / "cat"], (3, 4, 4), Scale(fit="pad")).names == [f"{i}" for i in range(10)]
    (photos / "dog" / "bad.png").unlink()
    assert read([photos], (1, 4, 4), Scale(fit="pad")).names[9:11] == ["cat-9", "dog-0"]


def test_categories_stay_on_their_line(jensen: Jensen, tmp_path: Path) -> None:
    words = ["Rome", '"York, NY"', '"two\nlines"']
    (tmp_path / "t.csv").write_text("x,city\n" + "".join(f"{place / 7},{words[place % 3]}\n" for place in range(30)))
    said = jensen("data", "inspect", tmp_path / "t.csv")
    assert said.code == 0
    assert "categorical: Rome, 'York, NY', 'two\\nlines'\n" in said.out
