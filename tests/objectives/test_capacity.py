"""Capacity control by hand, over its schedule and several devices, and the net of its paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from jensen.bound import Level, Output
from jensen.config import NetConfig
from jensen.nn import make_decoder, make_encoder
from jensen.objectives import Capacity, Context


def test_defaults_are_those_of_the_paper() -> None:
    objective = Capacity()
    assert objective.gamma == 1000
    assert [objective.capacity(step) for step in (0, 1, 50_000, 100_000, 10**6)] == [0.0, 0.00025, 12.5, 25.0, 25.0]


@pytest.mark.parametrize(("step", "capacity"), [(0, 0.0), (5, 2.0), (10, 4.0), (1000, 4.0)])
def test_by_hand(step: int, capacity: float, made: Callable[..., Any]) -> None:
    output, leaves = made(2)
    objective = Capacity(3.0, 4.0, 10)
    loss = objective(output, Context(step=step))
    rate = output.rate().mean()
    distortion = -output.log_likelihood().mean()
    torch.testing.assert_close(loss.value, distortion + 3 * (rate - capacity).abs())
    assert loss.terms["capacity"].item() == capacity
    torch.testing.assert_close(loss.score, -(distortion + (rate - 4.0).abs()).detach())
    (found,) = torch.autograd.grad(loss.value - distortion, leaves["q_loc"], retain_graph=True)
    sign = 1.0 if rate > capacity else -1.0
    torch.testing.assert_close(found, sign * 3 * leaves["q_loc"].detach() / 8)


def epoch(rate: float, misfit: float) -> Output:
    """Data of a KL of `rate` nats each, and of a distortion of `misfit` nats and a constant."""
    q = Normal(torch.full((1, 4, 1), math.sqrt(2 * rate)), torch.ones(1, 4, 1))
    likelihood = Normal(torch.full((1, 4, 1), math.sqrt(2 * misfit)), 1.0)
    return Output(torch.zeros(1, 4, 1), likelihood, (Level(q.sample(), q, Normal(0.0, 1.0)),))


@pytest.mark.parametrize("wobble", [-0.2, 0.2])
def test_epochs_are_not_chosen_by_the_phase_of_an_oscillation(wobble: float) -> None:
    """The later epoch is a nat better, though its rate was caught 0.2 nats beside C, and that of the earlier at C."""
    objective = Capacity(1000.0, 8.0, 1)
    earlier, later = (objective(output, Context(step=9)) for output in (epoch(8.0, 20.0), epoch(8.0 + wobble, 19.0)))
    assert (later.score - earlier.score).item() == pytest.approx(0.8, abs=1e-4)
    assert (later.value - earlier.value).item() == pytest.approx(-1 + 1000 * 0.2, rel=1e-4)


def test_the_distance_is_of_the_mean_and_not_the_mean_distance(made: Callable[..., Any]) -> None:
    output, _ = made()
    rates = output.rate()[0]
    assert rates.min() < rates.mean() < rates.max()
    capacity = rates.mean().item()
    loss = Capacity(1000.0, capacity, 1)(output, Context(step=1))
    assert loss.value.item() == pytest.approx(-output.log_likelihood().mean().item(), rel=1e-9)


def test_two_devices_are_one_batch(made: Callable[..., Any]) -> None:
    """C lies between the rates of the two halves: each alone would be pulled its own way, together one way."""
    outputs, leaves = zip(*(made(batch=4) for _ in range(2)), strict=True)
    rates = [output.rate().mean() for output in outputs]
    mean = (rates[0] + rates[1]) / 2
    capacity = (mean + 0.25 * (max(rates) - mean)).item()
    objective = Capacity(5.0, capacity, 1)

    def gather(value: Tensor) -> Tensor:
        assert not value.requires_grad
        return torch.stack([rate.detach().reshape(value.shape) for rate in rates])

    losses = [objective(output, Context(step=1, gather=gather)) for output in outputs]
    for output, loss, rate, own in zip(outputs, losses, rates, leaves, strict=True):
        torch.testing.assert_close(loss.value + output.log_likelihood().mean(), 5 * (capacity - mean))
        (found,) = torch.autograd.grad(loss.value, own["q_loc"], retain_graph=True)
        (expected,) = torch.autograd.grad(-5 * rate, own["q_loc"], retain_graph=True)
        (distortion,) = torch.autograd.grad(-output.log_likelihood().mean(), own["q_loc"], allow_unused=True)
        assert distortion is None  # the decoded means are free here
        torch.testing.assert_close(found, expected)


def test_the_net_of_the_paper() -> None:
    """64x64: four 4x4 convolutions of stride 2 with 32 channels, two hidden layers of 256, and the transpose."""
    encoder = make_encoder(NetConfig(kind="conv"), (1, 64, 64), 20)
    decoder = make_decoder(NetConfig(kind="conv"), 10, (1, 64, 64))
    shapes = [
        [tuple(layer.weight.shape) for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        for net in (encoder, decoder)
    ]
    assert shapes[0] == [(32, 1, 4, 4), *[(32, 32, 4, 4)] * 3, (256, 512), (256, 256), (20, 256)]
    assert shapes[1] == [(256, 10), (256, 256), (512, 256)]
    transposed = [layer for layer in decoder.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [tuple(layer.weight.shape) for layer in transposed] == [*[(32, 32, 4, 4)] * 3, (32, 1, 4, 4)]
    layers = [*transposed, *(layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d))]
    assert all((layer.stride, layer.padding) == ((2, 2), (1, 1)) for layer in layers)
    x = torch.rand(2, 1, 64, 64)
    assert encoder(x).shape == (2, 20)
    assert decoder(torch.randn(2, 10)).shape == x.shape


def test_what_is_said() -> None:
    assert Capacity().describe(10, 4096) == "capacity rises from 0 to 25 nats over 100000 steps, then stays"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gamma": -1.0}, "gamma should be 0 or more and finite, got -1"),
        ({"max_capacity": float("nan")}, "max_capacity should be 0 or more and finite, got nan"),
        ({"capacity_steps": 0}, "capacity_steps should be at least 1, got 0"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Capacity(**wrong)
