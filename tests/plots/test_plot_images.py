"""Pictures made of images show exactly the images that they are given, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from jensen.plots import image_grid, neighbours, reconstructions, walk

Tiles = Callable[[Figure], list[npt.NDArray[Any]]]
Words = Callable[[Figure], str]


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (1, 1, 1, 1), (7, 1, 5, 9), (3, 1, 64, 64)])
def test_grey_grid_shows_the_pixels_unsmoothed(shape: tuple[int, ...], tiles: Tiles) -> None:
    values = images(*shape)
    figure = image_grid(values)
    for shown, expected in zip(tiles(figure), values[:, 0].numpy(), strict=True):
        np.testing.assert_allclose(shown, expected)
    drawn = figure.axes[0].images
    assert {image.get_interpolation() for image in drawn} == {"nearest"}
    assert {image.get_clim() for image in drawn} == {(0.0, 1.0)}


def test_three_channels_are_colour_and_others_their_mean(tiles: Tiles) -> None:
    colour, stack = images(2, 3, 4, 6), images(2, 5, 4, 6)
    np.testing.assert_allclose(tiles(image_grid(colour))[1], colour[1].permute(1, 2, 0).numpy())
    np.testing.assert_allclose(tiles(image_grid(stack))[1], stack[1].mean(0).numpy(), rtol=1e-6)


def test_values_are_clipped(tiles: Tiles) -> None:
    shown = tiles(image_grid(np.array([-1.0, 0.25, 2.0]).reshape(1, 1, 1, 3)))[0]
    np.testing.assert_array_equal(shown, [[0.0, 0.25, 1.0]])


def test_any_kind_of_array(tiles: Tiles) -> None:
    values = images(2, 1, 3, 3)
    for given in (values.bfloat16(), values.clone().requires_grad_(), values.double().numpy(), values.tolist()):
        np.testing.assert_allclose(tiles(image_grid(given))[1], values[1, 0].numpy(), atol=4e-3)


def test_grid_goes_row_by_row_without_distortion() -> None:
    axes = image_grid(images(7, 1, 4, 8), 3).axes[0]
    corners = [(image.get_extent()[0], image.get_extent()[3]) for image in axes.images]
    assert len({x for x, _ in corners}) == 3
    assert len({y for _, y in corners}) == 3
    assert corners == sorted(corners, key=lambda corner: (corner[1], corner[0]))  # y grows downwards
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    left, right, bottom, top = axes.images[0].get_extent()
    assert (bottom - top) / (right - left) == pytest.approx(4 / 8)


def test_captions_stand_under_their_images() -> None:
    axes = image_grid(images(4, 1, 4, 4), 2, captions=list("abcd")).axes[0]
    for image, text in zip(axes.images, axes.texts, strict=True):
        left, right, bottom, _ = image.get_extent()
        assert left < text.get_position()[0] < right
        assert bottom < text.get_position()[1] < bottom + 0.1
    assert [text.get_text() for text in axes.texts] == list("abcd")


def test_labels_and_captions_are_no_formulas() -> None:
    image_grid(images(1, 1, 4, 4), captions=[r"$\frac"], title=r"$\frac").draw_without_rendering()
    walk({r"$\frac": images(3, 1, 4, 4)}).draw_without_rendering()


def test_reconstructions_pair_originals_with_theirs(tiles: Tiles, words: Words) -> None:
    originals, made = images(5, 1, 4, 4), 1 - images(5, 1, 4, 4)
    figure = reconstructions(originals, made, columns=3)
    shown, order = tiles(figure), [originals[:3], made[:3], originals[3:], made[3:]]
    np.testing.assert_allclose(np.stack(shown), torch.cat(order)[:, 0].numpy())
    extents = [image.get_extent() for image in figure.axes[0].images]
    assert extents[0][:2] == extents[3][:2]  # an original and its reconstruction stand in one column
    assert extents[3][2] > extents[0][2]
    assert words(figure).count("reconstruction") >= 2


def test_denoising_has_three_rows(tiles: Tiles, words: Words) -> None:
    clean, made, seen = images(2, 1, 4, 4), images(2, 1, 4, 4) / 2, images(2, 1, 4, 4) / 3
    figure = reconstructions(clean, made, seen)
    np.testing.assert_allclose(np.stack(tiles(figure)), torch.cat([seen, made, clean])[:, 0].numpy())
    for label in ("corrupted", "reconstruction", "clean"):
        assert label in words(figure)


def test_walk_stands_between_its_framed_originals(tiles: Tiles, words: Words) -> None:
    first, last = images(1, 4, 4), 1 - images(1, 4, 4)
    linear, spherical = images(5, 1, 4, 4), images(5, 1, 4, 4) / 2
    figure = walk({"linear": linear, "spherical": spherical}, (first, last))
    rows = [torch.cat([first[None], path, last[None]]) for path in (linear, spherical)]
    np.testing.assert_allclose(np.stack(tiles(figure)), torch.cat(rows)[:, 0].numpy())
    frames = [(patch.get_x(), patch.get_y()) for patch in figure.axes[0].patches]
    ends = [(image.get_extent()[0], image.get_extent()[3]) for image in figure.axes[0].images]
    assert sorted(frames) == sorted([ends[0], ends[6], ends[7], ends[13]])
    for label in ("linear", "spherical", "original", "0.5"):
        assert label in words(figure)


def test_walk_without_originals_frames_its_own_ends(tiles: Tiles) -> None:
    figure = walk(images(4, 1, 4, 4))
    assert len(tiles(figure)) == 4
    assert len(figure.axes[0].patches) == 2
    assert {patch.get_edgecolor() for patch in figure.axes[0].patches} == {to_rgba("#D55E00")}
    assert len(walk(images(1, 1, 4, 4)).axes[0].patches) == 1


def test_neighbours_follow_their_datum(tiles: Tiles) -> None:
    originals, near = images(2, 1, 4, 4), images(3, 2, 1, 4, 4)
    expected = torch.cat([originals[:1], near[:, 0], originals[1:], near[:, 1]])
    np.testing.assert_allclose(np.stack(tiles(neighbours(originals, near))), expected[:, 0].numpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: image_grid(images(4, 8, 8)), r"4 dimension.*\(4, 8, 8\)"),
        (lambda: image_grid(images(0, 1, 8, 8)), "not be empty"),
        (lambda: image_grid(torch.full((1, 1, 2, 2), torch.nan)), "4 of 4 values are NaN"),
        (lambda: image_grid(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)), "integers up to 255"),
        (lambda: image_grid(images(2, 1, 2, 2), 0), "columns should be at least 1"),
        (lambda: image_grid(images(2, 1, 2, 2), captions=["a"]), r"one entry an image \(2\)"),
        (lambda: image_grid("abc"), "array of numbers"),
        (lambda: reconstructions(images(2, 1, 4, 4), images(3, 1, 4, 4)), "one shape"),
        (lambda: reconstructions(images(2, 1, 4, 4), images(2, 1, 4, 4), images(2, 1, 4, 5)), "corrupted"),
        (lambda: reconstructions(images(2, 1, 4, 4), images(2, 1, 4, 4), columns=0), "columns"),
        (lambda: walk({}), "at least one path"),
        (lambda: walk({"a": images(3, 1, 4, 4), "b": images(4, 1, 4, 4)}), "path a and path b"),
        (lambda: walk(images(3, 1, 4, 4), (images(1, 1, 4, 4), images(1, 4, 4))), r"two images \(C, H, W\)"),
        (lambda: walk(images(3, 1, 4, 4), (images(1, 4, 5), images(1, 4, 5))), "one shape"),
        (lambda: neighbours(images(2, 1, 4, 4), images(3, 1, 1, 4, 4)), "one shape"),
    ],
)
def test_wrong_input_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
