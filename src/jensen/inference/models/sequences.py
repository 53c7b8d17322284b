"""Many sequences of unequal length as one batch: no padding, and an order of work in which time steps are dense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

__all__ = ["Layout", "Sequences", "check_lengths"]

_CACHED_LAYOUTS = 4


def check_lengths(lengths: Any, total: int) -> Tensor:
    """`lengths` (None: one sequence) as whole numbers of at least 1 that add up to `total`.

    Raises:
        ValueError: they are not whole numbers, one is below 1, or they do not add up.
    """
    if lengths is None:
        lengths = [total]
    result = torch.as_tensor(lengths).detach().cpu()
    if result.dim() != 1 or result.is_complex() or result.dtype == torch.bool:
        raise ValueError(f"lengths must be a list of whole numbers, got shape {tuple(result.shape)}, {result.dtype}")
    if result.is_floating_point() and not bool((result == result.round()).all()):
        raise ValueError("lengths must be whole numbers, got fractions or NaN")
    result = result.long()
    short = (result < 1).nonzero().flatten().tolist()
    if short:
        raise ValueError(f"every sequence needs at least one observation: sequence {short[0]} has {result[short[0]]}")
    if int(result.sum()) != total:
        raise ValueError(f"lengths add up to {int(result.sum())}, but there are {total} observations")
    return result


@dataclass(frozen=True)
class Layout:
    """The order in which a pass over time visits the observations of a batch.

    Sequences are cut into blocks of at most `block_length` observations, and blocks sorted by length, longest first. A
    packed array holds time step 0 of all blocks, then step 1 of those that have one, and so on: the blocks alive at a
    step are always the first ones, so a pass over time works on dense slices and never on padding.

    Attributes:
        rows: (N,) the observation, in the order of the user, at each packed place.
        places: (N,) the packed place of each observation.
        alive: for each time step how many blocks have it.
        first: (blocks,) whether a block begins a sequence.
        ranks: (blocks,) the place among the sorted blocks of each block in the order of time, sequence after sequence.
        most: blocks of the sequence that has most.
    """

    rows: Tensor
    places: Tensor
    alive: list[int]
    first: Tensor
    ranks: Tensor
    most: int

    @classmethod
    def of(cls, lengths: Tensor, block_length: int) -> Layout:
        """The layout of sequences of these `lengths`, in blocks of at most `block_length`."""
        counts = -(-lengths // block_length)  # blocks of each sequence
        owner = torch.repeat_interleave(torch.arange(len(lengths)), counts)
        turn = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
        start = (lengths.cumsum(0) - lengths)[owner] + turn * block_length
        size = torch.minimum(lengths[owner] - turn * block_length, torch.tensor(block_length))
        order = torch.argsort(size, descending=True, stable=True)
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(len(order))
        size, start, turn = size[order], start[order], turn[order]

        longest = int(size[0])
        alive = torch.bincount(size - 1, minlength=longest).flip(0).cumsum(0).flip(0)
        offset = alive.cumsum(0) - alive
        time = torch.repeat_interleave(torch.arange(longest), alive)
        block = torch.arange(len(time)) - offset[time]
        rows = start[block] + time
        places = torch.empty_like(rows)
        places[rows] = torch.arange(len(rows))
        return cls(rows, places, alive.tolist(), turn == 0, ranks, int(counts.max()))


class Sequences:
    """A batch of sequences: their observations one after the other, and how many each has.

    `len` counts sequences; an index (a slice or a LongTensor) gives some of them, as `jensen.inference.infer` asks.

    Args:
        values: (N, ...) observations of all sequences.
        lengths: (S,) observations of each, adding up to N; None: one sequence.

    Raises:
        ValueError: the lengths do not fit.
    """

    def __init__(self, values: Tensor, lengths: Any = None) -> None:
        self.values = values
        self.lengths = check_lengths(lengths, len(values))
        self._layouts: dict[int, Layout] = {}
        self.kept: dict[str, Tensor] = {}
        """what a model computed once from `values` and wants again at the next sweep"""

    @classmethod
    def from_list(cls, sequences: Sequence[Tensor]) -> Sequences:
        """From one tensor a sequence.

        Raises:
            ValueError: there is none, one is empty, or their observations have different shapes.
        """
        if not sequences:
            raise ValueError("no sequence was given: expected a list of at least one")
        for number, sequence in enumerate(sequences):
            if sequence.shape[1:] != sequences[0].shape[1:]:
                given, expected = tuple(sequence.shape[1:]), tuple(sequences[0].shape[1:])
                raise ValueError(f"observations of sequence {number} have shape {given}, those of the first {expected}")
        return cls(torch.cat(list(sequences)), [len(s) for s in sequences])

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> Tensor:
        """(S,) where each sequence begins in `values`."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def owners(self) -> Tensor:
        """(N,) the sequence of each observation."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths).to(self.values.device)

    @cached_property
    def observed(self) -> Tensor:
        """(N,) whether an observation is there: not NaN, not a symbol below 0."""
        if not self.values.is_floating_point():
            return self.values >= 0
        return ~self.values.reshape(len(self.values), -1)[:, 0].isnan()

    def __getitem__(self, index: slice | Tensor) -> Sequences:
        chosen = torch.arange(len(self))[index if isinstance(index, slice) else index.cpu()]
        if len(chosen) == len(self) and bool((chosen == torch.arange(len(self))).all()):
            return self  # with what it has cached
        lengths = self.lengths[chosen]
        steps = torch.arange(int(lengths.sum())) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        rows = torch.repeat_interleave(self.starts[chosen], lengths) + steps
        return Sequences(self.values[rows.to(self.values.device)], lengths)

    def split(self, values: Tensor) -> list[Tensor]:
        """What belongs to each sequence of `values`, one row an observation."""
        return list(values.split(self.lengths.tolist()))

    def layout(self, block_length: int | None = None) -> Layout:
        """The order of a pass over time, with sequences cut at `block_length` observations; None: not cut. Cached."""
        key = min(block_length or int(self.lengths.max()), int(self.lengths.max()))
        if key not in self._layouts:
            if len(self._layouts) >= _CACHED_LAYOUTS:
                self._layouts.clear()
            self._layouts[key] = Layout.of(self.lengths, key)
        return self._layouts[key]

    def __repr__(self) -> str:
        return f"Sequences({len(self)} of length {int(self.lengths.min())} to {int(self.lengths.max())})"
