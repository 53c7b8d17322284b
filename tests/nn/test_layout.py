"""Where levels lie: their sizes, those between them and the data, and what does not fit."""

from __future__ import annotations

import pytest

from jensen.config.scales import parse_scales
from jensen.errors import ConfigError
from jensen.nn.layout import layout_of


def test_levels_of_vectors() -> None:
    layout = layout_of(parse_scales(["2x3@10", "1@5"]), (), 4)
    assert layout.stem == ()
    assert [(rung.latents, rung.width, rung.shape) for rung in layout.rungs] == [
        (3, 10, (3,)),
        (3, 10, (3,)),
        (1, 5, (1,)),
    ]


def test_levels_on_grids_halve_from_scale_to_scale() -> None:
    layout = layout_of(parse_scales(["2x3@16", "1@32"]), (28, 28), 4)
    assert [rung.shape for rung in layout.rungs] == [(3, 7, 7), (3, 7, 7), (1, 3, 3)]
    assert [(rung.size, rung.width, rung.latents) for rung in layout.stem] == [((28, 28), 4, 0), ((14, 14), 8, 0)]


@pytest.mark.parametrize(
    ("size", "downsampling", "sizes"),
    [
        ((7, 9), 1, [(7, 9), (3, 4), (1, 2)]),
        ((33, 20), 2, [(16, 10), (8, 5), (4, 2)]),
        ((33, 20), 4, [(8, 5), (4, 2), (2, 1)]),
    ],
)
def test_odd_sizes_are_rounded_down(size: tuple[int, int], downsampling: int, sizes: list[tuple[int, int]]) -> None:
    assert [rung.size for rung in layout_of(parse_scales(["1@2"] * 3), size, downsampling).rungs] == sizes


def test_a_narrow_stem_has_a_channel() -> None:
    assert [rung.width for rung in layout_of(parse_scales(["1@2"]), (16, 16), 8).stem] == [1, 1, 1]


def test_too_many_scales_for_the_data() -> None:
    with pytest.raises(ConfigError, match="data of 28x20 cannot be halved 5 times, which 4 scales with downsampling 4"):
        layout_of(parse_scales(["1@2"] * 4), (28, 20), 4)
    assert len(layout_of(parse_scales(["1@2"] * 3), (28, 20), 4).rungs) == 3


@pytest.mark.parametrize("downsampling", [0, 3, -4])
def test_downsampling_is_a_power_of_two(downsampling: int) -> None:
    with pytest.raises(ValueError, match=f"power of 2 .* got {downsampling}$"):
        layout_of(parse_scales(["1@2", "1@2"]), (28, 28), downsampling)
