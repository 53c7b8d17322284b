"""The Python of docs/objectives-and-conditions.md runs, and its tables say what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import jensen.objectives
from jensen.config import KNOBS, ModelConfig, ObjectiveKind
from jensen.data.visible import PARTS

PAGE = (Path(__file__).parents[1] / "docs" / "objectives-and-conditions.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's Python leaves."""
    found: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, found)
    return found


def test_the_parts_of_a_price_are_in_the_history(names: dict[str, Any]) -> None:
    parts = {f"valid/{name}" for name in ("mutual_information", "total_correlation", "dimension_wise_kl")}
    assert parts <= set(names["history"])
    sums = [sum(names["history"][part][i] for part in parts) for i in range(3)]
    assert names["history"]["valid/rate"] == pytest.approx(sums, rel=1e-4)


def test_an_objective_of_ones_own_counts_its_term(names: dict[str, Any]) -> None:
    model, data = names["model"], names["data"]
    x = data.test.batch(torch.arange(50)).x
    torch.manual_seed(1)
    output = model(x)
    own, plain = names["Squared"]()(output), jensen.objectives.Elbo()(output)
    norm = output.levels[0].z.square().sum(-1).mean()
    assert (own.value - plain.value).item() == pytest.approx(0.1 * norm.item(), rel=1e-3)
    assert own.terms["norm"].item() == pytest.approx(norm.item(), rel=1e-5)


def test_conditional_samples(names: dict[str, Any]) -> None:
    assert names["threes"].shape == (16, 1, 8, 8)


def test_scores_lie_where_they_can(names: dict[str, Any]) -> None:
    values = names["scores"].values()
    assert len(values) >= 8
    assert all(0.0 <= value <= 1.0 for value in values.values())


def test_the_table_has_every_objective_with_its_defaults() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| `(?:\w+)` \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE))
    assert set(rows) == set(get_args(ObjectiveKind))
    for kind, knobs in KNOBS.items():
        said = dict(re.findall(r"--([\w-]+) ([\w.-]+)", rows[kind]))
        own = {name: value for name, value in said.items() if name != "samples"}
        assert set(own) == {name.replace("_", "-") for name in knobs}, kind
        for name, value in knobs.items():
            text = own[name.replace("_", "-")]
            assert (text == value) if isinstance(value, str) else (float(text) == value), name


def test_classes_are_those_that_are_named() -> None:
    for name in re.findall(r"^\| `[\w-]+` \| `(\w+)` \|", PAGE, re.MULTILINE):
        assert issubclass(getattr(jensen.objectives, name), jensen.objectives.Objective)


def test_words_for_conditions() -> None:
    assert "upper-left" in PARTS
    assert "left-half" in PARTS
    for name in ("concat", "embedding", "film"):
        assert f"`{name}`" in PAGE or f"--conditioning {name}" in PAGE
        assert ModelConfig(conditioning=name).conditioning == name  # type: ignore[arg-type]
