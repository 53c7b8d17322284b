"""Capacity control."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from jensen.bound import Output
from jensen.config import Schedule
from jensen.objectives.base import Context, check_weight
from jensen.objectives.elbo import Elbo, Price

__all__ = ["Capacity"]


class Capacity(Elbo):
    """E_q[log p(x | z)] - gamma |KL(q(z | x) || p(z)) - C(step)| (Burgess et al. 2018, beta-VAE's capacity, eq. 8).

    KL is the mean over the batch on all devices, inside the absolute value: single data may cost more or less than C,
    which rises linearly from 0 to `max_capacity`. Logged is `capacity`, C in nats.

    Validation scores are -(distortion + |KL - C|) with C at its end, so that epochs can be compared, and without gamma:
    the rate oscillates about C by some tenths of a nat, and times 1000 that would choose the epoch by the phase of the
    oscillation. At weight 1 a nat of rate short of C costs about the nat of distortion that it would buy.

    Args:
        gamma: weight of the distance.
        max_capacity: C at the end, in nats.
        capacity_steps: optimiser steps over which C rises.
        **elbo: arguments of `Elbo`.

    Raises:
        ValueError: a weight or capacity is negative or not finite, or there are no steps.
    """

    def __init__(
        self, gamma: float = 1000.0, max_capacity: float = 25.0, capacity_steps: int = 100_000, **elbo: Any
    ) -> None:
        super().__init__(**elbo)
        if capacity_steps < 1:
            raise ValueError(f"capacity_steps should be at least 1, got {capacity_steps}")
        self.gamma = check_weight("gamma", gamma)
        check_weight("max_capacity", max_capacity)
        self.capacity = Schedule(kind="linear", start=0.0, end=max_capacity, steps=capacity_steps)
        self.schedule_steps = capacity_steps

    def price(self, output: Output, rate: Tensor, context: Context) -> Price:
        everywhere = context.mean(rate)
        now = self.capacity(context.step)
        value = self.gamma * (everywhere - now).abs()
        final = (everywhere.detach() - self.capacity.end).abs()
        return Price(value, {"capacity": rate.new_full((), now)}, final)

    def describe(self, latent: int, dims: int) -> str:
        return f"capacity rises from 0 to {self.capacity.end:g} nats over {self.capacity.steps} steps, then stays"
