"""Folders of images: modes, sizes, orientation, classes, splits, faults, and the cache."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jensen.config import DataConfig
from jensen.data import image_cache, load_data
from jensen.data.folder import arranged, load_folder, two_values
from jensen.data.given_splits import complete
from jensen.data.own import fingerprint, refuse_keys
from jensen.data.picture import find_images, parse_size, pixels
from jensen.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def picture(path: Path, *, size: tuple[int, int] = (6, 4), mode: str = "L", **options: Any) -> np.ndarray[Any, Any]:
    """Noise of (width, height), written; returns its pixels (height, width[, 3])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(array).save(path, **options)
    return array


def several(root: Path, names: list[str], **options: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {name: picture(root / name, **options) for name in names}


def config(**given: Any) -> DataConfig:
    return DataConfig(name="./own", **given)


def test_rows_are_the_files_in_order_of_their_names(tmp_path: Path) -> None:
    made = several(tmp_path / "a", [f"{i:02d}.png" for i in range(20)])
    dataset = load_folder(tmp_path / "a", config())
    assert (dataset.shape, dataset.levels, dataset.suits) == ((1, 4, 6), 256, "discretised-logistic")
    assert dataset.labels is None
    np.testing.assert_array_equal(dataset.values[torch.arange(20)].numpy()[:, 0], np.stack(list(made.values())))


def test_classes_are_folders_in_every_split(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        several(tmp_path / "a" / name, [f"{i:02d}.png" for i in range(20)])
    dataset = load_folder(tmp_path / "a", config())
    assert dataset.class_names == ("cat", "dog")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0] * 20 + [1] * 20
    for part in dataset.splits.values():
        assert dataset.labels[part].float().mean() == 0.5


def test_splits_by_folder_keep_rows_and_labels_together(tmp_path: Path) -> None:
    root = tmp_path / "a" / "inner"
    for split, count in (("Test", 3), ("train", 20), ("val", 4)):
        for grey, name in ((10, "cat"), (200, "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(np.full((4, 6), grey + i, np.uint8)).save(folder / f"{i:02d}.png")
    dataset = load_folder(tmp_path / "a", config())
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 40, "valid": 8, "test": 6}
    assert dataset.labels is not None
    for part in dataset.splits.values():
        bright = dataset.values[part][:, 0, 0, 0] >= 200
        assert torch.equal(dataset.labels[part], bright.long())
    assert sorted(set(dataset.values[dataset.test].flatten().tolist())) == [10, 11, 12, 200, 201, 202]
    assert "40 train" in dataset.description


@pytest.mark.parametrize(
    ("names", "classes", "given"),
    [
        (["x/1.png", "x/2.png"], (), False),
        (["x/a/1.png", "x/b/2.png"], ("a", "b"), False),
        (["1.png", "x/2.png", "y/3.png"], (), False),
        (["train/1.png", "test/2.png"], (), True),
        (["train/a/1.png", "train/b/2.png"], ("a", "b"), False),
        (["train/a/1.png", "test/b/2.png"], ("a", "b"), True),
        (["train/1.png", "other/2.png"], ("other", "train"), False),
        (["cat/x/1.png", "cat/y/2.png", "dog/1.png"], ("cat", "dog"), False),
    ],
)
def test_what_paths_say(names: list[str], classes: tuple[str, ...], given: bool) -> None:
    plan = arranged(names)
    assert (plan.classes if plan.labels is not None else (), plan.given) == (classes, given)


def test_splits_without_training_are_refused() -> None:
    with pytest.raises(DataError, match="test and valid, but none called train"):
        arranged(["test/1.png", "valid/2.png"])


def test_what_is_missing_of_the_splits_comes_from_training() -> None:
    parts = complete({"train": 50, "valid": 7}, validation=0.1)
    assert sorted(parts["valid"].tolist()) == list(range(50, 57))
    assert len(parts["test"]) == 10
    assert sorted([*parts["train"].tolist(), *parts["test"].tolist()]) == list(range(50))
    parts = complete({"train": 50, "test": 7}, validation=0.1)
    assert (len(parts["train"]), len(parts["valid"])) == (45, 5)
    assert parts["test"].tolist() == list(range(50, 57))
    labels = torch.arange(60)  # a class of its own for each
    assert len(complete({"train": 60}, validation=0.1, labels=labels)["test"]) == 12
    with pytest.raises(ConfigError, match=r"of 3 training examples \(5 in all\) leaves none for split valid"):
        complete({"train": 3, "test": 2}, validation=0.1)


def test_every_mode_becomes_the_same_picture(tmp_path: Path) -> None:
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    image = Image.fromarray(grey)
    image.save(tmp_path / "l.png")
    image.convert("LA").save(tmp_path / "la.png")
    image.convert("RGBA").save(tmp_path / "rgba.webp", lossless=True)
    image.convert("P").save(tmp_path / "p.gif")
    image.convert("RGB").save(tmp_path / "rgb.bmp")
    image.save(tmp_path / "l.pgm")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.tif")
    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(pixels(path, 1, None)[0], grey, err_msg=path.name)
        np.testing.assert_array_equal(pixels(path, 3, None)[2], grey, err_msg=path.name)
    image.convert("1", dither=Image.Dither.NONE).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(pixels(tmp_path / "bits.png", 1, None)[0], np.where(grey > 127, 255, 0))


def test_transparency_lies_on_black(tmp_path: Path) -> None:
    rgba = np.full((2, 3, 4), (200, 100, 50, 128), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    expected = np.array([200, 100, 50]) * 128 / 255
    np.testing.assert_allclose(pixels(tmp_path / "a.png", 3, None)[:, 0, 0], expected, atol=1)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation(tmp_path: Path, turn: int, suffix: str) -> None:
    """The eight ways a camera can be held: the stored picture is what undoes to an L-shaped mark at the top left."""
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :8] = 255
    upright[:8, 8:16] = 128
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, 1),  # shown after a quarter turn clockwise
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[274] = turn
    stored = Image.fromarray(np.ascontiguousarray(undo[turn](upright)))
    stored.save(tmp_path / f"a{suffix}", exif=exif, **({"quality": 100} if suffix == ".jpg" else {}))
    np.testing.assert_allclose(pixels(tmp_path / f"a{suffix}", 1, None)[0].astype(int), upright, atol=6)


def test_ways_to_a_size(tmp_path: Path) -> None:
    wide = np.zeros((40, 80), np.uint8)
    wide[:, 20:60] = 200
    Image.fromarray(wide).save(tmp_path / "a.png")
    crop = pixels(tmp_path / "a.png", 1, (8, 8), "crop")[0]
    np.testing.assert_allclose(crop[:, 1:-1], 200, atol=5)  # the filter overshoots at edges
    assert crop.min() > 180
    pad = pixels(tmp_path / "a.png", 1, (8, 8), "pad")[0]
    assert pad[:2].max() == 0
    assert pad[-2:].max() == 0
    assert abs(int(pad[4, 4]) - 200) < 5
    stretch = pixels(tmp_path / "a.png", 1, (8, 8), "stretch")[0]
    assert abs(float(stretch.mean()) - 100) < 3
    assert pixels(tmp_path / "a.png", 3, (4, 12), "stretch").shape == (3, 4, 12)


def test_a_large_jpeg_is_reduced_as_if_it_were_decoded_whole(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.linspace(0, 1, 640), np.linspace(0, 1, 480))
    smooth = (255 * (0.5 + 0.4 * np.sin(5 * x) * np.cos(4 * y))).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    one, other = (pixels(tmp_path / name, 1, (24, 32)).astype(int) for name in ("a.jpg", "a.png"))
    assert np.abs(one - other).max() <= 3


def test_sizes_that_differ_need_one(tmp_path: Path) -> None:
    root = tmp_path / "a"
    several(root, [f"{i}.png" for i in range(20)])
    picture(root / "wide.png", size=(9, 4))
    with pytest.raises(DataError, match=r"2 different sizes, e\.g\. 0\.png \(6 x 4\) and wide\.png \(9 x 4\).*--size"):
        load_folder(root, config())
    dataset = load_folder(root, config(size="8x10", colour="rgb"))
    assert dataset.shape == (3, 8, 10)
    assert "2 sizes from 6 x 4 to 9 x 4" in dataset.description


@pytest.mark.parametrize("text", ["0", "64x", "a", "-3", "64x64x3", "99999"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.size should be"):
        parse_size(text)


def test_colour_is_there_if_one_image_has_it(tmp_path: Path) -> None:
    root = tmp_path / "a"
    several(root, [f"{i}.png" for i in range(20)])
    assert load_folder(root, config()).shape[0] == 1
    picture(root / "red.png", mode="RGB")
    assert load_folder(root, config()).shape[0] == 3
    assert load_folder(root, config(colour="grey")).shape[0] == 1


def test_two_grey_levels(tmp_path: Path) -> None:
    root = tmp_path / "a"
    root.mkdir()
    bits = RNG.integers(0, 2, (20, 4, 6), dtype=np.uint8)
    for i, image in enumerate(bits):
        Image.fromarray(image * 255).convert("1").save(root / f"{i:02d}.png")
    dataset = load_folder(root, config())
    assert (dataset.levels, dataset.suits) == (2, None)
    np.testing.assert_array_equal(dataset.values[torch.arange(20)].numpy()[:, 0], bits)
    assert two_values([np.array([[3, 7]], np.uint8), np.array([[7, 3]], np.uint8)]) == 7
    assert two_values([np.array([[3, 7]], np.uint8), np.array([[7, 9]], np.uint8)]) is None
    assert two_values([np.array([[0, 5]], np.uint8), np.array([[7, 7]], np.uint8)]) is None
    assert two_values([np.array([[3, 3]], np.uint8)]) is None


def damaged(root: Path) -> dict[str, str]:
    """Files that cannot be read, with a part of the reason."""
    good = (root / "00.png").read_bytes()
    (root / "cut.png").write_bytes(good[: len(good) // 2])
    (root / "text.png").write_text("no image")
    (root / "empty.jpg").write_bytes(b"")
    (root / "drawing.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n")
    Image.new("1", (20_000, 10_000)).save(root / "bomb.png")
    Image.fromarray(np.zeros((4, 6), np.float32)).save(root / "float.tif")
    return {
        "bomb.png": "more pixels than is safe",
        "cut.png": "truncated",
        "drawing.png": "no image",
        "empty.jpg": "no image",
        "float.tif": "floating-point",
        "text.png": "no image",
    }


def test_what_cannot_be_read_is_named_or_left_out(tmp_path: Path) -> None:
    root = tmp_path / "a"
    several(root, [f"{i:02d}.png" for i in range(20)])
    expected = damaged(root)
    with pytest.raises(DataError, match="6 of 26 images cannot be read") as caught:
        load_folder(root, config())
    for name, why in expected.items():
        assert f"{name} (" in str(caught.value)
        assert why in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    dataset = load_folder(root, config(skip_bad=True))
    assert len(dataset) == 20
    assert "6 unreadable left out: bomb.png" in dataset.description
    for name in expected:
        (root / name).unlink()
    assert "unreadable" not in load_folder(root, config()).description


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"no images in this folder \(nothing\)"):
        load_folder(tmp_path / "a", config())
    for i in range(3):
        (tmp_path / "a" / f"{i}.txt").touch()
    with pytest.raises(DataError, match=r"no images in this folder \(3 \.txt\)"):
        load_folder(tmp_path / "a", config())


def test_hidden_files_and_loops_are_passed_over(tmp_path: Path) -> None:
    root = tmp_path / "a"
    several(root, ["x/1.png", "y/2.png"])
    several(tmp_path, ["elsewhere/3.png"])
    (root / "x" / "up").symlink_to(root)
    (root / "y" / "self").symlink_to(root / "y")
    (root / "nothing.png").symlink_to(root / "absent.png")
    (root / "z").symlink_to(tmp_path / "elsewhere")
    (root / ".hidden.png").write_text("")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "1.png").write_text("")
    found, others = find_images(root)
    assert [name for name, _ in found] == ["x/1.png", "y/2.png", "z/3.png"]
    assert dict(others) == {"link to nothing": 1}


def test_the_cache_follows_the_files(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "a"
    several(root, [f"{i:02d}.png" for i in range(20)])
    load_folder(root, config())
    (stored,) = (cache / "folders").glob("*.npy")
    written = stored.stat().st_mtime_ns
    load_folder(root, config())
    assert stored.stat().st_mtime_ns == written
    picture(root / "05.png")
    new = picture(root / "20.png")
    dataset = load_folder(root, config())
    np.testing.assert_array_equal(dataset.values[torch.tensor([20])].numpy()[0, 0], new)
    (again,) = (cache / "folders").glob("*.npy")  # the old one is gone
    assert again != stored
    load_folder(root, config(size="4"))
    assert len(list((cache / "folders").glob("*.npy"))) == 2
    again.write_bytes(again.read_bytes()[:100])  # damaged: made anew
    assert len(load_folder(root, config())) == 21


def test_two_at_once_do_the_work_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "a"
    several(root, [f"{i:02d}.png" for i in range(40)])
    built = []
    real = image_cache._build

    def slow(*arguments: Any) -> None:
        built.append(threading.get_ident())
        time.sleep(0.1)
        real(*arguments)

    monkeypatch.setattr(image_cache, "_build", slow)
    found, _ = find_images(root)

    def total(_: int) -> int:
        return int(image_cache.decoded(root, found, image_cache.Asked(None, "crop", None)).images.sum())

    with ThreadPoolExecutor(3) as pool:
        sums = list(pool.map(total, range(3)))
    assert len(built) == 1
    assert sums == [int(load_folder(root, config()).values[torch.arange(40)].sum())] * 3
    assert sorted(path.suffix for path in (cache / "folders").iterdir()) == [".json", ".lock", ".npy"]


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    several(tmp_path / "a", ["1.png"])
    with pytest.raises(ConfigError, match=r"data\.class_column is for a table of your own, but .* is a folder"):
        load_data(str(tmp_path / "a"), class_column="species")
    with pytest.raises(
        ConfigError, match=r"data\.size is for a folder of images of your own, but digits is a data set"
    ):
        refuse_keys(DataConfig(name="digits", size="8"))
    refuse_keys(DataConfig(name="digits"))


def test_a_fingerprint_says_what_has_changed(tmp_path: Path) -> None:
    root = tmp_path / "a"
    several(root, [f"{i}.bmp" for i in range(3)])
    own = DataConfig(name=str(root))
    first = fingerprint(own)
    assert first.startswith("3 images, ")
    os.utime(root / "0.bmp", (0, 0))
    assert fingerprint(own) == first
    (root / "0.bmp").rename(root / "9.bmp")
    assert fingerprint(own) != first
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((20, 5)))
    one = fingerprint(DataConfig(name=str(path)))
    np.save(path, np.ones((20, 5)))
    assert fingerprint(DataConfig(name=str(path))) != one


def test_a_folder_is_found_by_its_bare_name_and_a_data_set_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JENSEN_CACHE", str(tmp_path / "cache"))
    for folder in ("photos", "digits"):
        several(tmp_path / folder, [f"{n}.png" for n in range(20)])
    assert load_data("photos").dataset.shape == (1, 4, 6)
    assert load_data("digits").dataset.shape == (1, 8, 8)
    assert load_data("./digits").dataset.shape == (1, 4, 6)
    assert [DataConfig(name=name).title for name in ("photos", "a/photos", "clients.csv", "digits")] == [
        "photos",
        "photos",
        "clients",
        "digits",
    ]
    with pytest.raises(ConfigError, match="no data set 'fotos'"):
        load_data("fotos")
