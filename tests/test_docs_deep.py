"""The Python of docs/deep.md runs, and what the page says of models and presets is so."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import jensen.autoencoders
from jensen.autoencoders.build import DEEP_KINDS
from jensen.config.scales import DEFAULT_SCALES

PAGE = (Path(__file__).parents[1] / "docs" / "deep.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's Python leaves."""
    found: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, found)
    return found


def test_codes_and_levels_have_the_shapes_that_the_page_tells(names: dict[str, Any]) -> None:
    assert names["codes"].shape == (8, 14)
    assert [part.shape[-1] for part in (names["top"], names["middle"], names["bottom"])] == [2, 4, 8]
    assert names["gist"].shape == names["alike"].shape == (8, 1, 8, 8)
    assert names["new"].shape == (16, 1, 8, 8)


def test_the_top_level_tells_less_than_all(names: dict[str, Any]) -> None:
    x, model = names["x"], names["model"]
    errors = [(model.reconstruct(x, top=top) - x).square().mean().item() for top in (0, 3)]
    assert errors[1] < errors[0]


def test_training_gained(names: dict[str, Any]) -> None:
    bound = names["history"]["valid/elbo"]
    assert bound[-1] > bound[0] + 1.0


def test_a_q_of_ones_own_is_a_bound_with_its_own_terms(names: dict[str, Any]) -> None:
    own = names["own"]
    output = own(names["x"], samples=3)
    first, second = output.levels[1].posterior.loc[:2]
    torch.testing.assert_close(first, second)  # whatever was drawn above
    assert math.isfinite(output.rate().mean().item())


def test_the_table_names_every_model_and_its_class() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| `(\w+)` \|", PAGE, re.MULTILINE))
    assert rows == {kind: made.__name__ for kind, made in DEEP_KINDS.items()}
    assert all(hasattr(jensen.autoencoders, name) for name in rows.values())


def test_the_default_scales_are_those_of_the_ladder_paper() -> None:
    assert f"`{','.join(DEFAULT_SCALES['mlp'])}`" in PAGE
