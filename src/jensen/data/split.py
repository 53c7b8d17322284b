"""The training, validation or test part of a data set as a model sees it, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from jensen.config import Corruption
from jensen.data.condition import Condition
from jensen.data.corruption import corrupt
from jensen.data.dataset import Source, is_unit
from jensen.data.device import move
from jensen.data.labelled import epoch, epoch_length
from jensen.data.transform import Transform, TransformName
from jensen.errors import ConfigError

__all__ = ["Batch", "Split"]

CPU = torch.device("cpu")


class Batch(NamedTuple):
    """B examples on one device."""

    x: Tensor
    """model input, perhaps corrupted, (B, *shape) float32"""
    target: Tensor
    """what the likelihood scores, (B, *target_shape) float32; `x` itself where nothing else is asked for"""
    label: Tensor | None
    """class, (B,) int64"""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    """place in the split, (B,) int64"""
    factors: Tensor | None = None
    """each generating factor's value: its index (int64) or itself (float32), (B, F)"""
    condition: Tensor | None = None
    """what the model is told beside x, (B, *condition_shape) float32; a label is one-hot, zero where unknown"""
    mask: Tensor | None = None
    """1 where the target is to be scored and 0 where not, (1 or B, *target_shape) float32; None: everywhere"""


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Some positions of a source, seen through transform, corruption and choice of target.

    `labels`, `factors`, `Batch.index` and the argument of `batch` all count in places of this split: 0 .. len - 1;
    `indices` translates places to positions in the data set.
    """

    values: Source
    indices: Tensor
    """position in the data set of each example, (n,) int64"""
    transform_function: Transform
    shape: tuple[int, ...]
    """of `Batch.x` without the batch"""
    levels: int | None
    """values that an entry of the target can take: 2 if binarised, the stored levels otherwise, None if continuous.
    A dequantised target is continuous too, but keeps its levels here: D log levels makes its density discrete again"""
    labels: Tensor | None = None
    """class of each example, (n,) int64"""
    class_names: tuple[str, ...] = ()
    factors: Tensor | None = None
    """each generating factor's value, (n, F): its index (int64) or itself (float32)"""
    factor_names: tuple[str, ...] = ()
    target: Tensor | None = None
    """a property to predict instead of the example itself, (n, 1) float32"""
    corruption: Corruption = "none"
    strength: float = 0.3
    condition: Condition | None = None
    """what the model is told of each example"""
    labelled: Tensor | None = None
    """places of the examples whose label is known, (M,) int64 on the CPU, where only some are"""
    labelled_share: float = 0.25
    """share of the examples of a shuffled epoch that these make up, repeated as often as it takes"""
    gaps: bool = False
    """whether values may be missing (NaN), which `Batch.mask` then says"""
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Split({len(self)} examples of shape {self.shape}, transform {self.transform}, on {self.device})"

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of `Batch.target` without the batch."""
        return self.shape if self.target is None else tuple(self.target.shape[1:])

    @property
    def _home(self) -> torch.device:
        """Where the stored values are: positions stay there, so that picking a batch never waits for the device."""
        return self.values.device if isinstance(self.values, Tensor) else CPU

    @property
    def transform(self) -> TransformName:
        """Name of the transform."""
        return self.transform_function.name

    @property
    def epoch_length(self) -> int:
        """Examples that a shuffled epoch has: `len`, or more where labelled ones are repeated."""
        if self.labelled is None:
            return len(self)
        return epoch_length(len(self), len(self.labelled), self.labelled_share)

    def steps(self, batch_size: int, *, world: int = 1, shuffled: bool = False) -> int:
        """Number of batches that `batches` gives to each of `world` ranks, the last and smaller one included."""
        return -(-((self.epoch_length if shuffled else len(self)) // world) // batch_size)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: torch.Generator | None = None,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Batch]:
        """Batches of `batch_size` examples, the last one perhaps smaller, over the whole split.

        In the order of the split, or in an order drawn at once from the CPU generator `shuffle`: then `epoch_length`
        examples, in which the labelled ones are repeated where only some are. The first `start` batches are skipped
        (to resume in mid-epoch). With `world` ranks, each sees every world-th example of that order from its `rank`
        on, all equally many; the remainder is dropped. Noise (binarise, dequantise, corruption) comes from torch's
        global generator of the device. Raises `ConfigError` for numbers out of range.
        """
        if batch_size < 1 or start < 0 or not 0 <= rank < world:
            raise ConfigError(
                f"batches: need batch_size >= 1, start >= 0, 0 <= rank < world; "
                f"got batch_size {batch_size}, start {start}, rank {rank}, world {world}"
            )
        order = self._order(shuffle)
        share = len(order) // world
        places = order[rank : share * world : world].to(self._home)
        starts = range(start * batch_size, share, batch_size)
        return (self._batch(places[first : first + batch_size]) for first in starts)

    def _order(self, shuffle: torch.Generator | None) -> Tensor:
        if shuffle is None:
            return torch.arange(len(self))
        if self.labelled is None:
            return torch.randperm(len(self), generator=shuffle)
        return epoch(len(self), self.labelled, self.labelled_share, shuffle)

    def batch(self, index: Tensor) -> Batch:
        """The examples at these places of the split, (B,) int64 in 0 .. len - 1. Raises `IndexError` outside."""
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise IndexError(f"places {int(index.min())} .. {int(index.max())} in a split of {len(self)} examples")
        return self._batch(index.to(self._home))

    def _batch(self, places: Tensor) -> Batch:
        positions = self.indices.index_select(0, places)
        values = self.values
        stored = values.index_select(0, positions) if isinstance(values, Tensor) else values[positions]
        places = places.to(self.device, non_blocking=True)
        clean = self.transform_function(stored.to(self.device))
        x = clean
        if self.corruption != "none":
            unit = is_unit(self.shape, self.transform_function.levels)
            x = corrupt(clean, self.corruption, self.strength, image=unit, gaps=self.gaps)
        label = None if self.labels is None else self.labels.index_select(0, places)
        target = clean if self.target is None else self.target.index_select(0, places)
        factors = None if self.factors is None else self.factors.index_select(0, places)
        condition, mask = (None, None) if self.condition is None else self.condition(places, clean)
        if self.gaps:
            known = (~target.isnan()).to(clean.dtype)
            mask = known if mask is None else mask * known
        return Batch(x, target, label, places, factors, condition, mask)

    def to(self, device: torch.device | str, *, values: Source | None = None) -> Split:
        """The same split with batches on `device`; stored values move there too if they take at most half its room.

        Otherwise each batch is copied when it is asked for. `values`: the stored values moved before, to be shared.
        """
        device = torch.device(device)
        values = move(self.values, device) if values is None else values
        return replace(
            self,
            values=values,
            indices=self.indices.to(values.device if isinstance(values, Tensor) else CPU),
            transform_function=self.transform_function.to(device),
            labels=None if self.labels is None else self.labels.to(device),
            factors=None if self.factors is None else self.factors.to(device),
            target=None if self.target is None else self.target.to(device),
            condition=None if self.condition is None else self.condition.to(device),
            device=device,
        )
