"""What an estimator of gradients knows of q: factors that can be drawn from and evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Generator, Tensor

__all__ = ["Draw", "FactorPosterior", "Posterior"]


@dataclass(frozen=True, slots=True)
class Draw:
    """Draws of one factor's latents.

    Attributes:
        values: on the latents' supports, (samples, *shape) each.
        point: where the factor's own density is evaluated, (samples, ...): real coordinates that a transform takes to
            the values, or the value itself.
        log_jacobian: log |d values / d point| in nats, (samples, *elements); 0 where the point is the value.
    """

    values: Mapping[str, Tensor]
    point: Tensor
    log_jacobian: Tensor | float = 0.0


class FactorPosterior(ABC):
    """q of some latents at given parameters; the whole q is the product of its factors.

    Attributes:
        names: the latents.
        elements: shape of the factor's independent parts, () where all of it is dependent.
        plate: the plate that the first dimension of `elements` runs over; None if there is none.
        has_rsample: whether draws can be differentiated in the parameters.
        noise_shape: shape of the standard normal noise behind one draw; None where draws are not made of such noise.
        support_size: how many values an element can take; None if not finite.
    """

    names: tuple[str, ...]
    elements: torch.Size
    plate: str | None = None
    has_rsample: bool = True
    noise_shape: tuple[int, ...] | None = None
    support_size: int | None = None

    @abstractmethod
    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        """Draws that can be differentiated in the parameters; TypeError where there are none."""

    @abstractmethod
    def log_prob(self, draw: Draw) -> Tensor:
        """log q of the draw's values (the density of its point less its log Jacobian) in nats, (samples, *elements)."""

    @abstractmethod
    def detach(self) -> Self:
        """The same q, its parameters without history."""

    def sample(self, samples: int, generator: Generator | None = None) -> Draw:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(samples, generator)

    def from_noise(self, noise: Tensor) -> Draw:
        """Draws made of standard normal noise (samples, *noise_shape); TypeError where draws are not made so."""
        raise TypeError(f"draws of {', '.join(self.names)} are not made of standard normal noise")

    def enumerate(self) -> Draw:
        """All values: (support_size, ...), every element at its k-th; TypeError where they are not finitely many."""
        raise TypeError(f"the values of {', '.join(self.names)} cannot be enumerated")

    def entropy(self) -> Tensor | None:
        """Entropy of the point (not the values) in nats, shape `elements`; None where there is no closed form."""
        return None


@dataclass(frozen=True)
class Posterior:
    """q(z), a product of factors."""

    factors: Sequence[FactorPosterior]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all latents."""
        return tuple(name for factor in self.factors for name in factor.names)

    @staticmethod
    def values(draws: Sequence[Draw]) -> dict[str, Tensor]:
        """The latents' values from one draw of each factor."""
        return {name: value for draw in draws for name, value in draw.values.items()}

    def sample(self, samples: int, generator: Generator | None = None) -> dict[str, Tensor]:
        """Draws of all latents without gradient, (samples, *shape) each."""
        return self.values([factor.sample(samples, generator) for factor in self.factors])

    def detach(self) -> Posterior:
        """The same q, its parameters without history."""
        return Posterior([factor.detach() for factor in self.factors])
