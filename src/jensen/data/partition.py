"""Splits into training, validation and test examples that are the same on every machine and for every version."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jensen.errors import ConfigError

__all__ = ["TEST_SHARE", "Parts", "official", "permutation", "random", "uniform"]

SEED = 20240229
FEWEST = 3
"""examples: one for each split"""
TEST_SHARE = 0.2
"""test share of the small data sets that come without an official test set"""


class Parts(TypedDict):
    """Positions of the examples of each split, int64."""

    train: Tensor
    valid: Tensor
    test: Tensor


def raw(n: int, seed: int) -> npt.NDArray[np.uint64]:
    """n random 64-bit words. Raw PCG64 output, the one stream that numpy promises never to change."""
    return np.asarray(np.random.PCG64(seed).random_raw(n), dtype=np.uint64)


def uniform(n: int, seed: int) -> npt.NDArray[np.float64]:
    """n uniform numbers in [0, 1), multiples of 2^-53, the same for every version of numpy and torch."""
    return (raw(n, seed) >> np.uint64(11)).astype(np.float64) * np.float64(2.0**-53)


def permutation(n: int, seed: int = SEED) -> npt.NDArray[np.int64]:
    """A random order of 0 .. n - 1, the same for every version of numpy and torch."""
    return np.argsort(raw(n, seed), kind="stable").astype(np.int64)


def random(size: int, *, validation: float, test: float = TEST_SHARE, labels: npt.ArrayLike | None = None) -> Parts:
    """Random splits of `size` examples: shares `test` and `validation` of the whole, and the rest for training.

    With `labels` (size,) each class is shared out on its own, so that all splits have the proportions of the whole.
    Every split is in random order: its first examples are of mixed classes. Raises `ConfigError` if a split would
    be empty.
    """
    order = permutation(size)
    part = np.zeros(size, dtype=np.int8)  # 0 train, 1 valid, 2 test, by place in `order`
    classes = np.zeros(size, dtype=np.int64) if labels is None else np.asarray(labels)[order]
    for label in np.unique(classes):
        places = np.flatnonzero(classes == label)
        first = round(test * len(places))
        second = first + round(validation * len(places))
        part[places[:first]] = 2
        part[places[first:second]] = 1
    return _parts(order[part == 0], order[part == 1], order[part == 2], validation)


def official(train: int, test: int, *, validation: float, shuffled: bool = False) -> Parts:
    """Splits of a set with `train` official training examples followed by `test` official test examples.

    Validation is the last `validation` share of the training examples (1/6: the usual 10,000 of MNIST); with
    `shuffled` the last share of a fixed random order of them, for a set that is stored class by class. Raises
    `ConfigError` if a split would be empty.
    """
    order = permutation(train) if shuffled else np.arange(train)
    cut = train - round(validation * train)
    return _parts(order[:cut], order[cut:], np.arange(train, train + test), validation)


def _parts(
    train: npt.NDArray[np.int64], valid: npt.NDArray[np.int64], test: npt.NDArray[np.int64], validation: float
) -> Parts:
    parts = {"train": train, "valid": valid, "test": test}
    total = sum(map(len, parts.values()))
    if total < FEWEST:
        raise ConfigError(
            f"{total} example{'s' * (total != 1)} in all: at least {FEWEST} are needed, one each for training, "
            "validation and test"
        )
    for name, index in parts.items():
        if len(index) == 0:
            raise ConfigError(
                f"data.validation: a share of {validation:g} leaves {len(train)} training, {len(valid)} validation and "
                f"{len(test)} test examples; choose one that leaves some for split {name}"
            )
    return Parts(train=torch.from_numpy(train), valid=torch.from_numpy(valid), test=torch.from_numpy(test))
