"""Rules for steps of noisy gradients: Adam, RMSProp, AdaGrad and natural gradients, number by number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AdaGrad", "Adam", "NaturalGradient", "RMSProp", "Rule", "choose_rule"]

DELAY, LARGEST = 10.0, 0.1
"""the weight of the t-th squared gradient in their mean is DELAY / (t + DELAY), LARGEST at most: the mean remembers the
last tenth of the steps, and never forgets faster than momentum"""


# --- rules ------------------------------------------------------------------------------------------------------------


class Rule(ABC):
    """From a gradient and what is remembered of those before it to a direction, number by number."""

    @abstractmethod
    def direction(self, memory: Tensor, gradient: Tensor, t: Tensor | float) -> Tensor:
        """The direction of a step of rate 1, (n,).

        Args:
            memory: two numbers for each parameter, (2, n), changed in place; zeros at first.
            gradient: of the bound, (n,).
            t: which step it is, from 0; (n,) where parameters have been stepped differently often.
        """


@dataclass(frozen=True)
class Adam(Rule):
    """Mean gradient over root mean square (Kingma & Ba 2015).

    Args:
        momentum: beta_1, of the mean, in [0, 1).
        memory: beta_2, of the squares, in [0, 1). None: it grows with the steps, so that the large gradients of the
            start are soon forgotten, and the root mean square becomes a constant, without which averaged iterates
            would be biased.
        epsilon: added to the root mean square.

    Raises:
        ValueError: an argument out of its range.
    """

    momentum: float = 0.9
    memory: float | None = None
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1 or not 0 <= (self.memory or 0.0) < 1 or not self.epsilon >= 0:
            raise ValueError(f"momentum and memory must be in [0, 1), epsilon 0 or more, got {self}")

    def direction(self, memory: Tensor, gradient: Tensor, t: Tensor | float) -> Tensor:
        memory[0].lerp_(gradient, 1 - self.momentum)
        mean = memory[0] / (1 - self.momentum ** (t + 1))
        return mean.div_(_root_mean_square(memory[1], gradient, t, self.memory).add_(self.epsilon))


@dataclass(frozen=True)
class RMSProp(Rule):
    """Gradient over root mean square, without momentum (Tieleman & Hinton 2012); arguments as of `Adam`."""

    memory: float | None = None
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if not 0 <= (self.memory or 0.0) < 1 or not self.epsilon >= 0:
            raise ValueError(f"memory must be in [0, 1), epsilon 0 or more, got {self}")

    def direction(self, memory: Tensor, gradient: Tensor, t: Tensor | float) -> Tensor:
        return gradient / _root_mean_square(memory[1], gradient, t, self.memory).add_(self.epsilon)


@dataclass(frozen=True)
class AdaGrad(Rule):
    """Gradient over the root of the sum of all squares so far, so that steps shrink (Duchi, Hazan & Singer 2011)."""

    epsilon: float = 1e-10

    def direction(self, memory: Tensor, gradient: Tensor, t: Tensor | float) -> Tensor:
        memory[1].addcmul_(gradient, gradient)
        return gradient / memory[1].sqrt().add_(self.epsilon)


@dataclass(frozen=True)
class NaturalGradient(Rule):
    """The inverse Fisher matrix of q times the gradient, for normal factors; Adam for all other parameters.

    The step is one of natural parameters, made to stay in their domain (Lin, Schmidt & Khan 2020, eq. 13): with g the
    gradient in the mean and G twice that in the covariance S, both in q's standardised coordinates S = L L^T, a step of
    rate r takes L to L chol((I - r G + r^2 G^2 / 2)^-1) and the mean by r times the new covariance times the gradient.
    Faster than Adam on well-conditioned posteriors, and its steps vanish at the optimum where the noise does; but
    coordinates that depend strongly on each other need a full-rank q, or small rates.

    Args:
        other: of parameters of the model and of factors that are not normal.
    """

    other: Rule = Adam()

    def direction(self, memory: Tensor, gradient: Tensor, t: Tensor | float) -> Tensor:
        return self.other.direction(memory, gradient, t)


def _root_mean_square(square: Tensor, gradient: Tensor, t: Tensor | float, memory: float | None) -> Tensor:
    """Of the gradients so far, an exponential mean kept in `square`."""
    if memory is not None:
        square.lerp_(gradient.square(), 1 - memory)
        return (square / (1 - memory ** (t + 1))).sqrt_()
    return square.lerp_(gradient.square(), _weight(t)).sqrt()


def _weight(t: Tensor | float) -> Tensor | float:
    """Of the t-th squared gradient; the first is all there is."""
    if isinstance(t, Tensor):
        return torch.where(t == 0, 1.0, (DELAY / (t + DELAY)).clamp(max=LARGEST))
    return 1.0 if t == 0 else min(LARGEST, DELAY / (t + DELAY))


_RULES: dict[str, type[Rule]] = {"adam": Adam, "rmsprop": RMSProp, "adagrad": AdaGrad, "natural": NaturalGradient}


def choose_rule(choice: str | Rule) -> Rule:
    """A rule from its name, or as it is; ValueError for an unknown name."""
    if isinstance(choice, Rule):
        return choice
    if choice not in _RULES:
        raise ValueError(f"optimiser must be one of {', '.join(_RULES)} or a Rule, got {choice!r}")
    return _RULES[choice]()
