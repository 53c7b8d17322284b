"""What an encoder sees of a row: every value, every gap, and no way to take one for the other."""

from __future__ import annotations

import math

import torch

from jensen.config.columns import Column
from jensen.nn.table_features import TableFeatures

NAN = math.nan
COLUMNS = (
    Column(name="k", kind="categorical", categories=("x", "y", "z")),
    Column(name="a"),
    Column(name="n", kind="count"),
    Column(name="l", kind="categorical", categories=("p", "q")),
)


def test_values_and_gaps() -> None:
    features = TableFeatures(COLUMNS)
    x = torch.tensor([[2.0, -1.5, 3.0, 0.0], [NAN, NAN, NAN, NAN], [0.0, 0.0, 0.0, 1.0]])
    half = math.log(4) / 2
    expected = [
        [-1.5, half, 1, 1, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0, 0, 1],
    ]
    assert features.size == 9
    torch.testing.assert_close(features(x), torch.tensor(expected))


def test_a_gap_sends_no_nan_back() -> None:
    x = torch.tensor([[1.0, NAN, NAN, NAN], [1.0, 2.0, -3.0, 0.0]], requires_grad=True)
    TableFeatures(COLUMNS)(x).square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad[:, 1].isfinite().all())
    assert x.grad[:, 1].tolist() == [0, 4]
    assert not TableFeatures(COLUMNS).state_dict()  # it follows from the columns
