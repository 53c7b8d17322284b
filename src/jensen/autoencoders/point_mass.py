"""A distribution with all its mass on one value."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, register_kl

__all__ = ["PointMass"]


class PointMass(Distribution):
    """P(X = value) = 1: the posterior of a discrete latent that is a function of x.

    KL(PointMass || p) = -log p(value), as its entropy is 0: what it costs in nats to send the value by p, a
    distribution over the same discrete set. (Under a density the value would cost infinitely much.)

    Args:
        value: of any shape and type; every number of it is a variable, so it is the batch shape.
    """

    arg_constraints = {}  # noqa: RUF012  (the base class declares it so)
    has_rsample = True

    def __init__(self, value: Tensor) -> None:
        self.value = value
        super().__init__(value.shape, validate_args=False)

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> PointMass:
        return PointMass(self.value.expand(torch.Size(batch_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """0 nats at the value, -inf elsewhere; shape that of both broadcast."""
        here = value == self.value
        return torch.zeros(here.shape, device=here.device).masked_fill(~here, -torch.inf)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """The value, (*sample_shape, *batch_shape)."""
        return self.value.expand(self._extended_shape(torch.Size(sample_shape)))

    @property
    def mean(self) -> Tensor:
        """The value."""
        return self.value

    @property
    def mode(self) -> Tensor:
        """The value."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Zeros."""
        return torch.zeros(self.value.shape, device=self.value.device)

    def entropy(self) -> Tensor:
        """Zeros, in nats."""
        return torch.zeros(self.value.shape, device=self.value.device)


@register_kl(PointMass, Distribution)  # type: ignore[untyped-decorator]
def _kl(q: PointMass, p: Distribution) -> Tensor:
    log_prob: Tensor = p.log_prob(q.value)
    return -log_prob
