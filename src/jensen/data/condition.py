"""What a model is told beside the datum: a label, properties, another image, or a visible part of the image itself."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from jensen.config import DataConfig
from jensen.data.dataset import Dataset
from jensen.data.device import move
from jensen.data.labelled import some_labels
from jensen.data.visible import PARTS, shown, visible
from jensen.errors import ConfigError

__all__ = ["Condition", "Labels", "Picture", "Properties", "VisiblePart", "make_condition"]


class Condition(ABC):
    """The conditions of n examples; n those of the whole data set until `at` picks a split's."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of `Batch.condition`, without the batch."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Of the classes or columns; one name where there is neither."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each column in the training split, in its own units; empty where nothing is standardised."""
        return ()

    @property
    def sd(self) -> tuple[float, ...]:
        """Standard deviation of each column in the training split; empty where nothing is standardised."""
        return ()

    @abstractmethod
    def __call__(self, places: Tensor, clean: Tensor) -> tuple[Tensor, Tensor | None]:
        """Condition and mask of the examples at `places` (B,), whose uncorrupted values are `clean`, (B, *shape)."""

    @abstractmethod
    def at(self, index: Tensor) -> Self:
        """Those at these positions, (m,) int64."""

    @abstractmethod
    def to(self, device: torch.device) -> Self:
        """The same on a device."""

    @abstractmethod
    def describe(self) -> str:
        """In words."""


@dataclass(frozen=True, eq=False)
class Labels(Condition):
    """A class, one-hot over K; all zero where it is unknown."""

    classes: Tensor
    """(n,) int64; -1: unknown"""
    range: Tensor
    """0 .. K - 1"""
    class_names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.range),)

    @property
    def names(self) -> tuple[str, ...]:
        return self.class_names

    def __call__(self, places: Tensor, clean: Tensor) -> tuple[Tensor, None]:
        return torch.eq(self.classes.index_select(0, places)[:, None], self.range).float(), None

    def at(self, index: Tensor) -> Self:
        return replace(self, classes=self.classes[index])

    def to(self, device: torch.device) -> Self:
        return replace(self, classes=self.classes.to(device), range=self.range.to(device))

    def describe(self) -> str:
        known = int((self.classes >= 0).sum())
        some = "" if known == len(self.classes) else f", known of {known:,} training examples"
        return f"label, one of {len(self.range)}{some}"


