"""A data set as it is stored, before any transform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from jensen.errors import DataError

__all__ = ["Dataset", "Source", "first_non_finite"]


class Source(Protocol):
    """Where the stored values are: a tensor, or something that makes them on demand.

    Indexing with B int64 positions gives (B, *shape) values, uint8 (grey levels) or float32. A tensor is a source.
    """

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """The stored values at these positions."""
        ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """N examples with their split into training, validation and test part.

    Raises `DataError` if the parts do not fit each other: positions out of range or in two splits, lengths that
    differ, grey levels out of range, NaN or infinite values.
    """

    name: str
    values: Source
    """N stored values of `shape`: uint8 in 0 .. levels - 1, or float32"""
    shape: tuple[int, ...]
    """of one example: (channels, height, width) of an image, (columns,) of a table"""
    levels: int | None
    """grey levels of uint8 values (2: binary); None: continuous"""
    train: Tensor
    """positions of the training examples, (n,) int64"""
    valid: Tensor
    """positions of the validation examples, (n,) int64"""
    test: Tensor
    """positions of the test examples, (n,) int64"""
    labels: Tensor | None = None
    """class of each example, (N,) int64"""
    class_names: tuple[str, ...] = ()
    factors: Tensor | None = None
    """index of each generating factor's value, (N, F) int64"""
    factor_names: tuple[str, ...] = ()
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    """properties that a model may be asked to predict, each (N, 1) float32"""
    description: str = ""
    licence: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        if len(self.shape) not in (1, 3):
            raise DataError(f"{self.name}: shape should be (channels, height, width) or (columns,), not {self.shape}")
        if isinstance(self.values, Tensor):
            _check_values(self.name, self.values, self.shape, self.levels)
        check_splits(self.name, self.splits, len(self))
        columns = {"labels": self.labels, "factors": self.factors, **self.targets}
        for name, column in columns.items():
            if column is not None and len(column) != len(self):
                raise DataError(f"{self.name}: {name} has {len(column)} rows for {len(self)} examples")
        for name, target in self.targets.items():
            if target.shape != (len(self), 1) or target.dtype != torch.float32:
                raise DataError(
                    f"{self.name}: target {name} should be ({len(self)}, 1) float32, "
                    f"not {tuple(target.shape)} {target.dtype}"
                )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def kind(self) -> Literal["image", "table"]:
        """What an example is."""
        return "image" if len(self.shape) == 3 else "table"

    @property
    def splits(self) -> dict[str, Tensor]:
        """Positions of the three splits by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def check_splits(name: str, splits: Mapping[str, Tensor], size: int) -> None:
    """Raise `DataError` unless `splits` are disjoint, non-empty sets of int64 positions below `size`."""
    for split, index in splits.items():
        if index.dtype != torch.int64 or index.ndim != 1:
            raise DataError(f"{name}: split {split} should be one row of int64, not {tuple(index.shape)} {index.dtype}")
        if len(index) == 0:
            raise DataError(f"{name}: split {split} is empty; give it at least one example")
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= size:
            raise DataError(f"{name}: split {split} has positions {low} .. {high}, but there are {size} examples")
    uses = torch.bincount(torch.cat(list(splits.values())), minlength=size)
    if int(uses.max()) > 1:
        raise DataError(f"{name}: example {int(uses.argmax())} is used more than once in {', '.join(splits)}")


def first_non_finite(values: Tensor) -> tuple[int, ...] | None:
    """Index of the first NaN or infinite value, None if all are finite."""
    if not values.is_floating_point() or bool(torch.isfinite(values).all()):
        return None
    return tuple(int(i) for i in (~torch.isfinite(values)).nonzero()[0])


def _check_values(name: str, values: Tensor, shape: tuple[int, ...], levels: int | None) -> None:
    if tuple(values.shape[1:]) != shape:
        raise DataError(f"{name}: examples have shape {tuple(values.shape[1:])}, not {shape}")
    expected = torch.float32 if levels is None else torch.uint8
    if values.dtype != expected:
        raise DataError(f"{name}: values with levels {levels} should be {expected}, not {values.dtype}")
    if len(values) == 0:
        raise DataError(f"{name}: no examples")
    if levels is not None and (levels < 2 or int(values.max()) >= levels):
        raise DataError(f"{name}: grey level {int(values.max())} in data of {levels} levels (0 .. {levels - 1})")
    bad = first_non_finite(values)
    if bad is not None:
        raise DataError(
            f"{name}: value {float(values[bad])} at index {bad} (example {bad[0]}); remove or replace such values"
        )
