"""Optimisers and learning rates by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from jensen.config import TrainConfig
from jensen.training import LearningRate, make_optimiser


def rates(steps: int, total: int, **settings: Any) -> list[float]:
    rate = LearningRate(TrainConfig(lr=2.0, **settings), total)
    return [rate(step) for step in range(steps)]


def test_constant() -> None:
    assert rates(3, 3) == [2.0, 2.0, 2.0]


def test_warmup_rises_to_the_full_rate_at_its_last_step() -> None:
    assert rates(6, 6, warmup=4) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_cosine_after_warmup() -> None:
    expected = [1.0, 2.0, *[1 + math.cos(math.pi * i / 8) for i in range(8)], 0.0]
    assert rates(11, 10, warmup=2, decay="cosine") == pytest.approx(expected)


def test_warmup_longer_than_the_run() -> None:
    assert rates(3, 3, warmup=10, decay="cosine") == pytest.approx([0.2, 0.4, 0.6])


def test_plateau_halves_after_too_many_epochs_without_a_best() -> None:
    rate = LearningRate(TrainConfig(lr=2.0, decay="plateau", plateau_patience=2), 100)
    found = []
    for score in (1.0, 2.0, 1.5, 2.0, 1.0, 2.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0):
        rate.epoch_ended(score)
        found.append(rate(50))
    assert found == [2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    copy = LearningRate(TrainConfig(lr=2.0, decay="plateau", plateau_patience=2), 100)
    copy.load_state_dict(rate.state_dict())
    assert copy(50) == 0.25
    assert copy.state_dict() == rate.state_dict()


def test_only_plateau_looks_at_the_score() -> None:
    rate = LearningRate(TrainConfig(lr=2.0), 100)
    for _ in range(50):
        rate.epoch_ended(0.0)
    assert rate(50) == 2.0


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("adamax", torch.optim.Adamax)]
)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_torch(name: str, kind: type[torch.optim.Optimizer], weight_decay: float) -> None:
    ours, theirs = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    theirs.load_state_dict(ours.state_dict())
    config = TrainConfig(optimiser=name, lr=0.01, weight_decay=weight_decay)
    optimisers = make_optimiser(config, ours), kind(theirs.parameters(), lr=0.01, weight_decay=weight_decay)  # type: ignore[call-arg]
    x = torch.randn(5, 3, dtype=torch.float64)
    for _ in range(3):
        for module, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            module(x).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_frozen_weights_are_left_out() -> None:
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    (group,) = make_optimiser(TrainConfig(), module).param_groups
    assert len(group["params"]) == 1
