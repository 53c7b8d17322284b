"""What a Dataset refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jensen.data import Dataset
from jensen.errors import DataError


def dataset(**changes: Any) -> Dataset:
    """Ten tiny images, with changes."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "values": torch.arange(40, dtype=torch.uint8).view(10, 1, 2, 2) % 4,
        "shape": (1, 2, 2),
        "levels": 4,
        "train": torch.arange(6),
        "valid": torch.arange(6, 8),
        "test": torch.arange(8, 10),
    }
    return Dataset(**(settings | changes))


def test_a_good_one() -> None:
    data = dataset()
    assert len(data) == 10
    assert data.kind == "image"
    assert list(data.splits) == ["train", "valid", "test"]
    table = dataset(values=torch.zeros(10, 3), shape=(3,), levels=None)
    assert table.kind == "table"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid": torch.arange(5, 8)}, "example 5 is used more than once"),
        ({"train": torch.tensor([0, 0, 1])}, "example 0 is used more than once"),
        ({"test": torch.tensor([8, 10])}, r"positions 8 \.\. 10, but there are 10"),
        ({"test": torch.tensor([-1])}, r"positions -1 \.\. -1"),
        ({"test": torch.tensor([], dtype=torch.int64)}, "split test is empty"),
        ({"test": torch.tensor([8.0])}, r"split test should be one row of int64.*float32"),
        ({"test": torch.tensor([[8]])}, "one row of int64"),
        ({"labels": torch.zeros(9, dtype=torch.int64)}, "labels has 9 rows for 10"),
        ({"targets": {"size": torch.zeros(10)}}, r"target size should be \(10, 1\) float32"),
        ({"targets": {"size": torch.zeros(10, 1, dtype=torch.float64)}}, "float64"),
        ({"shape": (1, 2, 3)}, r"shape \(1, 2, 2\), not \(1, 2, 3\)"),
        ({"shape": (1, 1, 2, 2)}, "shape should be"),
        ({"levels": 3}, r"grey level 3 in data of 3 levels"),
        ({"levels": None}, "should be torch.float32, not torch.uint8"),
        ({"values": torch.zeros(0, 1, 2, 2, dtype=torch.uint8)}, "no examples"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(**changes)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values_are_named(bad: float) -> None:
    values = torch.zeros(10, 3)
    values[7, 2] = values[8, 0] = bad
    with pytest.raises(DataError, match=r"index \(7, 2\) \(example 7\)"):
        dataset(values=values, shape=(3,), levels=None)
