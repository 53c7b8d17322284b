"""Blocks of a hierarchy: what its steps are made of and see, and how a condition enters."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from jensen.config import NetConfig
from jensen.config.scales import parse_scales
from jensen.nn import Film
from jensen.nn.cells import DecoderCell
from jensen.nn.layout import Layout, layout_of
from jensen.nn.rungs import BLOCKS, Cells, Dense, Down, Head, Residual


def laid_out(kind: str, size: tuple[int, int] = (9, 6), words: tuple[str, ...] = ("2x3@4", "1@6")) -> Layout:
    return layout_of(parse_scales(words), () if kind == "mlp" else size, 2)


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
    kept = type(blocks.keep_up(8)), type(blocks.keep_down(layout.rungs[0]))

    def of_kind(net: nn.Module, kind: type[nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in net.modules())

    resized = kind == "cells"  # a cell that changes the size counts as one of its kind
    above = len(layout.stem) * (usual if stem is None else stem)
    halvings = len(layout.stem) if resized else 0
    assert of_kind(blocks.up(0, (1, 8, 8), False), kept[0]) == above + usual + halvings
    assert of_kind(blocks.up(1, (1, 8, 8), False), kept[0]) == usual
    assert of_kind(blocks.down(1, (1, 8, 8)).blocks, kept[1]) == usual
    assert of_kind(blocks.down(0, (1, 8, 8)).blocks, kept[1]) == above + halvings


def expansions(net: nn.Module) -> list[int]:
    """Channels of the depthwise convolution of each decoder cell over those of its input."""
    found = []
    for cell in net.modules():
        if isinstance(cell, DecoderCell):
            first, depthwise, *_ = (m for m in cell.f if isinstance(m, nn.Conv2d))
            assert first.out_channels == depthwise.in_channels == depthwise.groups
            found.append(first.out_channels // first.in_channels)
    return found


def test_cells_of_the_way_down_are_widened_six_times_on_the_scales_and_three_near_the_data() -> None:
    layout = layout_of(parse_scales(["2x1@8", "1@8"]), (16, 16), 4)
    blocks = Cells(NetConfig(depth=2), layout, 0, False, 1)
    assert expansions(blocks.down(2, (1, 16, 16))) == [6, 6, 6]  # one that enlarges, from scale to scale, and two
    assert expansions(blocks.down(1, (1, 16, 16))) == [6, 6]
    assert expansions(blocks.down(0, (1, 16, 16))) == [3, 3, 3, 3]  # at each of two sizes one that enlarges and one
    whole = Cells(NetConfig(depth=2), layout_of(parse_scales(["1@8"]), (8, 8), 1), 0, False)
    assert expansions(whole.down(0, (1, 8, 8))) == [6, 6]  # latents lie on the data's own grid


@pytest.mark.parametrize("kind", ["conv", "cells"])
def test_posterior_of_the_top_has_a_layer_more(kind: str) -> None:
    """ELU, 1x1 convolution, ELU before the 3x3 convolution that heads of all levels end in."""
    layout = laid_out(kind)
    blocks = BLOCKS[kind](NetConfig(), layout, 0, False)
    *below, top = (blocks.posterior(i, False).double() for i in range(len(layout.rungs)))
    x = torch.randn(3, 6, 2, 1, dtype=torch.float64)
    weight, bias, last, last_bias = top.parameters()

    def elu(values: Tensor) -> Tensor:
        return torch.where(values > 0, values, values.exp() - 1)

    hidden = torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], elu(x)) + bias[:, None, None]
    torch.testing.assert_close(top(x), nn.functional.conv2d(elu(hidden), last, last_bias, padding=1))
    for head in below:
        only, only_bias = head.parameters()
        x = torch.randn(3, 4, 4, 3, dtype=torch.float64)
        torch.testing.assert_close(head(x), nn.functional.conv2d(x, only, only_bias, padding=1))


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
