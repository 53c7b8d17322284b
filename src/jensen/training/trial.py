"""Steps that are tried and undone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import islice
from typing import TYPE_CHECKING

import torch

from jensen.data import Batch

if TYPE_CHECKING:
    from jensen.training.loop import Trainer

__all__ = ["steps_on", "undone"]


@contextmanager
def undone(trainer: Trainer) -> Iterator[None]:
    """Afterwards weights, what the forward pass moves, the optimiser and all noise of torch are as they were before."""
    step, optimiser = trainer.bare, trainer.bare_optimiser
    cpu = torch.device("cpu")  # where there is more room, if they are not there anyway
    kept = [tensor.detach().to(cpu, copy=True) for tensor in _tensors(step)]
    state = _to_cpu(deepcopy(optimiser.state_dict())) if optimiser.state else deepcopy(optimiser.state_dict())
    training, names = step.training, step.names
    devices = [trainer.fabric.device] if trainer.fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, before in zip(_tensors(step), kept, strict=True):
                    tensor.copy_(before)
            optimiser.load_state_dict(state)
            for parameter in trainer.parameters:
                parameter.grad = None
            step.output, step.names = None, names
            step.train(training)


def steps_on(trainer: Trainer, batches: Iterable[Batch], count: int) -> Iterator[torch.Tensor]:
    """Take some optimiser steps; after each, what it logged."""
    trainer.bare.train()
    for number, batch in enumerate(islice(batches, count)):
        for parameter in trainer.parameters:
            parameter.grad = None
        with trainer.fabric.autocast():
            loss, logged = trainer.bare(trainer.laid_out(batch), trainer.position.step + number)
        trainer.bare.output = None
        loss.backward()
        del loss
        trainer.bare_optimiser.step()
        yield logged


def _tensors(step: torch.nn.Module) -> list[torch.Tensor]:
    return [*step.parameters(), *step.buffers()]


def _to_cpu(state: dict[str, dict[int, dict[str, torch.Tensor]]]) -> dict[str, dict[int, dict[str, torch.Tensor]]]:
    state["state"] = {
        place: {name: value.cpu() for name, value in kept.items()} for place, kept in state["state"].items()
    }
    return state
