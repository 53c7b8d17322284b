"""What is written of the data of a run is read back to the last character."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jensen.data import load_data
from jensen.training import DataFacts


def test_symbols_are_kept(tmp_path: Path) -> None:
    data = load_data("text", limit=20)
    facts = DataFacts.of(data)
    assert facts.symbols == data.dataset.symbols
    assert len(facts.symbols) == facts.levels
    facts.write(tmp_path / "data.yaml")
    assert DataFacts.read(tmp_path / "data.yaml") == facts
    assert DataFacts.of(load_data("digits")).symbols == ()


ODD = (
    tuple("\n\t \r\x85\u2028'\"#:-\\" + "é字"),
    ("no", "null", "1", "1.0", "", "~", "2026-01-01"),
)


@pytest.mark.parametrize("symbols", ODD)
def test_symbols_that_a_file_might_take_for_something_else(symbols: tuple[str, ...], tmp_path: Path) -> None:
    facts = DataFacts((1, 4), (1, 4), len(symbols), (), symbols=symbols)
    facts.write(tmp_path / "data.yaml")
    assert DataFacts.read(tmp_path / "data.yaml") == facts


def test_told_something_else_or_nothing() -> None:
    data = load_data("circles", condition="x,radius", limit=50)
    facts = DataFacts.of(data)
    nothing = facts.told(None)
    assert nothing == DataFacts.of(load_data("circles", limit=50))
    assert nothing.told(data.train.condition) == facts
    assert replace(facts, condition_names=()) != facts
