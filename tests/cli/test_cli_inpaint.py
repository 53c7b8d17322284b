"""`jensen inpaint`: what was visible stays, what was hidden is the model's."""

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


def test_visible_pixels_are_kept_and_hidden_ones_differ_by_sample(jensen: Jensen, upper: Path, tmp_path: Path) -> None:
    out = tmp_path / "filled.npz"
    said = jensen("inpaint", upper, "-n", "3", "--samples", "4", "--seed", "2", "-o", out)
    assert said.code == 0
    assert said.out == f"3 images, each filled in 4 times: {out}\n"
    with np.load(out) as file:
        visible, samples, truth = (file[name] for name in ("visible", "samples", "truth"))
    assert samples.shape == (4, 3, 1, 8, 8)
    seen = np.broadcast_to(visible[:, 1:] == 1, truth.shape)
    assert seen[:, :, :4].all()
    assert not seen[:, :, 4:].any()
    np.testing.assert_array_equal(visible[:, :1], truth * seen)
    for sample in samples:
        np.testing.assert_array_equal(sample[seen], truth[seen])
    assert np.ptp(samples, axis=0)[~seen].min() > 0  # every hidden pixel differs between draws of z
    places = Run.open(upper).data(transform="none").test.batch(torch.arange(3)).x
    np.testing.assert_array_equal(truth, places.numpy())


def test_the_same_seed_gives_the_same_and_another_does_not(jensen: Jensen, upper: Path, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert jensen("inpaint", upper, "-n", "2", "--seed", seed, "-o", tmp_path / f"{name}.npz").code == 0
        with np.load(tmp_path / f"{name}.npz") as file:
            found.append(file["samples"])
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_a_lower_temperature_varies_less(jensen: Jensen, upper: Path, tmp_path: Path) -> None:
    spread = []
    for temperature in ("1", "0.01"):
        out = tmp_path / f"{temperature}.npz"
        assert jensen("inpaint", upper, "-n", "2", "--temperature", temperature, "-o", out).code == 0
        with np.load(out) as file:
            spread.append(np.ptp(file["samples"], axis=0).max())
    assert spread[1] < 0.1 * spread[0]


def test_own_pictures_and_a_picture_of_them(jensen: Jensen, upper: Path, tmp_path: Path) -> None:
    own = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    Image.fromarray(own).save(tmp_path / "mine.png")
    out = tmp_path / "filled.npz"
    assert jensen("inpaint", upper, tmp_path / "mine.png", "--samples", "1", "-o", out).code == 0
    with np.load(out) as file:
        np.testing.assert_allclose(file["samples"][0, 0, 0, :4] * 255, own[:4], rtol=1e-5)
        assert file["truth"].shape == (1, 1, 8, 8)
    said = jensen("inpaint", upper, "-n", "2")
    picture = Path(said.out.strip().rpartition(": ")[2])
    assert picture.parent == upper / "figures"
    with Image.open(picture) as image:
        assert image.width > image.height


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--samples", "0"), "--samples"),
        (("--temperature", "-1"), "temperature should be positive"),
        (("none.png",), "none.png: no such file"),
        (("-o", "x.txt"), "should end in .png or .npz"),
    ],
)
def test_wrong_input(jensen: Jensen, upper: Path, arguments: tuple[str, ...], message: str) -> None:
    said = jensen("inpaint", upper, *arguments)
    assert said.code == 2
    assert message in said.err
    assert said.err.count("\n") == 1


def test_other_runs_are_told_what_to_train(jensen: Jensen, digits: Path, labelled: Path) -> None:
    for run, words in ((digits, "conditioned on nothing"), (labelled, "conditioned on label")):
        said = jensen("inpaint", run)
        assert said.code == 2
        assert words in said.err
        assert "--condition upper-half" in said.err
