"""Batches of sequences: what they refuse, how they are taken apart, and the order of a pass over time."""

from __future__ import annotations

import pytest
import torch

from jensen.inference.models.sequences import Sequences, check_lengths


def test_a_batch_is_counted_and_taken_apart_by_sequences() -> None:
    batch = Sequences(torch.arange(10.0).unsqueeze(1), [3, 1, 4, 2])
    assert len(batch) == 4
    assert [part.flatten().tolist() for part in batch.split(batch.values)] == [[0, 1, 2], [3], [4, 5, 6, 7], [8, 9]]
    part = batch[1:3]
    assert part.values.flatten().tolist() == [3, 4, 5, 6, 7]
    assert part.lengths.tolist() == [1, 4]
    shuffled = batch[torch.tensor([3, 0])]
    assert shuffled.values.flatten().tolist() == [8, 9, 0, 1, 2]
    assert shuffled.lengths.tolist() == [2, 3]


def test_the_whole_batch_is_itself_and_keeps_what_was_computed() -> None:
    batch = Sequences(torch.arange(5.0), [2, 3])
    assert batch[0:2] is batch
    assert batch[torch.tensor([1, 0])] is not batch
    assert batch.layout() is batch.layout(3)


def test_a_list_of_arrays_is_the_same_as_one_array_with_lengths() -> None:
    parts = [torch.randn(n, 2) for n in (4, 1, 2)]
    batch = Sequences.from_list(parts)
    assert torch.equal(batch.values, torch.cat(parts))
    assert batch.lengths.tolist() == [4, 1, 2]
    assert batch.starts.tolist() == [0, 4, 5]
    assert batch.owners.tolist() == [0, 0, 0, 0, 1, 2, 2]


def test_no_lengths_mean_one_sequence() -> None:
    assert Sequences(torch.zeros(7)).lengths.tolist() == [7]


@pytest.mark.parametrize("block_length", [1, 2, 3, 5, 100])
def test_a_layout_visits_each_observation_once_and_in_the_order_of_time(block_length: int) -> None:
    lengths = [5, 1, 8, 3, 3]
    layout = Sequences(torch.zeros(20), lengths).layout(block_length)
    assert sorted(layout.rows.tolist()) == list(range(20))
    assert torch.equal(layout.rows[layout.places], torch.arange(20))
    assert sum(layout.alive) == 20
    assert layout.alive == sorted(layout.alive, reverse=True)
    blocks: dict[int, list[int]] = {}
    for step, rows in enumerate(layout.rows.split(layout.alive)):
        for block, row in enumerate(rows.tolist()):
            blocks.setdefault(block, []).append(row)
            assert len(blocks[block]) == step + 1  # alive at every step before
    begins = {0, 5, 6, 14, 17}
    for block, rows in blocks.items():
        assert rows == list(range(rows[0], rows[0] + len(rows)))
        assert len(rows) <= block_length
        assert bool(layout.first[block]) == (rows[0] in begins)
        assert not begins & set(rows[1:])
    assert layout.most == -(-8 // block_length)
    in_time = [blocks[rank][0] for rank in layout.ranks.tolist()]
    assert in_time == sorted(in_time)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([3, 4], "add up to 7, but there are 10"),
        ([10, 0], "sequence 1 has 0"),
        ([-2, 12], "sequence 0 has -2"),
        ([2.5, 7.5], "whole numbers"),
        ([[5, 5]], "list of whole numbers"),
        ([float("nan"), 10], "whole numbers"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_lengths(lengths, 10)


def test_sequences_of_different_columns_or_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sequence 1 have shape \(3,\), those of the first \(2,\)"):
        Sequences.from_list([torch.zeros(4, 2), torch.zeros(4, 3)])
    with pytest.raises(ValueError, match="no sequence"):
        Sequences.from_list([])
    with pytest.raises(ValueError, match="sequence 1 has 0"):
        Sequences.from_list([torch.zeros(4, 2), torch.zeros(0, 2)])
