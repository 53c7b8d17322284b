"""Classes stand in their rows, and what was hidden is tinted and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from jensen.plots import class_grid, inpainting

Tiles = Callable[[Figure], list[npt.NDArray[Any]]]
Words = Callable[[Figure], str]


def told(images: Tensor) -> Tensor:
    """The left half of images (B, C, H, W), as a model is told it."""
    visible = torch.zeros(len(images), 1, *images.shape[2:])
    visible[..., : images.shape[-1] // 2] = 1
    return torch.cat([images * visible, visible], 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_row_a_class(channels: int, tiles: Tiles) -> None:
    images = torch.rand(3, 4, channels, 5, 6)
    figure = class_grid(images, ("cat", "dog", "a" * 30), columns="abcd")
    flat = images.flatten(0, 1)
    expected = flat[:, 0] if channels == 1 else flat.permute(0, 2, 3, 1)
    for shown, wanted in zip(tiles(figure), expected.numpy(), strict=True):
        np.testing.assert_allclose(shown, wanted)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["cat", "dog", "a" * 23 + "…"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list("abcd")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_hidden_part_is_tinted_and_the_rest_shown(channels: int, tiles: Tiles, words: Words) -> None:
    truth, samples = torch.rand(2, channels, 4, 6), torch.rand(3, 2, channels, 4, 6)
    figure = inpainting(told(truth), samples, truth)
    shown = tiles(figure)
    assert len(shown) == 2 * 5
    for row in range(2):
        seen, *made, true = shown[5 * row : 5 * row + 5]
        original = truth[row].permute(1, 2, 0).expand(4, 6, 3).numpy()
        np.testing.assert_allclose(seen[:, :3], original[:, :3])
        tint = seen[:, 3:].reshape(-1, 3)
        assert np.ptp(tint, axis=0).max() == 0  # flat
        assert tint[0].max() - tint[0].min() > 0.1  # and no grey, which could be a pixel
        plain = (lambda image: image[0]) if channels == 1 else (lambda image: image.permute(1, 2, 0))
        for place, sample in enumerate(made):
            np.testing.assert_allclose(sample, plain(samples[place, row]).numpy())
        np.testing.assert_allclose(true, plain(truth[row]).numpy())
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["visible", "samples", "", "", "truth"]
    corners = [(image.get_extent()[0], image.get_extent()[3]) for image in figure.axes[0].images]
    assert [patch.get_xy() for patch in figure.axes[0].patches] == [corners[4], corners[9]]


def test_mean_and_truth_are_drawn_where_given(tiles: Tiles) -> None:
    truth = torch.rand(1, 1, 4, 4)
    figure = inpainting(told(truth), truth[None], mean=truth / 2)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["visible", "samples", "mean"]
    np.testing.assert_allclose(tiles(figure)[-1], truth[0, 0].numpy() / 2)
    assert not figure.axes[0].patches


X = torch.rand(2, 1, 4, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_grid(X, ("a",)), "5 dimension"),
        (lambda: class_grid(X[None], ("a", "b")), r"one entry a class \(1\)"),
        (lambda: class_grid(X[None], ("a",), columns=("b",)), r"\(2\)"),
        (lambda: inpainting(X, X[None], X), "visible should have 2 channels"),
        (lambda: inpainting(told(X), X, X), "5 dimension"),
        (lambda: inpainting(told(X), X[None, :1], X), "visible and samples should have one shape"),
        (lambda: inpainting(told(X), X[None], X[..., :3]), "visible and truth should have one shape"),
        (lambda: inpainting(told(X), X[None], X, mean=X[:1]), "visible and mean should have one shape"),
    ],
)
def test_wrong_input_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
