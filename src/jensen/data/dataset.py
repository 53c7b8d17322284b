"""A data set as it is stored, before any transform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from jensen.config import LikelihoodName
from jensen.config.columns import Column
from jensen.data.visible import PARTS
from jensen.errors import DataError

__all__ = ["Dataset", "Source", "first_non_finite", "is_unit"]

RESERVED = ("label", "labels", "factors", *PARTS)
WHOLE = (torch.uint8, torch.int16, torch.int32)
"""types that values on levels may have"""
MOST_LEVELS = 65_536
"""so many can be told apart after division by the highest level in float32"""


class Source(Protocol):
    """Where the stored values are: a tensor, or something that makes them on demand.

    Indexing with B int64 positions gives (B, *shape) values, uint8, int16 or int32 (levels) or float32. A tensor is a
    source.
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
    differ, types or shapes other than said below, levels out of range, symbols that are not one for each level, NaN or
    infinite values.
    """

    name: str
    values: Source
    """N stored values of `shape`: uint8, int16 or int32 in 0 .. levels - 1, or float32"""
    shape: tuple[int, ...]
    """of one example: (channels, height, width) of an image, (channels, length) of a signal, (columns,) of a table"""
    levels: int | None
    """number of values that an entry can take (2: binary; at most 65,536): grey levels, or `symbols`; None: continuous
    """
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
    """each generating factor's value, (N, F): its index (int64), or itself where it is continuous (float32)"""
    factor_names: tuple[str, ...] = ()
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    """properties that a model may be asked to predict, or be told, each (N, 1) float32"""
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    """more that a model may be told: numbers, (N,) or (N, C) float32, or images (N, C, H, W), float32 in [0, 1] or
    uint8 with the grey levels of `values` (256 where these are continuous)"""
    symbols: tuple[str, ...] = ()
    """what each level stands for, where levels are names (the characters of a text) and not magnitudes"""
    columns: tuple[Column, ...] = ()
    """what each column of a table holds, where that is not a real number that is always known; then a category is its
    place among the column's categories, and NaN is a gap"""
    vocabulary: tuple[str, ...] = ()
    """the word of each column, where an example is how often each word is in a document"""
    suits: LikelihoodName | None = None
    """the likelihood that suits these values, where it is not the usual one of their kind"""
    description: str = ""
    licence: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        if len(self.shape) not in (1, 2, 3):
            raise DataError(
                f"{self.name}: shape should be (channels, height, width), (channels, length) or (columns,), "
                f"not {self.shape}"
            )
        _check_levels(self.name, self.levels, self.symbols)
        if isinstance(self.values, Tensor):
            _check_values(self.name, self.values, self.shape, self.levels, gaps=bool(self.columns))
        check_splits(self.name, self.splits, len(self))
        columns = {"labels": self.labels, "factors": self.factors, **self.targets, **self.conditions}
        for name, column in columns.items():
            if column is None:
                continue
            if len(column) != len(self):
                raise DataError(f"{self.name}: {name} has {len(column)} rows for {len(self)} examples")
            bad = first_non_finite(column)
            if bad is not None:
                raise DataError(f"{self.name}: {name} of example {bad[0]} is {float(column[bad])}; it should be finite")
        if self.labels is not None:
            _check_labels(self.name, self.labels, len(self.class_names))
        if self.factors is not None:
            _check_factors(self.name, self.factors, self.factor_names)
        for name, target in self.targets.items():
            if target.shape != (len(self), 1) or target.dtype != torch.float32:
                raise DataError(
                    f"{self.name}: target {name} should be ({len(self)}, 1) float32, "
                    f"not {tuple(target.shape)} {target.dtype}"
                )
        for name, condition in self.conditions.items():
            if name in self.targets or name in RESERVED or "," in name:
                raise DataError(f"{self.name}: condition {name!r} should have a name of its own, without commas")
            _check_condition(f"{self.name}: condition {name}", condition, self.levels or 256)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def kind(self) -> Literal["image", "signal", "table"]:
        """What an example is."""
        kinds: dict[int, Literal["image", "signal", "table"]] = {3: "image", 2: "signal", 1: "table"}
        return kinds[len(self.shape)]

    @property
    def splits(self) -> dict[str, Tensor]:
        """Positions of the three splits by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def is_unit(shape: tuple[int, ...], levels: int | None) -> bool:
    """Whether a model sees values in [0, 1]: of an image, and of anything on levels; the rest is standardised."""
    return len(shape) == 3 or levels is not None


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


def _check_levels(name: str, levels: int | None, symbols: tuple[str, ...]) -> None:
    if levels is not None and not 2 <= levels <= MOST_LEVELS:
        raise DataError(f"{name}: levels should be 2 to {MOST_LEVELS:,}, or None for continuous values, not {levels}")
    if symbols and (len(symbols) != levels or len(set(symbols)) != levels):
        raise DataError(
            f"{name}: symbols should be {levels} different ones, one a level, but there are {len(symbols)}, "
            f"{len(set(symbols))} of them different"
        )


def _check_values(name: str, values: Tensor, shape: tuple[int, ...], levels: int | None, *, gaps: bool = False) -> None:
    if tuple(values.shape[1:]) != shape:
        raise DataError(f"{name}: examples have shape {tuple(values.shape[1:])}, not {shape}")
    expected = (torch.float32,) if levels is None else WHOLE
    if values.dtype not in expected:
        raise DataError(
            f"{name}: values with levels {levels} should be {' or '.join(map(str, expected))}, not {values.dtype}"
        )
    if values.numel() == 0:
        raise DataError(f"{name}: no examples" if len(values) == 0 else f"{name}: examples of shape {shape} are empty")
    if levels is not None:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= levels:
            what = f"{'grey ' if len(shape) == 3 else ''}level {low if low < 0 else high}"
            raise DataError(f"{name}: {what} in data of {levels} levels (0 .. {levels - 1})")
    bad = first_non_finite(torch.where(values.isnan(), 0, values) if gaps else values)
    if bad is not None:
        raise DataError(
            f"{name}: value {float(values[bad])} at index {bad} (example {bad[0]}); remove or replace such values"
        )


def _check_labels(name: str, labels: Tensor, classes: int) -> None:
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise DataError(f"{name}: labels should be (N,) int64, not {tuple(labels.shape)} {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes and high >= classes):
        raise DataError(f"{name}: labels {low} .. {high} should be in 0 .. {classes - 1 if classes else 'number - 1'}")


def _check_factors(name: str, factors: Tensor, names: tuple[str, ...]) -> None:
    if factors.ndim != 2 or factors.shape[1] != len(names) or factors.dtype not in (torch.int64, torch.float32):
        raise DataError(
            f"{name}: factors should be (N, {len(names)}), a column for each of factor_names, int64 or float32, "
            f"not {tuple(factors.shape)} {factors.dtype}"
        )


def _check_condition(what: str, values: Tensor, levels: int) -> None:
    """Raise `DataError` unless these are numbers (N,) or (N, C), or images (N, C, H, W) within their range."""
    expected = (torch.float32, torch.uint8) if values.ndim == 4 else (torch.float32,)
    if values.ndim not in (1, 2, 4) or values.dtype not in expected or values[0].numel() == 0:
        raise DataError(
            f"{what} should be (N,) or (N, C) float32, or images (N, C, H, W) float32 or uint8, "
            f"not {tuple(values.shape)} {values.dtype}"
        )
    low, high = float(values.min()), float(values.max())
    if values.ndim == 4 and (low < 0 or high > (1 if values.is_floating_point() else levels - 1)):
        raise DataError(
            f"{what} has values {low:g} .. {high:g}; images should be float32 in [0, 1], or uint8 in 0 .. {levels - 1}"
        )
