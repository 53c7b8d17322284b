"""Blocks of a hierarchy: sizes of levels, what its steps see, and how a condition enters."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from jensen.config import NetConfig
from jensen.config.scales import parse_scales
from jensen.errors import ConfigError
from jensen.nn import Film
from jensen.nn.rungs import Cells, Dense, Down, Embedding, Head, Layout, Residual, layout_of

BLOCKS = {"mlp": Dense, "conv": Residual, "cells": Cells}


def laid_out(kind: str, size: tuple[int, int] = (9, 6), words: tuple[str, ...] = ("2x3@4", "1@6")) -> Layout:
    return layout_of(parse_scales(words), () if kind == "mlp" else size, 2)


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


@pytest.mark.parametrize("from_codes", [False, True])
@pytest.mark.parametrize("by_film", [None, False, True])
@pytest.mark.parametrize("kind", BLOCKS)
def test_steps_fit_each_other(kind: str, by_film: bool | None, from_codes: bool) -> None:
    layout, shape = laid_out(kind), (2, 9, 6)
    blocks = BLOCKS[kind](NetConfig(), layout, 0 if by_film is None else 5, bool(by_film))
    told = None if by_film is None else torch.randn(3, 5)
    features = x = torch.rand(3, *shape)
    for i, rung in enumerate(layout.rungs):
        step = blocks.up(i, shape, from_codes)
        features = step(features, told)
        assert features.shape == (3, rung.width, *rung.size)
        parameters = blocks.posterior(i, merged=False)(features)
        assert parameters.shape == (3, 2 * rung.latents, *rung.size)
        if from_codes:
            features = parameters[:, : rung.latents]
    start = blocks.start()
    state = None if start is None else start.expand(3, *start.shape[1:])
    for i in reversed(range(len(layout.rungs))):
        rung = layout.rungs[i]
        if i < len(layout.rungs) - 1:
            assert state is not None
            assert blocks.prior(i)(state).shape == (3, 2 * rung.latents, *rung.size)
            merged = blocks.posterior(i, merged=True)(torch.rand(3, rung.width, *rung.size), state)
            assert merged.shape == (3, 2 * rung.latents, *rung.size)
        state = blocks.down(i, shape)(state, torch.randn(3, *rung.shape), told)
    assert state is not None
    assert state.shape == ((3, math.prod(shape)) if kind == "mlp" else x.shape)


@pytest.mark.parametrize("kind", ["conv", "cells"])
@pytest.mark.parametrize(("depth", "stem"), [(None, None), (3, None), (1, 4), (3, 1)])
def test_depth_is_blocks_a_level_and_stem_blocks_a_size_above(kind: str, depth: int | None, stem: int | None) -> None:
    layout = layout_of(parse_scales(["2x1@8"]), (8, 8), 4)
    blocks = BLOCKS[kind](NetConfig(depth=depth), layout, 0, False, stem)
    usual = {"conv": 1, "cells": 2}[kind] if depth is None else depth
    kept = type(blocks.keep_up(8)), type(blocks.keep_down(8))

    def of_kind(net: nn.Module, kind: type[nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in net.modules())

    resized = kind == "cells"  # a cell that changes the size counts as one of its kind
    above = len(layout.stem) * (usual if stem is None else stem)
    halvings = len(layout.stem) if resized else 0
    assert of_kind(blocks.up(0, (1, 8, 8), False), kept[0]) == above + usual + halvings
    assert of_kind(blocks.up(1, (1, 8, 8), False), kept[0]) == usual
    assert of_kind(blocks.down(1, (1, 8, 8)).blocks, kept[1]) == usual
    assert of_kind(blocks.down(0, (1, 8, 8)).blocks, kept[1]) == above + halvings


@pytest.mark.parametrize("depth", [None, 1, 3])
def test_dense_steps_have_two_layers_or_as_many_as_asked(depth: int | None) -> None:
    blocks = Dense(NetConfig(depth=depth), laid_out("mlp"), 0, False)
    linear = [m for m in blocks.up(1, (9,), False).modules() if isinstance(m, nn.Linear)]
    assert len(linear) == (2 if depth is None else depth)
    assert [(a.out_features, b.in_features) for a, b in pairwise(linear)] == [(4, 4)] * (len(linear) - 1)


def test_normalisation_stands_in_hidden_layers_and_not_before_parameters() -> None:
    blocks = Dense(NetConfig(normalisation="batch"), laid_out("mlp"), 0, False)
    assert [type(m) for m in blocks.down(0, (9,)).blocks][-1] is nn.Linear
    assert sum(isinstance(m, nn.BatchNorm1d) for m in blocks.down(0, (9,)).blocks) == 2
    for head in (blocks.prior(0), blocks.posterior(0, True)):
        assert not any(isinstance(m, nn.BatchNorm1d) for m in head.modules())


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_condition_beside_the_input_is_a_linear_function_added_to_it(kind: str) -> None:
    """W [h, c] + b = W_h h + b + W_c c: beside a step's input a condition shifts what its first layer makes of it."""
    layout, shape = laid_out(kind), (1, 9, 6)
    blocks = BLOCKS[kind](NetConfig(), layout, 5, False)
    for step in (blocks.up(0, shape, False), blocks.down(1, shape).blocks):
        shifts = [m for m in step.modules() if type(m).__name__ == "Shift"]
        assert len(shifts) == 1
        h, c = torch.randn(2, 4, *((9, 6) if kind != "mlp" else ())), torch.randn(2, 5)
        shift = torch.einsum("be,fe->bf", c, shifts[0].linear.weight)
        h = (
            h[:, : len(shifts[0].linear.weight)]
            if h.shape[1] >= len(shifts[0].linear.weight)
            else h.repeat(1, 3, *[1] * (h.ndim - 2))[:, : len(shifts[0].linear.weight)]
        )
        torch.testing.assert_close(shifts[0](h, c), h + shift.view(*shift.shape, *[1] * (h.ndim - 2)))


