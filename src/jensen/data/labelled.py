"""Which labels a model is told where only some are to be known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jensen.data.partition import permutation
from jensen.errors import ConfigError

__all__ = ["epoch", "epoch_length", "some_labels"]

SEED = 1403


def some_labels(labels: Tensor, train: Tensor, count: int, class_names: Sequence[str]) -> Tensor:
    """`labels` (N,) with all but `count` of those at the positions `train` set to -1.

    As equally many a class as possible: of 10 classes and 103 labels, the first three have 11 and the others 10. The
    choice depends on the number of examples, their labels and `train` alone, and more labels include those of fewer.

    Raises `ConfigError` for fewer labels than classes, or more of a class than its training examples.
    """
    classes = len(class_names)
    if count < classes:
        raise ConfigError(f"data.labelled: {count} labels for {classes} classes; give each class at least one")
    priority = torch.from_numpy(permutation(len(labels), SEED))
    chosen = train[priority[train].argsort()]
    out = torch.full_like(labels, -1)
    for number, name in enumerate(class_names):
        wanted = count // classes + (number < count % classes)
        own = chosen[labels[chosen] == number]
        if len(own) < wanted:
            raise ConfigError(
                f"data.labelled: {count} labels are {wanted} of class {name}, which has {len(own)} training examples"
            )
        out[own[:wanted]] = number
    return out


def epoch_length(total: int, labelled: int, share: float) -> int:
    """Examples of an epoch over `total` ones, of which `labelled` are repeated until they are a `share` of it.

    They are seen once each at least, so that they may be more than that share.
    """
    others = total - labelled
    return others + max(labelled, round(share / (1.0 - share) * others))


def epoch(total: int, labelled: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Places of an epoch in random order, `epoch_length` of them.

    Labelled places (M,) are repeated equally often; what is then missing is drawn from them without repetition.
    """
    length = epoch_length(total, len(labelled), share)
    times, rest = divmod(length - (total - len(labelled)), len(labelled))
    extra = labelled[torch.randperm(len(labelled), generator=generator)[:rest]]
    places = torch.cat([torch.arange(total), labelled.repeat(times - 1), extra])
    return places[torch.randperm(length, generator=generator)]
