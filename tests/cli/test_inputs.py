"""Images and arrays from files, right and wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jensen.cli.inputs import Scale, examples, load_npz, read
from jensen.errors import DataError
from jensen.training import Run

GREY = (1, 3, 4)
COLOUR = (3, 3, 4)
PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def saved(path: Path, array: np.ndarray[Any, Any], **options: Any) -> Path:
    """The array as an image file."""
    Image.fromarray(array).save(path, **options)
    return path


def test_a_grey_image_is_its_pixels_over_255(tmp_path: Path) -> None:
    inputs = read([saved(tmp_path / "a.png", PIXELS)], GREY)
    assert inputs.names == ["a"]
    np.testing.assert_array_equal(inputs.values.numpy(), PIXELS[None, None].astype(np.float32) / np.float32(255))


def test_a_colour_image_has_its_channels_first(tmp_path: Path) -> None:
    colours = np.stack([PIXELS, PIXELS // 2, 255 - PIXELS], -1)
    values = read([saved(tmp_path / "a.png", colours)], COLOUR).values.numpy()
    np.testing.assert_allclose(values[0], colours.transpose(2, 0, 1) / 255, rtol=1e-6)
    luma = colours @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    np.testing.assert_allclose(read([tmp_path / "a.png"], GREY).values.numpy()[0, 0], luma / 255, atol=1 / 255)


def test_grey_becomes_colour(tmp_path: Path) -> None:
    values = read([saved(tmp_path / "a.png", PIXELS)], COLOUR).values
    assert values.shape == (1, *COLOUR)
    assert torch.equal(values[0, 0], values[0, 2])


def test_16_bits_are_not_clipped(tmp_path: Path) -> None:
    deep = PIXELS.astype(np.uint16) * 257
    np.testing.assert_allclose(
        read([saved(tmp_path / "a.png", deep)], GREY).values.numpy()[0, 0], PIXELS / 255, rtol=1e-6
    )


def test_one_bit_and_opaque_images_are_read(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).convert("1").save(tmp_path / "bits.png")
    assert set(read([tmp_path / "bits.png"], GREY).values.unique().tolist()) <= {0.0, 1.0}
    opaque = np.stack([PIXELS, PIXELS, PIXELS, np.full_like(PIXELS, 255)], -1)
    values = read([saved(tmp_path / "opaque.png", opaque)], GREY).values.numpy()
    np.testing.assert_allclose(values[0, 0], PIXELS / 255, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 1, 3, 4), (5, 3, 4), (3, 4), (1, 3, 4)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    array = np.random.default_rng(0).random(shape)
    path = tmp_path / f"a{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, array)
    inputs = read([path], GREY)
    np.testing.assert_array_equal(inputs.values.numpy(), array.reshape(-1, *GREY).astype(np.float32))
    assert len(set(inputs.names)) == len(inputs.values)


def test_uint8_arrays_are_grey_levels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", other=np.zeros(3), images=PIXELS[None])
    np.testing.assert_allclose(read([tmp_path / "a.npz"], GREY).values.numpy()[0, 0], PIXELS / 255, rtol=1e-6)


def test_several_files_keep_their_order(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{name}.png", PIXELS + shift) for shift, name in enumerate("ba")]
    inputs = read(paths, GREY)
    assert inputs.names == ["b", "a"]
    assert inputs.values[1, 0, 0, 0].item() == pytest.approx(1 / 255)


def test_a_table_is_standardised() -> None:
    scale = Scale(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    own = torch.tensor([[3.0, 6.0]])
    assert scale.to_model(own).tolist() == [[1.0, 1.0]]
    assert torch.equal(scale.to_own(scale.to_model(own)), own)
    assert torch.equal(Scale().to_model(own), own)


def _broken(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    match name:
        case "size.png":
            saved(path, PIXELS.T.copy())
        case "alpha.png":
            saved(path, np.stack([PIXELS] * 4, -1))
        case "cut.png":
            saved(path, PIXELS)
            path.write_bytes(path.read_bytes()[:-30])
        case "text.png" | "text.npy" | "text.npz":
            path.write_text("no image")
        case "empty.npz":
            path.write_bytes(b"")
        case "pickle.npy":
            np.save(path, np.array([{}], dtype=object), allow_pickle=True)
        case "two.npz":
            np.savez(path, a=PIXELS, b=PIXELS)
        case "nan.npy":
            np.save(path, np.full(GREY, np.nan))
        case "range.npy":
            np.save(path, np.full(GREY, 7.0))
        case "shape.npy":
            np.save(path, np.zeros((2, 4, 3)))
        case "none.npy":
            np.save(path, np.zeros((0, 3, 4)))
        case "complex.npy":
            np.save(path, np.zeros(GREY, complex))
        case "other.txt":
            path.write_text("0")
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("size.png", "is 3 x 4 pixels, the model needs 4 x 3; resize it"),
        ("alpha.png", "has transparent pixels"),
        ("cut.png", "is damaged or no image"),
        ("text.png", "is damaged or no image"),
        ("text.npy", "is damaged or no .npy file"),
        ("text.npz", "is damaged or no .npz file"),
        ("empty.npz", "is damaged or no .npz file"),
        ("pickle.npy", "is damaged or no .npy file"),
        ("two.npz", "holds a, b; call the array to read 'images'"),
        ("nan.npy", "not finite"),
        ("range.npy", "has values from 7 to 7; images should be uint8"),
        ("shape.npy", r"has shape \(2, 4, 3\); the model needs \(any number, 1, 3, 4\)"),
        ("none.npy", r"has shape \(0, 3, 4\)"),
        ("complex.npy", "not numbers"),
        ("other.txt", "cannot read this kind of file"),
        ("absent.png", "no such file"),
        ("absent.npz", "no such file"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, message: str) -> None:
    path = _broken(tmp_path, name)
    with pytest.raises(DataError, match=message) as caught:
        read([path], GREY)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_is_no_row_of_a_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is an image, but the model's data have shape \(4,\)"):
        read([saved(tmp_path / "a.png", PIXELS)], (4,))


def test_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    paths = [saved(tmp_path / "a.png", PIXELS), saved(tmp_path / "more" / "a.png", PIXELS)]
    with pytest.raises(DataError, match="two of the files are called a"):
        read(paths, GREY)


def test_load_npz_takes_no_pickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", codes=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="plain arrays"):
        load_npz(tmp_path / "a.npz")


def test_examples_are_the_grey_values_of_the_split(digits: Path) -> None:
    from sklearn.datasets import load_digits

    run = Run.open(digits)
    assert run.config.data.transform == "binarise"  # which the values must not be
    with np.load(digits / "splits.npz") as splits:
        places = splits["test"][[2, 0]]
    expected = load_digits().images[places][:, None] / 16
    inputs = examples(run, "test", [2, 0])
    np.testing.assert_allclose(inputs.values.numpy(), expected, rtol=1e-6)
    assert inputs.names == ["test-00002", "test-00000"]
    with pytest.raises(DataError, match="there is no example 359: the test split has 0 to 358"):
        examples(run, "test", [0, 359])