@pytest.mark.parametrize("kind", BLOCKS)
def test_film_modulates_every_block(kind: str) -> None:
    layout = laid_out(kind)
    blocks = BLOCKS[kind](NetConfig(), layout, 5, True)
    for step in (blocks.up(0, (1, 9, 6), False), blocks.up(2, (1, 9, 6), True), blocks.down(0, (1, 9, 6))):
        assert any(isinstance(m, Film) for m in step.modules())
        assert not any(type(m).__name__ == "Shift" for m in step.modules())


def test_head_adds_what_it_makes_of_the_state() -> None:
    head = Head(nn.Linear(3, 4), nn.Linear(2, 3))
    features, state = torch.randn(5, 3), torch.randn(5, 2)
    torch.testing.assert_close(head(features, state), head.out(features + head.merge(state)))
    torch.testing.assert_close(head(features), head.out(features))
    torch.testing.assert_close(Head(head.out)(features, state), head.out(features))


def test_a_step_down_sees_state_and_latents_side_by_side_or_latents_alone() -> None:
    blocks = Residual(NetConfig(), laid_out("conv"), 0, False).down(1, (1, 9, 6))
    state, z = torch.randn(2, 4, 4, 3), torch.randn(2, 3, 4, 3)
    assert blocks.join is not None
    joined = blocks.join(torch.cat([state, z], 1))
    torch.testing.assert_close(blocks(state, z), blocks.blocks(joined))
    alone = Dense(NetConfig(), laid_out("mlp"), 0, False).down(1, (1, 9, 6))
    assert isinstance(alone, Down)
    z = torch.randn(2, 3)
    assert torch.equal(alone(torch.randn(2, 4), z), alone(None, z))


@pytest.mark.parametrize(
    ("shape", "conditioning", "size"),
    [
        ((7,), "concat", 7),
        ((7,), "embedding", 16),
        ((7,), "film", 16),
        ((1, 5, 5), "concat", 64),
        ((2, 5, 4), "film", 64),
    ],
)
def test_embeddings_have_the_size_they_say(shape: tuple[int, ...], conditioning: str, size: int) -> None:
    embedding = Embedding(NetConfig(), shape, conditioning)
    assert embedding.size == size
    assert embedding(torch.rand(3, *shape)).shape == (3, size)
    if conditioning == "concat" and len(shape) == 1:
        condition = torch.rand(3, *shape)
        assert torch.equal(embedding(condition), condition)
