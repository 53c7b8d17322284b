"""The picture of what latent points decode to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from matplotlib.figure import Figure

from jensen.plots import Decoded, LatentProbe, random_latents

Tiles = Callable[[Figure], list[npt.NDArray[Any]]]
Words = Callable[[Figure], str]


def probe(name: str, *shares: float) -> LatentProbe:
    near = {float(2 * i): Decoded(torch.rand(12, 1, 4, 4), share) for i, share in enumerate(shares)}
    return LatentProbe(name, near, {"N(0, I)": Decoded(torch.rand(6, 1, 4, 4), 0.125)})


def test_panels_numbers_and_curve(tiles: Tiles, words: Words) -> None:
    first, second = probe("auto-encoder", 1.0, 0.5, 0.25), probe("VAE", 1.0, 0.75, 0.625)
    figure = random_latents(first, second, images=4, distance="distance / spread")
    assert len(figure.axes) == 2 * 4 + 2
    assert len(tiles(figure)) == 2 * 4 * 4
    np.testing.assert_allclose(np.stack(tiles(figure))[:4], np.asarray(first.near[0.0].images)[:4, 0], rtol=1e-6)
    curve, bars = figure.axes[-2:]
    np.testing.assert_allclose(curve.lines[0].get_xydata(), [[0, 1.0], [2, 0.5], [4, 0.25]])
    np.testing.assert_allclose(curve.lines[1].get_xydata(), [[0, 1.0], [2, 0.75], [4, 0.625]])
    assert [bar.get_height() for bar in bars.patches] == [0.125, 0.125]
    text = words(figure)
    for expected in ("auto-encoder", "VAE", "distance 0", "N(0, I)", "0.25", "0.62", "0.12", "distance / spread"):
        assert expected in text


def test_distances_are_sorted_and_random_points_may_be_missing() -> None:
    near = {2.0: Decoded(torch.rand(1, 1, 4, 4), 0.0), 0.0: Decoded(torch.rand(1, 1, 4, 4), 1.0)}
    figure = random_latents(LatentProbe("one", near, {}))
    np.testing.assert_allclose(figure.axes[-1].lines[0].get_xydata(), [[0, 1], [2, 0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_latents(), "at least one"),
        (lambda: random_latents(probe("a", 1.0), probe("b", 1.0, 0.5)), "share distances"),
        (lambda: random_latents(LatentProbe("a", {}, {})), "at least one"),
        (lambda: random_latents(probe("a", 1.5)), "from 0 to 1, but is 1.5"),
        (lambda: random_latents(probe("a", 1.0), images=0), "images should be at least 1"),
        (lambda: random_latents(LatentProbe("a", {0.0: Decoded(torch.rand(4, 4), 1.0)}, {})), "4 dimension"),
    ],
)
def test_wrong_input_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
