"""One pass over a data set: what its values are, what never varies, and what is there twice."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.data import Dataset

__all__ = ["Survey", "equal_files", "survey"]

PIECE = 4_000_000
"""values looked at together"""
COMPARED = 200_000
"""examples whose duplicates are looked for, at most: each takes some 100 bytes"""


@dataclass(frozen=True)
class Survey:
    """What `survey` found, over all splits; NaN (a gap) counts in `missing` and `gaps` alone."""

    low: float
    high: float
    mean: float
    missing: int
    lowest: Tensor
    """of each place of an example, float32 of its shape; inf where nothing is known"""
    highest: Tensor
    gaps: Tensor
    """examples of which that place is not known, int64"""
    grey: bool
    """whether all channels of every example are equal"""
    equal: int
    """examples that equal one before them"""
    leaked: int
    """examples of the test split that equal one of the training split"""
    compared: int
    """examples that were compared for that"""

    @property
    def constant(self) -> Tensor:
        """Whether each place holds one value in all examples, bool."""
        return self.lowest >= self.highest


def survey(dataset: Dataset) -> Survey:
    """Look at every value once, in pieces."""
    import torch

    lowest = torch.full(dataset.shape, math.inf)
    highest = torch.full(dataset.shape, -math.inf)
    gaps = torch.zeros(dataset.shape, dtype=torch.int64)
    total, grey = 0.0, len(dataset.shape) == 3
    seen: dict[bytes, int] = {}
    first: list[int] = []
    """of each compared example the first that equals it"""
    at_once = max(1, PIECE // math.prod(dataset.shape))
    for places in torch.arange(len(dataset)).split(at_once):
        stored = dataset.values[places]
        values = stored.to(torch.float32)
        known = ~values.isnan()
        lowest = torch.minimum(lowest, values.where(known, torch.tensor(math.inf)).amin(0))
        highest = torch.maximum(highest, values.where(known, torch.tensor(-math.inf)).amax(0))
        gaps += (~known).sum(0)
        total += float(values.double().nansum())
        grey = grey and bool((stored == stored[:, :1]).all())
        for row in stored[: max(0, COMPARED - len(first))].cpu().numpy():
            first.append(seen.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), len(first)))
    test, train = ({first[place] for place in part.tolist() if place < len(first)} for part in _ends(dataset))
    shared = test & train
    return Survey(
        low=float(lowest.min()),
        high=float(highest.max()),
        mean=total / max(1, len(dataset) * math.prod(dataset.shape) - int(gaps.sum())),
        missing=int(gaps.sum()),
        lowest=lowest,
        highest=highest,
        gaps=gaps,
        grey=grey,
        equal=len(first) - len(seen),
        leaked=sum(place < len(first) and first[place] in shared for place in dataset.test.tolist()),
        compared=len(first),
    )


def _ends(dataset: Dataset) -> tuple[Tensor, Tensor]:
    return dataset.test, dataset.train


def equal_files(root: Path, found: Sequence[tuple[str, os.stat_result]]) -> list[list[str]]:
    """Names of files with the same content, two or more in a list; only those of one length are read."""
    by_length: dict[int, list[str]] = {}
    for name, told in found:
        by_length.setdefault(told.st_size, []).append(name)
    by_content: dict[bytes, list[str]] = {}
    for names in by_length.values():
        for name in names if len(names) > 1 else ():
            try:
                with (root / name).open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            except OSError:  # it is among those that cannot be read
                continue
            by_content.setdefault(content, []).append(name)
    return [names for names in by_content.values() if len(names) > 1]
