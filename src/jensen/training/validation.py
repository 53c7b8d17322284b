"""What a model is worth on the validation data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from jensen.training.memory import FULL, is_full

if TYPE_CHECKING:
    from jensen.training.loop import Trainer

__all__ = ["validate"]

ENOUGH = 500
"""examples, times samples of z, that a batch has at least, where memory does for it"""
FEWEST = 3


def validate(trainer: Trainer) -> Mapping[str, float]:
    """Terms of the objective on the validation data, by averaged weights if there are; the same noise each time.

    Where memory does not do for a batch it is done again with half of it.

    Raises:
        NonFiniteError: a term is not finite.
    """
    size = max(trainer.local_batch, ENOUGH // trainer.result.objective.samples, FEWEST)
    size = min(size, max(len(trainer.valid_split), FEWEST))
    while True:
        try:
            return _terms(trainer, size)
        except FULL as error:
            if not is_full(error) or size <= FEWEST or trainer.fabric.world_size > 1:
                raise
        size = max(size // 2, FEWEST)
        trainer.progress.say(f"memory does not do for a validation batch that large: {size} at once")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@torch.no_grad()
def _terms(trainer: Trainer, size: int) -> Mapping[str, float]:
    step, fabric, split = trainer.result, trainer.fabric, trainer.valid_split
    step.eval()
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    totals = torch.zeros((), dtype=trainer.wide, device=fabric.device)
    count = 0
    with torch.random.fork_rng(devices), fabric.autocast():
        torch.manual_seed(trainer.seed)
        rank, world = fabric.global_rank, fabric.world_size
        local = len(split) // world
        # Nearly equal: estimates are biased by a batch's size, and one example tells nothing of a distribution.
        for places in torch.arange(rank, local * world, world).tensor_split(-(-local // size)):
            batch = split.batch(places)
            _, logged = step(trainer.laid_out(batch), trainer.position.step)
            output, step.output = step.output, None
            if logged.device.type == "cpu":
                trainer.guard.refuse(_named(step.names, logged), "validation", output=output, batch=batch)
            del output
            totals = totals + logged.to(trainer.wide) * len(batch.x)
            count += len(batch.x)
    if world > 1:
        totals = trainer.gather(totals).sum(0)
        count *= world
    terms = _named(step.names, totals / count)
    trainer.guard.refuse(terms, "validation")
    return terms


def _named(names: list[str], values: torch.Tensor) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))
