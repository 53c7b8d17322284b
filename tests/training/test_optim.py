"""Optimisers and learning rates by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from jensen.config import TrainConfig
from jensen.objectives import Elbo
from jensen.training import LearningRate, make_optimiser
from jensen.training.optim import load_optimiser


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


def test_cosine_ends_at_the_smallest_rate() -> None:
    """At the last step of all, after which it stays."""
    expected = [0.5 + 0.75 * (1 + math.cos(math.pi * i / 7)) for i in range(8)]
    assert (expected[0], expected[-1]) == (2.0, 0.5)
    assert rates(10, 8, decay="cosine", lr_min=0.5) == pytest.approx([*expected, 0.5, 0.5])
    assert rates(11, 10, warmup=2, decay="cosine", lr_min=0.5) == pytest.approx([1.0, 2.0, *expected, 0.5])


@pytest.mark.parametrize("warmup", [0, 1])
def test_training_of_hardly_any_steps(warmup: int) -> None:
    assert rates(warmup + 2, warmup + 2, warmup=warmup, decay="cosine", lr_min=0.5)[warmup:] == [2.0, 0.5]
    assert rates(warmup + 1, warmup + 1, warmup=warmup, decay="cosine", lr_min=0.5)[warmup:] == [2.0]


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
@pytest.mark.parametrize(("weight_decay", "eps"), [(0.0, 1e-8), (0.1, 1e-8), (0.1, 0.3)])
def test_steps_are_those_of_torch(
    name: str, kind: type[torch.optim.Optimizer], weight_decay: float, eps: float
) -> None:
    ours, theirs = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    theirs.load_state_dict(ours.state_dict())
    config = TrainConfig(optimiser=name, lr=0.01, weight_decay=weight_decay, eps=eps)
    reference = kind(theirs.parameters(), lr=0.01, weight_decay=weight_decay, eps=eps)  # type: ignore[call-arg]
    optimisers = make_optimiser(config, ours, Elbo()), reference
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
    (group,) = make_optimiser(TrainConfig(), module, Elbo()).param_groups
    assert len(group["params"]) == 1


class Owner(Elbo):
    """An objective with a weight of its own that is to be pushed up."""

    def __init__(self, **optimiser: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.optimiser = optimiser


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax"])
def test_what_the_objective_owns_is_a_group_with_its_own_settings(name: str) -> None:
    config = TrainConfig(optimiser=name, lr=0.01, weight_decay=0.1)
    module, objective = nn.Linear(3, 2), Owner(lr=0.002, betas=(0.5, 0.9))
    groups = make_optimiser(config, module, objective).param_groups
    assert [len(group["params"]) for group in groups] == [2, 1]
    assert [group["scale"] for group in groups] == pytest.approx([1.0, 0.2])
    assert [group["lr"] for group in groups] == [0.01, 0.002]
    assert [group["betas"] for group in groups] == [(0.9, 0.999), (0.5, 0.9)]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    (group,) = make_optimiser(config, module, Owner()).param_groups[1:]
    assert group["scale"] == 1.0  # an objective that says nothing of a rate learns at the model's


def test_state_of_a_version_without_scales_keeps_the_scales_made() -> None:
    config = TrainConfig(lr=0.01)
    module, objective = nn.Linear(3, 2), Owner(lr=0.002, betas=(0.5, 0.9))
    optimiser = make_optimiser(config, module, objective)
    for parameter in (*module.parameters(), objective.weight):
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    state = optimiser.state_dict()
    for group in state["param_groups"]:
        del group["scale"]
    state["param_groups"][0]["lr"] = 0.5
    other = make_optimiser(config, module, objective)
    load_optimiser(other, state)
    assert [group["scale"] for group in other.param_groups] == pytest.approx([1.0, 0.2])
    assert other.param_groups[0]["lr"] == 0.5
    found, expected = (made.state[objective.weight]["exp_avg"] for made in (other, optimiser))
    assert torch.equal(found, expected)
    load_optimiser(other, {**state, "param_groups": [{**g, "scale": 0.7} for g in state["param_groups"]]})
    assert [group["scale"] for group in other.param_groups] == [0.7, 0.7]
