"""`jensen reconstruct` and `jensen denoise`."""

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


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two images of 8 x 8 pixels."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return paths


def model_of(run: Path, paths: list[Path]) -> np.ndarray:
    """What the model makes of image files, computed here."""
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])[:, None].astype(np.float32) / np.float32(255)
    with torch.no_grad():
        return Run.open(run).model().reconstruct(torch.from_numpy(pixels)).numpy()


def test_reconstruct_does_what_the_model_does(
    jensen: Jensen, digits: Path, pictures: list[Path], tmp_path: Path
) -> None:
    said = jensen("reconstruct", digits, *pictures, "-o", tmp_path / "out.npz")
    assert said.code == 0
    with np.load(tmp_path / "out.npz") as file:
        originals, made = file["originals"], file["reconstructions"]
    np.testing.assert_allclose(made, model_of(digits, pictures), rtol=1e-5)
    error = float(np.mean((originals.astype(float) - made) ** 2))
    assert f"PSNR {-10 * np.log10(error):.2f} dB, mean squared error {error:.5f}" in said.out


def test_reconstruct_draws(jensen: Jensen, digits: Path, iris: Path) -> None:
    for run in (digits, iris):
        said = jensen("reconstruct", run, "-n", "7")
        assert said.code == 0
        assert said.out.startswith("7 reconstructions")
        assert ("PSNR" in said.out) == (run == digits)
    assert jensen("reconstruct", iris, "-n", "10000").out.startswith("30 ")


def test_a_table_is_reconstructed_in_its_own_units(jensen: Jensen, iris: Path, tmp_path: Path) -> None:
    from sklearn.datasets import load_iris

    assert jensen("reconstruct", iris, "-n", "3", "-o", tmp_path / "out.npz").code == 0
    with np.load(tmp_path / "out.npz") as file, np.load(iris / "splits.npz") as splits:
        np.testing.assert_allclose(file["originals"], load_iris().data[splits["test"][:3]], rtol=1e-5)


def test_denoise_writes_a_file_for_each(jensen: Jensen, plain: Path, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "clean"
    assert jensen("denoise", plain, *pictures, "-o", out).code == 0
    for path, expected in zip(pictures, model_of(plain, pictures), strict=True):
        made = np.asarray(Image.open(out / path.name))
        np.testing.assert_allclose(made / 255, np.clip(expected[0], 0, 1), atol=0.5001 / 255)
    assert "exists already" in jensen("denoise", plain, *pictures, "-o", out).err
    assert jensen("denoise", plain, *pictures, "-o", out, "--force").code == 0


def test_denoise_refuses_before_it_writes(jensen: Jensen, plain: Path, pictures: list[Path], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "tall.png")
    said = jensen("denoise", plain, *pictures, tmp_path / "tall.png", "-o", tmp_path / "clean")
    assert said.code == 2
    assert "tall.png is 8 x 9 pixels, the model needs 8 x 8" in said.err
    assert not (tmp_path / "clean").exists()


def test_denoise_without_files_shows_before_and_after(jensen: Jensen, plain: Path) -> None:
    said = jensen("denoise", plain, "-n", "40", "--strength", "0.1")
    assert said.code == 0
    assert "corruption gaussian 0.1" in said.out
    rows = {line[:16].strip(): line[16:].split() for line in said.out.splitlines()[2:]}
    # noise of 0.1 is 20 dB; clipping to [0, 1] takes half of it from the many black pixels
    assert 20 < float(rows["corrupted"][0]) < 23
    assert {"corrupted", "median filter", "non-local means", "autoencoder"} <= set(rows)
    assert jensen("denoise", plain, "--corruption", "masking", "-n", "1").code == 0


def test_the_table_is_of_the_same_images_by_every_method(
    jensen: Jensen, plain: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jensen.data.corruption import blur
    from jensen.metrics import denoising
    from jensen.metrics.image_quality import psnr, ssim

    monkeypatch.setattr(denoising, "CUTS", (0.1,))
    for run, kind in ((plain, "autoencoder"), (digits, "vae")):
        said = jensen("denoise", run, "--corruption", "blur", "--strength", "0.2", "-n", "12")
        assert said.code == 0
        clean = Run.open(run).data(transform="none", corruption="none").test.batch(torch.arange(12)).target
        seen = blur(clean, 0.2)
        with torch.no_grad():
            made = Run.open(run).model().reconstruct(seen).clamp(0, 1)
        for name, images in (("corrupted", seen), (kind, made)):
            (line,) = (line for line in said.out.splitlines() if line.startswith(f"{name} "))
            words = line.split()
            assert float(words[1]) == pytest.approx(psnr(clean, images), abs=0.006)
            assert float(words[2]) == pytest.approx(ssim(clean, images), abs=6e-4)
        assert "knows the blur" in said.out
        assert "50 validation images, corrupted alike" in said.out


def test_without_scikit_image_there_is_psnr_and_a_hint(
    jensen: Jensen, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("denoising", "image_quality"):
        monkeypatch.setattr(f"jensen.metrics.{module}.has_scikit_image", lambda: False)
    said = jensen("denoise", plain, "-n", "5")
    assert said.code == 0
    assert "median filter" in said.out
    assert "non-local" not in said.out
    assert "pip install 'jensen[compare]'" in said.err


def test_folders_of_noisy_images(jensen: Jensen, plain: Path, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    assert jensen("denoise", plain, tmp_path, "-o", tmp_path / "clean").code == 0
    assert {path.name for path in (tmp_path / "clean").iterdir()} == {path.name for path in pictures}
    (tmp_path / "empty").mkdir()
    said = jensen("denoise", plain, tmp_path / "empty", "-o", tmp_path / "none")
    assert said.code == 2
    assert "empty is a folder without images" in said.err


@pytest.mark.parametrize("strength", ["0", "-1", "1.5", "much"])
def test_a_wrong_strength(jensen: Jensen, plain: Path, strength: str) -> None:
    said = jensen("denoise", plain, "--strength", strength)
    assert said.code == 2
    assert "strength" in said.err


def test_denoise_says_where_it_makes_no_sense(jensen: Jensen, digits: Path, iris: Path, large: Path) -> None:
    assert "was not trained to denoise" in jensen("denoise", digits).err
    assert jensen("denoise", digits, "--corruption", "masking", "-n", "1").code == 0
    assert "nothing to denoise" in jensen("denoise", iris).err
    assert "nothing to denoise" in jensen("denoise", large).err
    assert "nothing to reconstruct" in jensen("reconstruct", large).err
