"""`jensen evaluate` and `jensen report`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jensen.metrics import evaluate
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen


def test_the_table_and_the_file_hold_what_python_finds(jensen: Jensen, digits: Path) -> None:
    run = Run.open(digits)
    expected = evaluate(run.model(), run.data().valid, samples=3, seed=5)
    said = jensen("evaluate", digits, "--samples", "3", "--split", "valid", "--seed", "5")
    assert said.code == 0
    assert "179 examples of the valid split" in said.out
    for name, value, meaning in expected.table():
        assert any(name in line and value in line and meaning in line for line in said.out.splitlines())
    assert json.loads((digits / "evaluation.json").read_text()) == {"split": "valid", **expected.to_dict()}


def test_json(jensen: Jensen, plain: Path) -> None:
    said = jensen("evaluate", plain, "--samples", "1", "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert found == json.loads((plain / "evaluation.json").read_text())
    assert found["split"] == "test"
    assert found["examples"] == 359
    assert found["elbo"] is None


@pytest.mark.parametrize("samples", ["0", "1.5", "many"])
def test_wrong_samples(jensen: Jensen, digits: Path, samples: str) -> None:
    said = jensen("evaluate", digits, "--samples", samples)
    assert said.code == 2
    assert "--samples" in said.err


@pytest.mark.parametrize("damage", ["config.yaml", "checkpoints", "data.yaml", "splits.npz"])
def test_a_damaged_run_is_told(jensen: Jensen, digits: Path, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    files = (
        [run / damage] if (run / damage).is_file() else [path for path in (run / damage).rglob("*") if path.is_file()]
    )
    for path in files:
        path.write_bytes(b"\x00\x01: {[")
    said = jensen("evaluate", run, "--samples", "1")
    assert said.code == 2
    assert said.err.startswith("jensen: error: ")
    assert str(run) in said.err


def test_report(jensen: Jensen, digits: Path) -> None:
    said = jensen("report", digits)
    assert said.code == 0
    assert said.out == f"{digits / 'report.html'}\n"
    assert (digits / "report.html").stat().st_size > 10_000
