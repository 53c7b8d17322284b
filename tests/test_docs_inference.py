"""The Python of docs/inference.md runs, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jensen import families

PAGE = (Path(__file__).parents[1] / "docs" / "inference.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_runs():
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(block, names)
    claimed = [float(number) for number in re.findall(r"-\d+\.\d{5}\b", PAGE)][:3]
    assert names["result"].elbo_trace[:3] == pytest.approx(claimed, abs=6e-6)


def test_every_family_is_on_the_page():

    for name in families.__all__:
        if isinstance(getattr(families, name), type) and name != "ExponentialFamily":
            assert f"`{name}`" in PAGE
