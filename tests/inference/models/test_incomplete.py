"""Rows with missing values: grouping, slicing, and fewer rows that say the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jensen.inference.models.incomplete import IncompleteRows


def rows_with_gaps(n: int = 60, d: int = 4, share: float = 0.3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, dtype=torch.float64, generator=generator)
    x[torch.rand(n, d, generator=generator) < share] = torch.nan
    return x


def moments(rows: IncompleteRows) -> dict[tuple[float, ...], tuple[float, Tensor]]:
    """Count and second moment of (x, 1) by pattern: all that a Gaussian likelihood sees."""
    found = {}
    for group, pattern in enumerate(rows.observed):
        mine = rows.pattern == group
        both = torch.cat([rows.x[mine], rows.weight[mine, None]], 1)
        found[tuple(pattern.tolist())] = (float(rows.count[mine].sum()), both.mT @ both)
    return found


def test_complete_rows_are_one_pattern() -> None:
    rows = IncompleteRows.from_array(rows_with_gaps(share=0.0))
    assert len(rows.observed) == 1
    assert len(rows.compressed()) == 5


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_compressed_rows_have_the_same_sufficient_statistics(share: float) -> None:
    rows = IncompleteRows.from_array(rows_with_gaps(400, share=share))
    few = rows.compressed()
    before = {pattern: found for pattern, found in moments(rows).items() if any(pattern)}
    after = moments(few)
    assert set(before) == set(after)
    assert len(few) < len(rows) / 2
    for pattern, (count, second) in before.items():
        assert after[pattern][0] == pytest.approx(count)
        torch.testing.assert_close(after[pattern][1], second)
    for one, other in zip(rows.sums, few.sums, strict=True):
        torch.testing.assert_close(one, other)


def test_compression_keeps_the_spread_of_data_far_from_the_origin() -> None:
    x = rows_with_gaps(300, share=0.0)
    few = IncompleteRows.from_array(x + 1e7).compressed()
    scatter = few.x[1:].mT @ few.x[1:]
    centred = x - x.mean(0)
    torch.testing.assert_close(scatter, centred.mT @ centred, rtol=1e-7, atol=1e-6)


def test_slices_and_index_tensors_take_rows_with_their_patterns() -> None:
    x = rows_with_gaps()
    rows = IncompleteRows.from_array(x)
    chosen = torch.tensor([7, 3, 41])
    for index in (slice(10, 20), chosen):
        part = rows[index]
        torch.testing.assert_close(torch.where(part.there.bool(), part.x, torch.nan), x[index], equal_nan=True)
        assert len(part.observed) == len(part.pattern.unique())


def test_rows_without_a_value_are_left_out() -> None:
    x = rows_with_gaps()
    x[5] = torch.nan
    few = IncompleteRows.from_array(x).compressed()
    assert bool(few.observed.any(1).all())
    assert float(few.count.sum()) == float((~x.isnan()).any(1).sum())
