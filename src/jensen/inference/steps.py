"""Step sizes of natural-gradient and stochastic inference."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from torch import Tensor

__all__ = ["Adaptive", "RobbinsMonro", "StepSize", "learning_rate", "step_size"]

StepSize: TypeAlias = Callable[[int, Tensor], float]
"""(t, natural gradient as one vector) -> rho in (0, 1]; t counts from 0."""


class RobbinsMonro:
    """rho_t = (t + tau)^-kappa, whose sum diverges and whose squares' sum does not (Hoffman et al. 2013, eq. 26).

    Args:
        tau: delay, at least 1 so that no step is larger than 1; larger values weigh the first minibatches down.
        kappa: forgetting rate in (0.5, 1].

    Raises:
        ValueError: tau or kappa outside of their range.
    """

    def __init__(self, tau: float = 1.0, kappa: float = 0.7) -> None:
        if not 0.5 < kappa <= 1:
            raise ValueError(f"kappa must be in (0.5, 1] for the steps to converge, got {kappa}")
        if not 1 <= tau < float("inf"):
            raise ValueError(f"tau must be at least 1, got {tau}")
        self.tau, self.kappa = tau, kappa

    def __call__(self, t: int, gradient: Tensor) -> float:
        return float((t + self.tau) ** -self.kappa)


class Adaptive:
    """The step that minimises the expected distance to the batch update (Ranganath et al. 2013, eq. 9).

    rho = |E g|^2 / E |g|^2, with running averages of the natural gradient g over a memory that adapts: large while
    minibatches agree, small when they are noise.

    Args:
        memory: minibatches that the averages remember at first.
        largest: no step is longer; under 1, since a whole step would forget all but the last minibatch.
    """

    def __init__(self, memory: float = 10.0, largest: float = 0.5) -> None:
        if not (memory >= 1 and 0 < largest < 1):
            raise ValueError(f"memory must be at least 1 and largest in (0, 1), got {memory} and {largest}")
        self.memory, self.largest = memory, largest
        self._mean: Tensor | None = None
        self._square = 0.0

    def __call__(self, t: int, gradient: Tensor) -> float:
        square = float(gradient @ gradient)
        if not math.isfinite(square):  # the update will say so; the averages stay
            return self.largest
        if self._mean is None:
            self._mean, self._square = gradient.clone(), square
        else:
            weight = 1 / self.memory
            self._mean = self._mean.lerp(gradient, weight)
            self._square += weight * (square - self._square)
        rho = min(self.largest, float(self._mean @ self._mean) / self._square) if self._square > 0 else self.largest
        self.memory = self.memory * (1 - rho) + 1
        return rho


def step_size(rho: float | str | StepSize) -> StepSize:
    """A constant in (0, 1], "adaptive", or a function, what it gives checked at each step; raises ValueError."""
    if isinstance(rho, str):
        if rho != "adaptive":
            raise ValueError(f"rho must be a number, a function or 'adaptive', got {rho!r}")
        rho = Adaptive()
    if callable(rho):
        return partial(_checked, rho, 1.0)
    if not 0 < rho <= 1:
        raise ValueError(f"rho must be in (0, 1], got {rho}")
    constant = float(rho)
    return lambda t, gradient: constant


def learning_rate(rho: float | str | StepSize) -> StepSize:
    """A positive constant, or a function of (t, unused); raises ValueError."""
    if isinstance(rho, str | Adaptive):
        raise ValueError(
            "method='gradient' takes a number or a function of t for rho: 'adaptive' is for natural gradients"
        )
    if callable(rho):
        return partial(_checked, rho, math.inf)
    if not 0 < rho < math.inf:
        raise ValueError(f"rho, the learning rate of method='gradient', must be positive, got {rho}")
    constant = float(rho)
    return lambda t, gradient: constant


def _checked(rho: StepSize, largest: float, t: int, gradient: Tensor) -> float:
    """What a function gives, refused where it is no step size."""
    value = float(rho(t, gradient))
    if not 0 < value <= largest:
        raise ValueError(f"rho must be positive and at most {largest:g}, but the function gave {value} at step {t}")
    return value
