"""A data set ready for training: three splits under one transform, corruption and target."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jensen.config import DataConfig, LikelihoodName
from jensen.config.columns import Column
from jensen.data.condition import Labels, make_condition
from jensen.data.corruption import check_corruption
from jensen.data.dataset import Dataset, check_splits, is_unit
from jensen.data.device import move
from jensen.data.split import Split
from jensen.data.text import shown
from jensen.data.transform import Transform, TransformName, static_binarise
from jensen.errors import ConfigError, DataError

__all__ = ["Data", "prepare"]

PIECE = 4_000_000
"""values looked at together for their statistics"""


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """What `load_data` returns."""

    dataset: Dataset
    """the data as stored, with its full splits"""
    train: Split
    valid: Split
    test: Split
    config: DataConfig

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the model input, without the batch."""
        return self.train.shape

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Of what the likelihood scores, without the batch."""
        return self.train.target_shape

    @property
    def levels(self) -> int | None:
        """Values that an entry of the target can take; see `Split.levels`."""
        return self.train.levels

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Of what the model is told beside the datum, without the batch; None if it is told nothing."""
        return None if self.train.condition is None else self.train.condition.shape

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Of the classes or columns of the condition; one name where it is an image or a part of one."""
        return () if self.train.condition is None else self.train.condition.names

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label; empty without labels."""
        return self.dataset.class_names

    @property
    def symbols(self) -> tuple[str, ...]:
        """What each level of a datum stands for, where levels are names and not magnitudes; empty otherwise."""
        return self.dataset.symbols

    @property
    def columns(self) -> tuple[Column, ...]:
        """What each column of a table holds; empty where all are real numbers that are always known."""
        return self.dataset.columns

    @property
    def suits(self) -> LikelihoodName | None:
        """The likelihood that suits these values, where it is not the usual one of their kind."""
        return self.dataset.suits

    @property
    def transform(self) -> TransformName:
        """The transform in use, "auto" resolved."""
        return self.train.transform

    @property
    def splits(self) -> dict[str, Tensor]:
        """Positions in use of train, valid and test, int64 on the CPU: what `load_data(splits=...)` takes back."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: split.indices.cpu() for name, split in parts.items()}

    def to(self, device: torch.device | str) -> Data:
        """The same with batches on `device`; stored values move there, once for all splits, if they fit."""
        values = move(self.train.values, torch.device(device))
        return replace(
            self,
            train=self.train.to(device, values=values),
            valid=self.valid.to(device, values=values),
            test=self.test.to(device, values=values),
        )

    def describe(self) -> list[tuple[str, str]]:
        """Rows (name, value) for `jensen data show`."""
        dataset = self.dataset
        unit = "symbols" if dataset.symbols else "grey levels" if dataset.kind == "image" else "levels"
        levels = "continuous" if dataset.levels is None else f"{dataset.levels:,} {unit}"
        rows = [
            ("name", dataset.name),
            ("description", dataset.description),
            ("example", f"{dataset.kind} {' x '.join(str(n) for n in dataset.shape)}, {levels}"),
            ("training", f"{len(self.train):,} examples"),
            ("validation", f"{len(self.valid):,} examples"),
            ("test", f"{len(self.test):,} examples"),
            ("symbols", " ".join(shown(symbol) for symbol in dataset.symbols)),
            ("first", self._first()),
            ("classes", ", ".join(dataset.class_names)),
            ("factors", ", ".join(dataset.factor_names)),
            ("targets", ", ".join(dataset.targets)),
            ("conditions", ", ".join(dataset.conditions)),
            ("condition", "" if self.train.condition is None else self.train.condition.describe()),
            ("transform", self.transform),
            ("licence", dataset.licence),
            ("citation", dataset.citation),
        ]
        return [(name, value) for name, value in rows if value]

    def _first(self) -> str:
        """The first training example in one line, where it can be read."""
        if not self.dataset.symbols or self.dataset.kind != "signal" or self.dataset.shape[0] != 1:
            return ""
        # not by way of a batch: its target may be a property
        stored = self.dataset.values[self.train.indices[:1].cpu()]
        return shown("".join(self.dataset.symbols[level] for level in stored.flatten().tolist()))

    def __repr__(self) -> str:
        sizes = f"{len(self.train)} + {len(self.valid)} + {len(self.test)}"
        return f"Data({self.dataset.name}: {sizes} examples of shape {self.shape}, transform {self.transform})"


def prepare(dataset: Dataset, config: DataConfig | None = None, *, splits: Mapping[str, Tensor] | None = None) -> Data:
    """`dataset` as `config` wants to see it: the way for your own data, and what `load_data` does after loading.

    `splits`: positions {"train", "valid", "test"} of an earlier `Data.splits`, instead of those of the data set.
    Transform "auto" is binarise for images and tables with grey levels, and none for continuous values, for signals,
    for symbols, and where another target than the datum is predicted. Continuous tables are standardised by mean and
    standard deviation of the training split, each column by its own; continuous signals too, each channel by its own,
    over all times. Symbols have no magnitude: they can be neither binarised, nor dequantised, nor corrupted.
    Classes that `config.leave_out` names are in the test split only.

    Raises `ConfigError` for settings that this data set cannot have, `DataError` for impossible splits.
    """
    config = DataConfig(name=dataset.name) if config is None else config
    check_corruption(config.corruption, image=is_unit(dataset.shape, dataset.levels), shape=dataset.shape)
    _check_symbols(dataset, config)
    _check_noise(dataset, config)
    target = _target(dataset, config)
    positions = dataset.splits if splits is None else _restored(dataset, splits)
    positions = _without(dataset, config.leave_out, positions)
    if config.limit is not None:
        positions = {**positions, **{part: positions[part][: config.limit] for part in ("train", "valid")}}
    name: TransformName
    if config.transform == "auto":
        grey = dataset.levels is not None and dataset.kind != "signal" and not dataset.symbols
        name = "binarise" if grey and target is None else "none"
    else:
        name = config.transform
    mean, sd = _statistics(dataset, positions["train"])
    transform = Transform(name, dataset.levels, mean, sd)
    condition = make_condition(dataset, config, positions["train"])
    values = dataset.values
    if name == "binarise-static" and dataset.levels is not None and dataset.levels > 2:
        values = static_binarise(values, dataset.levels)
        transform = replace(transform, levels=2)

    def split(index: Tensor) -> Split:
        return Split(
            values=values,
            indices=index,
            transform_function=transform,
            shape=dataset.shape,
            levels=_target_levels(name, dataset.levels, target),
            labels=None if dataset.labels is None else dataset.labels[index],
            class_names=dataset.class_names,
            factors=None if dataset.factors is None else dataset.factors[index],
            factor_names=dataset.factor_names,
            target=None if target is None else target[index],
            corruption=config.corruption,
            strength=config.corruption_strength,
            condition=None if condition is None else condition.at(index),
            gaps=bool(dataset.columns) and target is None,
        )

    parts = {part: split(index) for part, index in positions.items()}
    train = parts["train"]
    if config.labelled is not None and isinstance(train.condition, Labels):
        known = (train.condition.classes >= 0).nonzero()[:, 0]
        train = replace(train, labelled=known, labelled_share=config.labelled_share)
    return Data(dataset, train, parts["valid"], parts["test"], config)


def _target(dataset: Dataset, config: DataConfig) -> Tensor | None:
    if config.target is None:
        return None
    if config.target not in dataset.targets:
        choices = ", ".join(dataset.targets) or "none; it has no properties to predict"
        raise ConfigError(f"data.target: {dataset.name} has no {config.target!r}; choices: {choices}")
    if config.corruption != "none":
        raise ConfigError("data.target and data.corruption exclude each other: denoising predicts the clean datum")
    return dataset.targets[config.target]


def _check_symbols(dataset: Dataset, config: DataConfig) -> None:
    """Raise `ConfigError` for what treats symbols as magnitudes."""
    if not dataset.symbols:
        return
    reason = f"the values of {dataset.name} are symbols, not magnitudes; use none"
    if config.transform not in ("auto", "none"):
        raise ConfigError(f"data.transform: {config.transform} has no meaning here: {reason}")
    if config.corruption != "none":
        raise ConfigError(f"data.corruption: {config.corruption} has no meaning here: {reason}")


def _check_noise(dataset: Dataset, config: DataConfig) -> None:
    """Raise `ConfigError` for noise on values that are counts or categories."""
    other = [column.name for column in dataset.columns if column.kind != "real"] or dataset.vocabulary[:1]
    if config.corruption == "gaussian" and other:
        raise ConfigError(
            f"data.corruption: gaussian noise has no meaning for counts and categories, such as {other[0]}; use masking"
        )


def _target_levels(name: TransformName, levels: int | None, target: Tensor | None) -> int | None:
    if target is not None:
        return 2 if bool(((target == 0) | (target == 1)).all()) else None
    return 2 if name.startswith("binarise") else levels


def _restored(dataset: Dataset, splits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if set(splits) != {"train", "valid", "test"}:
        raise DataError(f"{dataset.name}: splits should be train, valid and test, not {', '.join(sorted(splits))}")
    restored = {name: torch.as_tensor(splits[name]) for name in ("train", "valid", "test")}
    check_splits(dataset.name, restored, len(dataset))
    return restored


def _without(dataset: Dataset, left_out: tuple[str, ...] | None, positions: dict[str, Tensor]) -> dict[str, Tensor]:
    """Positions of which those of training and validation hold no example of the classes that are left out.

    Raises `ConfigError` where there are no such classes, or nothing is left.
    """
    if left_out is None:
        return positions
    labels = dataset.labels
    if labels is None:
        raise ConfigError(f"data.leave_out: {dataset.name} has no classes to leave out")
    names = dataset.class_names or tuple(str(number) for number in range(int(labels.max()) + 1))
    unknown = [name for name in left_out if name not in names]
    if unknown:
        close = difflib.get_close_matches(unknown[0], names, n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"data.leave_out: {dataset.name} has no class {unknown[0]!r}{guess} (choices: {', '.join(names)})"
        )
    out = torch.tensor([name in left_out for name in names])
    kept = {part: positions[part][~out[labels[positions[part]]]] for part in ("train", "valid")}
    empty = [part for part, index in kept.items() if len(index) == 0]
    if empty:
        split = {"train": "training", "valid": "validation"}[empty[0]]
        raise ConfigError(
            f"data.leave_out: without {', '.join(left_out)} nothing is left of the {split} split of {dataset.name}; "
            "leave out fewer classes"
        )
    return {**positions, **kept}


def _statistics(dataset: Dataset, train: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Mean and standard deviation over the training split, float32; None for images and for values on levels.

    Of each column of a table, (columns,), or each channel of a signal over all times, (channels, 1).
    """
    if dataset.kind == "image" or dataset.levels is not None:
        return None, None
    if dataset.vocabulary:  # counts of words are taken as they are
        return None, None
    mean, sd = _moments(dataset, train)
    plain = torch.tensor([column.kind != "real" for column in dataset.columns] or [False])
    return torch.where(plain, 0.0, mean).float(), torch.where(plain, 1.0, sd).float()


def _moments(dataset: Dataset, train: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of what is known, float64, from pieces that fit in memory; sd 1 of what is constant.

    Two passes: a sum of squares less the square of a sum would lose the digits of values far from zero.
    """
    zeros = torch.zeros(dataset.shape[0], *[1] * (dataset.kind == "signal"), dtype=torch.float64)
    total, count, squares = zeros, zeros, zeros
    for rows in _rows(dataset, train):
        total, count = total + rows.nansum(0), count + (~rows.isnan()).sum(0)
    mean = total / count.clamp_min(1)
    for rows in _rows(dataset, train):
        squares = squares + (rows - mean).square().nansum(0)
    sd = (squares / count.clamp_min(1)).sqrt()
    return mean, torch.where(sd > 0, sd, torch.ones_like(sd))


def _rows(dataset: Dataset, index: Tensor) -> Iterator[Tensor]:
    """Values as rows whose first dimension is what statistics are taken over, in pieces, float64."""
    at_once = max(1, PIECE // math.prod(dataset.shape))
    for places in index.sort().values.split(at_once):  # in order, as a file on disk is read best
        rows = dataset.values[places].double()
        yield rows.transpose(1, 2).flatten(0, 1)[..., None] if dataset.kind == "signal" else rows
