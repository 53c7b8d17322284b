"""Splits of own data: those that come with them, completed where one is missing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from jensen.data.partition import TEST_SHARE, Parts, permutation, random
from jensen.errors import ConfigError

__all__ = ["SPLIT_NAMES", "complete"]

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What a folder or key may be called for each split, in small letters."""


def complete(sizes: Mapping[str, int], *, validation: float, labels: torch.Tensor | None = None) -> Parts:
    """Splits of examples that lie one split after the other: train, then valid, then test, as many as `sizes` says.

    With train alone, all three are random, of each class alike where there are `labels` (N,). A split that is missing
    is taken from the training examples, in a fixed random order: `validation` of them, or a fifth for test. Training
    examples are in random order, so that the first of them (`limit`) are of mixed classes. Raises `ConfigError` if a
    split would be empty.
    """
    train, total = sizes["train"], sum(sizes.values())
    if set(sizes) == {"train"}:
        try:
            return random(train, validation=validation, labels=None if labels is None else labels.numpy())
        except ConfigError:  # of classes of one or two examples each nothing would be held out
            if labels is None:
                raise
            return random(train, validation=validation)
    order = permutation(train)
    parts = {}
    for name, share in (("valid", validation), ("test", TEST_SHARE)):
        if name in sizes:
            first = train + (sizes["valid"] if name == "test" and "valid" in sizes else 0)
            parts[name] = np.arange(first, first + sizes[name])
        else:
            cut = len(order) - round(share * train)
            order, parts[name] = order[:cut], order[cut:]
    parts["train"] = order
    empty = next((name for name in ("train", "valid", "test") if len(parts[name]) == 0), None)
    if empty is not None:
        raise ConfigError(
            f"data.validation: a share of {validation:g} of {train} training examples ({total} in all) leaves none for "
            f"split {empty}; choose another share, or add examples"
        )
    train_part, valid, test = (torch.from_numpy(parts[name].astype(np.int64)) for name in ("train", "valid", "test"))
    return Parts(train=train_part, valid=valid, test=test)
