"""From values back to text."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jensen.data import to_text
from jensen.data.text import shown
from jensen.errors import DataError

ABC = tuple("abcde")


def test_every_symbol_comes_back() -> None:
    symbols = tuple(chr(0x4E00 + place) for place in range(8_192))
    values = (torch.arange(8_192) / 8_191).view(2, 1, 4_096)
    assert to_text(values, symbols) == ["".join(symbols[:4_096]), "".join(symbols[4_096:])]


def test_the_nearest_symbol_counts() -> None:
    assert to_text(torch.tensor([[0.12, 0.13, 0.5, 0.99]]), ABC) == ["abce"]
    assert to_text(torch.tensor([[[0.25, 1.0]], [[0.0, 0.75]]], dtype=torch.float64), ABC) == ["be", "ad"]
    assert to_text(torch.zeros(0, 1, 4), ABC) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(2, 3, 4), r"not \(2, 3, 4\) torch.float32"),
        (torch.zeros(4), r"not \(4,\)"),
        (torch.zeros(2, 4, dtype=torch.int64), "torch.int64"),
        (torch.tensor([[0.5, 1.5]]), "value 1.5 stands for no symbol"),
        (torch.tensor([[-0.1]]), "stands for no symbol"),
        (torch.tensor([[float("nan")]]), "value nan stands for no symbol"),
    ],
)
def test_values_that_stand_for_no_text(values: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_text(values, ABC)


def test_data_without_symbols_have_no_text() -> None:
    with pytest.raises(DataError, match="at least two symbols, but there are 0"):
        to_text(torch.zeros(1, 1, 3), ())


def test_shown_is_one_line_that_says_all() -> None:
    assert shown('if x:\n\treturn "\\n"') == r'if x:\n\treturn "\\n"'
    assert shown("\N{REPLACEMENT CHARACTER} é") == "\N{REPLACEMENT CHARACTER} é"
