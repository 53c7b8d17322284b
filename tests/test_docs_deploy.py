"""The Python of docs/deploy.md runs, and leaves what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_the_python_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    assert names["codes"].shape == (150, 2)
    assert names["restored"].shape == names["x"].shape
    assert 4 < names["restored"][:, 0].mean() < 8  # centimetres of a sepal
    assert np.isfinite(names["densities"]).all()
    assert names["new"].shape == (5, 4)
    assert names["folder"].is_relative_to(tmp_path)
    assert not names["again"].training
