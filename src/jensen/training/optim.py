"""Optimisers and the learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from jensen.config import Schedule, TrainConfig

__all__ = ["LearningRate", "make_optimiser"]


def make_optimiser(config: TrainConfig, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, over all parameters; Adam and AdamW in their fused form."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    settings: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimiser == "adamax":
        return torch.optim.Adamax(parameters, **settings)
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, fused=True, **settings)


class LearningRate:
    """The learning rate by step: linear warm-up, then constant, cosine to 0, or halved when validation stalls.

    Args:
        config: lr, warmup, decay and plateau_patience.
        total_steps: optimiser steps in the whole run, where cosine reaches 0.
    """

    def __init__(self, config: TrainConfig, total_steps: int) -> None:
        self.config = config
        self.warmup = Schedule(kind="linear", start=0.0, end=1.0, steps=config.warmup) if config.warmup else Schedule()
        left = max(1, total_steps - config.warmup)
        self.decay = Schedule(kind="cosine", start=1.0, end=0.0, steps=left) if config.decay == "cosine" else Schedule()
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
