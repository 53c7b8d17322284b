"""When memory does not do for a batch: which one it does for."""

from __future__ import annotations

import gc
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric

from jensen.autoencoders.model import NeuralModel
from jensen.config import TrainConfig
from jensen.data import Data
from jensen.errors import ConfigError
from jensen.objectives import Objective
from jensen.training.trial import steps_on, undone

if TYPE_CHECKING:
    from jensen.training.loop import Trainer

__all__ = ["FULL", "batch_that_fits", "is_full", "too_large"]

FULL = (MemoryError, RuntimeError)
"""Kinds of error among which are those of a memory that is full; `is_full` tells."""
TRIED = 2
"""Steps in a trial: in the second the optimiser's moments are there as well."""
WORDS = ("not enough memory", "out of memory", "DefaultCPUAllocator", "can't allocate memory")


def is_full(error: BaseException) -> bool:
    """Whether it says that memory, of the machine or of a GPU, is full."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in WORDS)


def batch_that_fits(
    model: NeuralModel, data: Data, objective: Objective, config: TrainConfig, fabric: Fabric, seed: int
) -> TrainConfig:
    """The configuration with the largest batch, halved from its own, that memory does for, if `auto_batch` asks for it.

    By trial: two steps on the first training examples, of which nothing remains, so that training is the same as with
    that batch from the start.

    Raises:
        ConfigError: memory does not do for one example.
    """
    from jensen.training.loop import Trainer

    if not config.auto_batch:
        return config
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        trainer = Trainer(
            model,
            data,
            deepcopy(objective),
            config.model_copy(update={"epochs": max(config.epochs, config.warmup)}),
            fabric,
            seed=seed,
            folder=None,
            quiet=True,
            on_epoch=lambda _: None,
        )
        size = _largest(trainer, config.batch_size)
    if size is None:
        raise ConfigError(f"train: memory does not do for a batch of 1 example{_smaller()}")
    return config.model_copy(update={"batch_size": size})


def too_large(trainer: Trainer, reason: str) -> ConfigError:
    """What to say where memory was full in a step of this trainer; which batch would do is tried."""
    size = trainer.config.batch_size
    told = f"train: memory does not do for batch_size {size} ({' '.join(reason.split())[:200]})"
    if trainer.fabric.world_size > 1:
        return ConfigError(f"{told}: give a smaller one")
    fits = _largest(trainer, _half(trainer, size)) if size > 1 else None
    if fits is None:
        return ConfigError(f"{told}, nor, as tried, for a single example{_smaller()}")
    return ConfigError(
        f"{told}; it does, as tried, for {fits}: start with --batch-size {fits}, or with --auto-batch to have it found"
    )


def _smaller() -> str:
    return ": take a smaller model (net width), or a device with more memory"


def _half(trainer: Trainer, size: int) -> int:
    """Half a batch, of which no more counts than there are examples."""
    return max(1, min(size, 2 * trainer.train_split.epoch_length) // 2)


def _largest(trainer: Trainer, size: int) -> int | None:
    """The first of size, half of it, ... that two steps can be taken with."""
    while not _fits(trainer, size):
        if size == 1:
            return None
        size = _half(trainer, size)
    return size


def _fits(trainer: Trainer, size: int) -> bool:
    split = trainer.train_split
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        with undone(trainer):
            places = torch.arange(min(size, split.epoch_length)) % len(split)
            for _ in steps_on(trainer, (split.batch(places) for _ in range(TRIED)), TRIED):
                pass
    except FULL as error:
        if not is_full(error):
            raise
        return False
    except ValueError:  # for training to tell, but for that a single example has no statistics
        return size > 1
    return True
