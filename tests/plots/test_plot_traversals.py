"""A traversal shows its rows in the order given, with their captions and the picture they start from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from matplotlib.figure import Figure

from jensen.plots import traversals

Tiles = Callable[[Figure], list[npt.NDArray[Any]]]
Words = Callable[[Figure], str]

CAPTIONS = ("z3, 2.41 nats", "z0, 0.02 nats")


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_latents_in_the_order_given(channels: int, tiles: Tiles) -> None:
    images = torch.rand(2, 5, channels, 6, 4)
    figure = traversals(images, CAPTIONS)
    flat = images.flatten(0, 1)
    expected = flat[:, 0] if channels == 1 else flat.permute(0, 2, 3, 1)
    for shown, wanted in zip(tiles(figure), expected.numpy(), strict=True):
        np.testing.assert_allclose(shown, wanted)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(CAPTIONS)
    assert not figure.axes[0].patches


def test_the_start_stands_framed_at_the_left_of_every_row(tiles: Tiles, words: Words) -> None:
    images, start = torch.rand(2, 3, 1, 4, 4), torch.rand(1, 4, 4)
    figure = traversals(images, CAPTIONS, values=(-3, 0.5, 3), start=start)
    shown = tiles(figure)
    assert len(shown) == 8
    for place in (0, 4):
        np.testing.assert_allclose(shown[place], start[0].numpy())
    frames = [patch.get_xy() for patch in figure.axes[0].patches]
    corners = [(image.get_extent()[0], image.get_extent()[3]) for image in figure.axes[0].images]
    assert frames == [corners[0], corners[4]]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["start", "−3", "0.5", "3"]
    assert all(caption in words(figure) for caption in CAPTIONS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: traversals(torch.rand(2, 3, 4, 4), CAPTIONS), "5 dimension"),
        (lambda: traversals(torch.rand(2, 3, 1, 4, 4), ["z0"]), r"one entry a row \(2\)"),
        (lambda: traversals(torch.rand(2, 3, 1, 4, 4), CAPTIONS, values=[1.0]), r"one entry a step \(3\)"),
        (lambda: traversals(torch.rand(2, 3, 1, 4, 4), CAPTIONS, start=torch.rand(1, 4, 5)), "one shape"),
        (lambda: traversals(torch.full((2, 3, 1, 4, 4), torch.nan), CAPTIONS), "finite"),
    ],
)
def test_wrong_input_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
