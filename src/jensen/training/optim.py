"""Optimisers and the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jensen.config import Schedule, TrainConfig
from jensen.objectives import Objective

__all__ = ["LearningRate", "averaging", "load_optimiser", "make_optimiser"]


def make_optimiser(config: TrainConfig, model: nn.Module, objective: Objective) -> torch.optim.Optimizer:
    """The optimiser that the configuration names; Adam and AdamW in their fused form.

    Adamax has none; torch's own choice, foreach on CUDA and one tensor after the other on the CPU, is the faster there.

    What the objective owns (FactorVAE's discriminator) is a group with settings of its own. `scale` of a group is what
    the scheduled learning rate is multiplied with.
    """
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if p.requires_grad], "scale": 1.0}]
    own = [p for p in objective.parameters() if p.requires_grad]
    if own:
        chosen = dict(objective.optimiser)
        scale = chosen.get("lr", config.lr) / config.lr
        groups.append({"params": own, "scale": scale, "weight_decay": 0.0, **chosen})
    settings: dict[str, Any] = {"lr": config.lr, "eps": config.eps, "weight_decay": config.weight_decay}
    if config.optimiser == "adamax":
        return torch.optim.Adamax(groups, **settings)
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, fused=True, **settings)


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Put an optimiser where `state_dict` left one; what earlier versions did not write of a group stays as it is."""
    made = [dict(group) for group in optimiser.param_groups]
    optimiser.load_state_dict(dict(state))
    for group, before in zip(optimiser.param_groups, made, strict=True):
        for name, value in before.items():
            group.setdefault(name, value)


def averaging(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """How an `AveragedModel` takes up new weights: its own, times d, and 1 - d times the new ones.

    With n weights taken up before, d = min(decay, (1 + n) / (10 + n)): of a short training hardly anything is kept of
    where it began.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], taken: Tensor | int) -> None:
        n = int(taken)
        torch._foreach_lerp_(list(averages), list(weights), 1 - min(decay, (1 + n) / (10 + n)))

    return update


class LearningRate:
    """The learning rate by step: linear warm-up, then constant, cosine to lr_min, or halved when validation stalls.

    Args:
        config: lr, lr_min, warmup, decay and plateau_patience.
        total_steps: optimiser steps in the whole run. Of several, cosine has lr_min at the last; where that is 0, and
            the step would do nothing, just after it.
    """

    def __init__(self, config: TrainConfig, total_steps: int) -> None:
        self.config = config
        self.warmup = Schedule(kind="linear", start=0.0, end=1.0, steps=config.warmup) if config.warmup else Schedule()
        left = max(1, total_steps - config.warmup)
        self.decay = Schedule()
        if config.decay == "cosine":
            left = max(1, left - 1) if config.lr_min else left
            self.decay = Schedule(kind="cosine", start=1.0, end=config.lr_min / config.lr, steps=left)
        self.scale = 1.0
        self.best = float("-inf")
        self.stalled = 0

    def __call__(self, step: int) -> float:
        """Learning rate of optimiser step `step` (0 is the first)."""
        warm = self.warmup(step + 1) if self.config.warmup else 1.0
        return self.config.lr * self.scale * warm * self.decay(step - self.config.warmup)

    def epoch_ended(self, score: float) -> None:
        """Note the validation score of an epoch (higher is better); halves the rate after too many without a best."""
        if self.config.decay != "plateau":
            return
        if score > self.best:
            self.best, self.stalled = score, 0
        else:
            self.stalled += 1
        if self.stalled > self.config.plateau_patience:
            self.scale, self.stalled = self.scale / 2, 0

    def state_dict(self) -> dict[str, float]:
        return {"scale": self.scale, "best": self.best, "stalled": self.stalled}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.scale, self.best, self.stalled = state["scale"], state["best"], int(state["stalled"])
