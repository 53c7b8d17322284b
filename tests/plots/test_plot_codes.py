"""A code keeps its colour and its place, and the usage curve says what was counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from matplotlib.figure import Figure

from jensen.plots import code_maps, code_usage

Tiles = Callable[[Figure], list[npt.NDArray[Any]]]


def test_usage_is_sorted_and_normalised() -> None:
    counts = torch.tensor([0, 4, 1, 0, 3])
    (line,) = code_usage(counts).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [0.5, 0.375, 0.125])
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 3])


def test_usage_tells_perplexity_and_how_many() -> None:
    figure = code_usage({"alive": np.full(8, 7), "dying": np.array([9, 9, 0, 0])})
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "alive: 8 of 8 used, perplexity 8",
        "dying: 2 of 4 used, perplexity 2",
    ]


@pytest.mark.parametrize("counts", [torch.zeros(3), torch.tensor([1, -1])])
def test_no_counts(counts: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="counts should be 0 or more, and not all 0"):
        code_usage(counts)
    with pytest.raises(ValueError, match="at least one codebook"):
        code_usage({})


@pytest.mark.parametrize("channels", [1, 3])
def test_a_code_covers_its_pixels_in_one_colour(channels: int, tiles: Tiles) -> None:
    images, made = torch.rand(2, channels, 7, 6), torch.rand(2, channels, 7, 6)
    codes = torch.tensor([[[0, 1], [2, 3]], [[3, 3], [0, 5]]])
    shown = tiles(code_maps(images, {"codes": codes}, made))
    assert len(shown) == 6
    plain = (lambda image: image[0]) if channels == 1 else (lambda image: image.permute(1, 2, 0))
    np.testing.assert_allclose(shown[1], plain(images[1]).numpy())
    np.testing.assert_allclose(shown[5], plain(made[1]).numpy())
    colour: dict[int, npt.NDArray[Any]] = {}
    for map_, numbers in zip(shown[2:4], codes, strict=True):
        assert map_.shape == (7, 6, 3)
        for row in range(7):
            for column in range(6):
                code = int(numbers[row * 2 // 7, column // 3])
                np.testing.assert_array_equal(map_[row, column], colour.setdefault(code, map_[row, column]))
    every = np.stack(list(colour.values()))
    assert len(np.unique(every.round(3), axis=0)) == len(colour) == 5


def test_colours_of_many_codes_differ() -> None:
    codes = torch.arange(512).view(1, 1, 512)
    figure = code_maps(torch.zeros(1, 1, 1, 512), {"codes": codes}, torch.zeros(1, 1, 1, 512))
    painted = figure.axes[0].images[1].get_array()
    assert len(np.unique(np.asarray(painted).reshape(-1, 3).round(4), axis=0)) > 500


def test_wrong_codes() -> None:
    images = torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match="integers of 0 or more"):
        code_maps(images, {"codes": torch.zeros(2, 2, 2)}, images)
    with pytest.raises(ValueError, match="of 2 images, but are of 3"):
        code_maps(images, {"codes": torch.zeros(3, 2, 2, dtype=torch.int64)}, images)
    with pytest.raises(ValueError, match="columns"):
        code_maps(images, {"codes": torch.zeros(2, 2, 2, dtype=torch.int64)}, images, columns=0)
