"""Sprites: the published factors in the published order, and pictures that show them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from jensen.config import DataConfig
from jensen.data import dsprites, fetch, load_data
from jensen.data.dsprites import ORIGINAL, TOTAL, Sprites
from jensen.data.packed import PackedImages, unpack
from jensen.errors import ConfigError, DataError

SPRITES = Sprites()
CORNERS = [(0, 0), (0, 31), (31, 0), (31, 31)]


def index(shape: int, scale: int, orientation: int, x: int, y: int) -> int:
    """Position by mixed radix, written out."""
    return y + 32 * (x + 32 * (orientation + 40 * (scale + 6 * shape)))


def draw(*factors: int) -> torch.Tensor:
    return SPRITES[torch.tensor([index(*factors)])][0, 0]


def every_mask(x: int, y: int) -> torch.Tensor:
    """All 720 shapes, scales and orientations at a position, (3, 6, 40, 64, 64)."""
    places = torch.arange(720) * 1024 + 32 * x + y
    return SPRITES[places].view(3, 6, 40, 64, 64)


def centre(image: torch.Tensor) -> tuple[float, float]:
    rows, columns = image.double().nonzero().double().mean(0).tolist()
    return columns, rows


def test_size_and_values() -> None:
    assert len(SPRITES) == TOTAL == 737_280
    images = SPRITES[torch.tensor([0, TOTAL - 1, 5])]
    assert images.shape == (3, 1, 64, 64)
    assert images.dtype == torch.uint8
    assert images.unique().tolist() == [0, 1]


@pytest.mark.parametrize("corner", CORNERS)
def test_nothing_is_cut_off_by_the_frame(corner: tuple[int, int]) -> None:
    area = every_mask(16, 16).sum(dim=(3, 4))
    assert torch.equal(every_mask(*corner).sum(dim=(3, 4)), area)
    assert int(area.min()) > 50


def test_nothing_is_cut_off_by_the_mask() -> None:
    images = every_mask(0, 0)  # centred on pixel (16, 16), drawn within 16 pixels of it
    rows = images.amax(dim=(0, 1, 2, 4)).nonzero()
    columns = images.amax(dim=(0, 1, 2, 3)).nonzero()
    assert rows.min() > 0
    assert rows.max() < 32
    assert columns.min() > 0
    assert columns.max() < 32


def test_area_follows_the_shape_and_the_square_of_the_scale() -> None:
    area = every_mask(16, 16).sum(dim=(3, 4)).double().mean(dim=2)
    # side 20.8; semi-axes 14.8 and 8.4; 3.6620 is the area of the unit heart (counted on a fine grid)
    known = torch.tensor([20.8**2, math.pi * 14.8 * 8.4, 3.6620 * 11**2], dtype=torch.float64)
    scales = torch.linspace(0.5, 1.0, 6, dtype=torch.float64)
    assert torch.all((area / (known[:, None] * scales**2) - 1).abs() < 0.015)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (5, 20), (31, 31)])
@pytest.mark.parametrize("shape", [0, 1, 2])
def test_position_moves_the_centre_one_pixel_a_step(shape: int, x: int, y: int) -> None:
    column, row = centre(draw(shape, 5, 7, x, y))
    assert column == pytest.approx(16 + x, abs=0.2)
    assert row == pytest.approx(16 + y, abs=0.2)


def test_every_pixel_moves_with_the_position() -> None:
    here, there = draw(2, 3, 11, 4, 9), draw(2, 3, 11, 10, 30)
    assert torch.equal(here.roll((21, 6), (0, 1)), there)


def test_orientation_turns_the_ellipse() -> None:
    for turn in range(1, 39):
        rows, columns = draw(1, 5, turn, 16, 16).nonzero().double().T
        dx, dy = columns - columns.mean(), -(rows - rows.mean())
        axis = 0.5 * math.atan2(2 * float((dx * dy).mean()), float((dx * dx - dy * dy).mean()))
        expected = 2 * math.pi * turn / 39
        difference = (axis - expected + math.pi / 2) % math.pi - math.pi / 2
        assert abs(difference) < math.radians(2.0), turn


def test_the_heart_stands_upright_and_has_one_axis() -> None:
    upright = draw(2, 5, 0, 0, 0)[:33, :33]  # centred on pixel 16
    assert torch.equal(upright, upright.flip(1))
    widths = upright.sum(1)[upright.sum(1) > 0]
    assert widths[-1] < 4  # a tip below
    assert widths[0] > widths[-1]


def test_first_and_last_orientation_coincide() -> None:
    images = every_mask(16, 16)
    assert torch.equal(images[:, :, 0], images[:, :, 39])
    heart = images[2, 5, :39].flatten(1)
    assert len(heart.unique(dim=0)) == 39


def test_shapes_and_scales_differ() -> None:
    assert len(every_mask(16, 16)[:, :, 3].reshape(18, -1).unique(dim=0)) == 18


def test_factors_of_the_data_set() -> None:
    data = load_data("dsprites")
    factors = data.dataset.factors
    assert factors is not None
    assert data.dataset.factor_names == ("shape", "scale", "orientation", "x", "y")
    for row in ((0, 0, 0, 0, 0), (2, 5, 39, 31, 31), (1, 3, 17, 4, 30)):
        assert factors[index(*row)].tolist() == list(row)
    assert (factors.max(0).values + 1).tolist() == [3, 6, 40, 32, 32]
    assert data.dataset.labels is not None
    assert torch.equal(data.dataset.labels, factors[:, 0])
    assert data.class_names == ("square", "ellipse", "heart")
    place = index(1, 3, 17, 4, 30)
    assert float(data.dataset.targets["scale"][place]) == pytest.approx(0.8)
    assert float(data.dataset.targets["x"][place]) == pytest.approx(4 / 31)
    assert float(data.dataset.targets["y"][place]) == pytest.approx(30 / 31)
    batch = data.test.batch(torch.arange(4))
    assert data.test.factors is not None
    for image, row in zip(batch.x, data.test.factors[batch.index], strict=True):
        assert torch.equal(image[0], draw(*row.tolist()).float())


@pytest.mark.parametrize("transform", ["none", "binarise", "binarise-static", "dequantise"])
def test_drawn_on_demand_under_every_transform(transform: str) -> None:
    data = load_data("dsprites", transform=transform, limit=50)
    assert isinstance(data.train.values, Sprites)
    batch = data.train.batch(torch.arange(50))
    stored = SPRITES[data.splits["train"]].float()
    assert torch.equal(batch.x if transform != "dequantise" else (batch.x * 2).floor(), stored)


def test_published_values_of_the_factors() -> None:
    assert dsprites.FACTORS["scale"].tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert dsprites.FACTORS["orientation"][[0, 1, 39]].tolist() == pytest.approx([0, 2 * math.pi / 39, 2 * math.pi])
    assert dsprites.FACTORS["x"][[0, 1, 31]].tolist() == pytest.approx([0, 1 / 31, 1])


def test_splits() -> None:
    data = load_data("dsprites")
    assert (len(data.train), len(data.valid), len(data.test)) == (589_824, 73_728, 73_728)
    whole = torch.cat(list(data.splits.values()))
    assert len(whole.unique()) == TOTAL
    # in no order: the mean position of a random test set, to five standard errors
    assert abs(float(data.splits["test"].double().mean()) / TOTAL - 0.5) < 5 / math.sqrt(12 * 73_728)


@pytest.mark.parametrize("wrong", [-1, TOTAL])
def test_out_of_range(wrong: int) -> None:
    with pytest.raises(IndexError, match=str(TOTAL)):
        SPRITES[torch.tensor([0, wrong])]


def test_validation_that_leaves_nothing() -> None:
    with pytest.raises(ConfigError, match=r"data\.validation"):
        load_data("dsprites", validation=0.95)


# The cache and the published file are tested on a small set of 3 x 2 x 4 x 2 x 2 images.
COUNTS = (3, 2, 4, 2, 2)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(dsprites, "COUNTS", COUNTS)
    monkeypatch.setattr(dsprites, "TOTAL", 96)
    monkeypatch.setattr(dsprites, "BATCH", 10)
    return 96


def test_packed_cache(small: int, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = load_data("dsprites").dataset.values
    assert isinstance(drawn, Sprites)
    (path,) = fetch("dsprites")
    assert path.parent == cache
    assert [file.name for file in cache.iterdir()] == [path.name]
    kept = load_data("dsprites").dataset.values
    assert isinstance(kept, PackedImages)
    everyone = torch.arange(small)
    assert torch.equal(kept[everyone], drawn[everyone])
    monkeypatch.setattr(dsprites, "Sprites", None)
    assert fetch("dsprites") == [path]  # not drawn again


def test_an_interrupted_cache_leaves_nothing(small: int, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sprites, "packed", stop)
    with pytest.raises(KeyboardInterrupt):
        fetch("dsprites")
    assert list(cache.iterdir()) == []


def test_a_damaged_cache_says_so(small: int) -> None:
    (path,) = fetch("dsprites")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="delete it, it will be made again"):
        load_data("dsprites")


def published(folder: Path, **changes: np.ndarray) -> Path:  # type: ignore[type-arg]
    """A file in the published form with the small set of factors and random images."""
    images = np.random.default_rng(0).integers(0, 2, (96, 64, 64), dtype=np.uint8)
    classes = np.stack(np.unravel_index(np.arange(96), (1, *COUNTS)), axis=1).astype(np.int64)
    path = folder / ORIGINAL
    arrays = {"imgs": images, "latents_classes": classes}
    np.savez_compressed(path, allow_pickle=False, **(arrays | changes))
    return path


def test_published_file(small: int, tmp_path: Path, cache: Path) -> None:
    path = published(tmp_path)
    data = load_data("dsprites", directory=tmp_path)
    with np.load(path) as archive:
        expected = torch.from_numpy(archive["imgs"])[:, None]
    assert torch.equal(data.dataset.values[torch.arange(small)], expected)
    assert data.dataset.licence == "Apache-2.0"
    (kept,) = cache.iterdir()
    before = kept.stat().st_mtime_ns
    load_data("dsprites", directory=tmp_path)
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imgs": np.zeros((96, 64, 32), np.uint8)}, r"imgs should be \(96, 64, 64\) uint8"),
        ({"imgs": np.zeros((96, 64, 64), np.float32)}, "float32"),
        ({"imgs": np.full((96, 64, 64), 255, np.uint8)}, "imgs should be 0 or 1, but has 255"),
        ({"latents_classes": np.zeros((96, 6), np.int64)}, "latents_classes are not those"),
    ],
)
def test_wrong_published_files(
    small: int,
    tmp_path: Path,
    cache: Path,
    changes: dict[str, np.ndarray],  # type: ignore[type-arg]
    message: str,
) -> None:
    published(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        load_data("dsprites", directory=tmp_path)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_damaged_published_file(small: int, tmp_path: Path) -> None:
    path = published(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(200) + content[1200:])
    with pytest.raises(DataError, match=f"{ORIGINAL}.*damaged"):
        load_data("dsprites", directory=tmp_path)
    path.write_bytes(content[:5000])
    with pytest.raises(DataError, match=f"{ORIGINAL}.*damaged"):
        load_data("dsprites", directory=tmp_path)


def test_packed_bits_are_those_of_pack() -> None:
    some = np.array([0, 1, 400_000])
    assert torch.equal(unpack(SPRITES.packed(some), (1, 64, 64)), SPRITES[torch.from_numpy(some)])
    assert DataConfig(name="dsprites").validation == 0.1
