"""Data that a model has not seen, and the model while it is measured on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from jensen.data import Batch

__all__ = ["SplitLike", "batch_on", "device_of", "measuring"]


class SplitLike(Protocol):
    """Held-out data: what measurements need of `jensen.data.Split`."""

    def __len__(self) -> int: ...
    @property
    def levels(self) -> int | None: ...
    @property
    def transform(self) -> str: ...
    def batch(self, index: Tensor) -> Batch: ...


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device


def batch_on(batch: Batch, device: torch.device) -> Batch:
    """The batch with what a model takes on `device`."""

    def moved(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.to(device)

    return batch._replace(
        x=batch.x.to(device),
        target=batch.target.to(device),
        condition=moved(batch.condition),
        mask=moved(batch.mask),
    )


@contextmanager
def measuring(model: nn.Module, seed: int) -> Iterator[torch.device]:
    """The model in evaluation mode and noise from `seed`, giving its device; afterwards all is as it was."""
    device = device_of(model)
    was_training = model.training
    try:
        model.eval()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield device
    finally:
        model.train(was_training)
