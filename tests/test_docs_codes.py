"""The Python of docs/codes.md runs, and its table says what the configuration says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import jensen.nn.quantiser
from jensen.config import QUANTISER_KNOBS, QuantiserConfig

PAGE = (Path(__file__).parents[1] / "docs" / "codes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's Python leaves."""
    found: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, found)
    return found


def test_codes_have_the_shapes_that_the_page_tells(names: dict[str, Any]) -> None:
    assert names["codes"].shape == (8, 16)
    assert names["codes"].dtype == torch.int64
    assert 0 <= names["codes"].min() <= names["codes"].max() < 512
    assert names["grid"].shape == (8, 1, 4, 4)
    torch.testing.assert_close(
        names["model"].reconstruct(names["data"].test.batch(torch.arange(8)).x), names["restored"]
    )


def test_the_rate_is_the_length_of_the_code(names: dict[str, Any]) -> None:
    expected = 16 * torch.tensor(512.0).log().item()
    assert names["history"]["valid/rate"] == pytest.approx([expected] * 3, rel=1e-5)


def test_what_is_drawn(names: dict[str, Any]) -> None:
    assert names["drawn"].shape == (4, 1, 7, 7)
    new = names["new"] * 16
    torch.testing.assert_close(new, new.round(), atol=1e-4, rtol=0)


def test_the_factor_for_sonnets_commitment() -> None:
    values, places, dim = 3 * 32 * 32, 8 * 8, 64
    assert "0.25 to 0.094" in PAGE
    assert round(0.25 * values / (2 * places * dim), 3) == 0.094


def test_the_table_has_every_quantiser_with_its_defaults() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert {kind for kind, _, _ in rows} == set(get_args(QuantiserConfig.model_fields["kind"].annotation))
    for kind, name, text in rows:
        assert hasattr(jensen.nn.quantiser, name)
        told = dict(re.findall(r"--quantiser-([\w-]+)(?: (?!--)([\w.,-]+))?", text.replace("`", " ")))
        if kind == "residual":
            assert told == {"books": str(QUANTISER_KNOBS[kind]["books"])}
            continue
        assert set(told) == {knob.replace("_", "-") for knob in QUANTISER_KNOBS[kind]}
        for knob, value in QUANTISER_KNOBS[kind].items():
            if isinstance(value, tuple):
                assert told[knob] == ",".join(map(str, value))
            elif value is not None and not isinstance(value, bool):
                assert told[knob] == str(value).removesuffix(".0")
