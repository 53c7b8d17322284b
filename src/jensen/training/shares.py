"""Lengths that are given as a share of the training, in steps."""

from __future__ import annotations

from copy import copy
from typing import TypeVar

from jensen.config import Schedule, TrainConfig
from jensen.data import Data
from jensen.objectives import Objective
from jensen.sections import Section

__all__ = ["in_steps", "objective_in_steps", "steps_an_epoch"]

Part = TypeVar("Part", bound=Section)


def steps_an_epoch(data: Data, config: TrainConfig, world_size: int = 1) -> int:
    """Optimiser steps an epoch, of `world_size` processes that share a batch.

    The last, smaller batch is left out: equal steps, and none with one example for batch normalisation.
    """
    local = data.train.epoch_length // world_size
    return max(1, local // (config.batch_size // world_size))


def in_steps(config: Part, total: int) -> Part:
    """A configuration, or a part of one, with every share of a training of `total` steps replaced by as many steps."""
    changes: dict[str, object] = {}
    for name, value in config:
        if isinstance(value, Schedule):
            changes[name] = value.over(total)
        elif isinstance(value, Section):
            changes[name] = in_steps(value, total)
    if isinstance(config, TrainConfig) and config.warmup_share is not None:
        changes |= {"warmup": max(1, round(config.warmup_share * total)), "warmup_share": None}
    return config.model_copy(update=changes) if changes else config


def objective_in_steps(objective: Objective, total: int) -> Objective:
    """The objective with its schedules in steps, where one has a share; the one that is given stays as it is."""
    shares = {
        name: value.over(total)
        for name, value in vars(objective).items()
        if isinstance(value, Schedule) and value.share is not None
    }
    if not shares:
        return objective
    changed = copy(objective)  # what it owns is the same in both
    for name, schedule in shares.items():
        setattr(changed, name, schedule)
    return changed