@dataclass(frozen=True, eq=False)
class Properties(Condition):
    """Numbers, standardised by mean and standard deviation of the training split."""

    values: Tensor
    """(n, C) float32, standardised"""
    columns: tuple[str, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    @property
    def names(self) -> tuple[str, ...]:
        return self.columns

    @property
    def mean(self) -> tuple[float, ...]:
        return self.means

    @property
    def sd(self) -> tuple[float, ...]:
        return self.sds

    def __call__(self, places: Tensor, clean: Tensor) -> tuple[Tensor, None]:
        return self.values.index_select(0, places), None

    def at(self, index: Tensor) -> Self:
        return replace(self, values=self.values[index])

    def to(self, device: torch.device) -> Self:
        return replace(self, values=self.values.to(device))

    def describe(self) -> str:
        return f"{', '.join(self.columns)}, standardised"


@dataclass(frozen=True, eq=False)
class Picture(Condition):
    """Another image, in [0, 1]."""

    values: Tensor
    """(n, C, H, W), uint8 grey levels or float32"""
    name: str
    scale: int
    """highest grey level"""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def __call__(self, places: Tensor, clean: Tensor) -> tuple[Tensor, None]:
        stored = self.values.index_select(0, places.to(self.values.device)).to(clean.device)
        return (stored if stored.is_floating_point() else stored.float().div_(self.scale)), None

    def at(self, index: Tensor) -> Self:
        return replace(self, values=self.values[index])

    def to(self, device: torch.device) -> Self:
        moved = move(self.values, device)
        assert isinstance(moved, Tensor)
        return replace(self, values=moved)

    def describe(self) -> str:
        return f"image {self.name}, {' x '.join(map(str, self.shape))}"


@dataclass(frozen=True, eq=False)
class VisiblePart(Condition):
    """A part of the image itself, whose rest is to be predicted (Sohn, Lee and Yan 2015, section 5.1).

    The hidden pixels are 0, and a last channel is 1 where a pixel is visible. It is cut from the very values that the
    model is to predict, binarisation included, and the mask is 1 where they are hidden.
    """

    part: str
    inside: Tensor
    """1 where visible, (1, H, W) float32"""
    hidden: Tensor
    """1 where to be predicted, (1, C, H, W) float32"""

    @classmethod
    def of(cls, part: str, shape: tuple[int, ...]) -> Self:
        """That of images of `shape` (C, H, W)."""
        inside = visible(part, *shape[1:])
        return cls(part, inside, (1.0 - inside).expand(shape).clone()[None])

    @property
    def shape(self) -> tuple[int, ...]:
        channels, *sides = self.hidden.shape[1:]
        return (channels + 1, *sides)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.part,)

    def __call__(self, places: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        return shown(clean, self.inside), self.hidden

    def at(self, index: Tensor) -> Self:
        return self

    def to(self, device: torch.device) -> Self:
        return replace(self, inside=self.inside.to(device), hidden=self.hidden.to(device))

    def describe(self) -> str:
        return f"{self.part} of the image; the rest is to be predicted"


def make_condition(dataset: Dataset, config: DataConfig, train: Tensor) -> Condition | None:
    """What `config.condition` means for every example of `dataset`; None if it asks for nothing.

    `train`: positions of the training examples, whose statistics standardise properties.

    Raises `ConfigError` for a name that there is none of, and for what excludes each other.
    """
    if config.labelled is not None and config.condition != "label":
        raise ConfigError("data.labelled says how many labels are known; it needs data.condition label")
    if config.condition is None:
        return None
    if config.condition == "label":
        return _labels(dataset, config, train)
    if config.condition in PARTS:
        return _part(dataset, config)
    names = [name.strip() for name in config.condition.split(",")]
    there = {**dataset.targets, **dataset.conditions}
    _check_names(names, there, dataset)
    if config.target in names:
        raise ConfigError(f"data.condition: {config.target} is what data.target asks to predict")
    if len(names) == 1 and there[names[0]].ndim == 4:
        return Picture(there[names[0]], names[0], 255 if dataset.levels is None else dataset.levels - 1)
    images = [name for name in names if there[name].ndim == 4]
    if images:
        raise ConfigError(f"data.condition: {images[0]} is an image, which cannot be joined with others; give it alone")
    return _properties({name: there[name] for name in names}, train)


def _labels(dataset: Dataset, config: DataConfig, train: Tensor) -> Labels:
    labels = dataset.labels
    if labels is None:
        raise ConfigError(f"data.condition: {dataset.name} has no labels; {_listed(dataset)}")
    count = max(len(dataset.class_names), int(labels.max()) + 1)
    names = dataset.class_names or tuple(str(number) for number in range(count))
    classes = labels if config.labelled is None else some_labels(labels, train, config.labelled, names)
    return Labels(classes, torch.arange(count), names)


def _part(dataset: Dataset, config: DataConfig) -> VisiblePart:
    if dataset.kind != "image":
        raise ConfigError(
            f"data.condition: {config.condition} is a part of an image, but {dataset.name} is a {dataset.kind}"
        )
    for name, given in (("corruption", config.corruption != "none"), ("target", config.target is not None)):
        if given:
            raise ConfigError(
                f"data.condition and data.{name} exclude each other: with {config.condition} visible, the rest of the "
                "image is to be predicted"
            )
    return VisiblePart.of(config.condition or "", dataset.shape)


def _properties(chosen: Mapping[str, Tensor], train: Tensor) -> Properties:
    """Columns side by side, (N, C), standardised; a column that never changes in training has nothing to scale."""
    columns: list[str] = []
    for name, column in chosen.items():
        width = column[0].numel()
        columns += [name] if width == 1 else [f"{name}-{place}" for place in range(width)]
    values = torch.cat([column.view(len(column), -1) for column in chosen.values()], 1)
    rows = values[train].double()
    mean, sd = rows.mean(0), rows.std(0, correction=0)
    sd = torch.where(sd > 0, sd, torch.ones_like(sd))
    standardised = ((values.double() - mean) / sd).float()
    return Properties(standardised, tuple(columns), tuple(mean.tolist()), tuple(sd.tolist()))


def _check_names(names: Sequence[str], there: Mapping[str, Tensor], dataset: Dataset) -> None:
    for name in names:
        if name == "label" or name in PARTS:
            raise ConfigError(f"data.condition: {name} cannot be joined with others; give it alone")
        if name not in there:
            close = difflib.get_close_matches(name, _choices(dataset), n=1)
            guess = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"data.condition: {dataset.name} has no {name!r}{guess} ({_listed(dataset)})")
        if names.count(name) > 1:
            raise ConfigError(f"data.condition: {name} is given more than once")


def _choices(dataset: Dataset) -> list[str]:
    """What `config.condition` can be, or be joined of."""
    labels = ["label"] if dataset.labels is not None else []
    return [*labels, *dataset.targets, *dataset.conditions, *(PARTS if dataset.kind == "image" else ())]


def _listed(dataset: Dataset) -> str:
    return f"choices: {', '.join(_choices(dataset)) or 'none; it has no labels, properties or images'}"
