"""Discretised logistic likelihood, for grey levels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from jensen.likelihoods.base import Likelihood, soft_clamp

__all__ = ["DiscretisedLogistic", "LogisticOnLevels"]


class LogisticOnLevels(Distribution):
    """A logistic variable rounded to the nearest of `levels` values evenly spaced over [0, 1]; the ends take the tails.

    Kingma et al. 2016, Improved variational inference with inverse autoregressive flow (their decoder). With
    a = (x + h - mu) / s, b = (x - h - mu) / s and h half the distance between levels,

        P(x) = sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(-2h / s)),

    the right side being exact in float32 even where the two sigmoids agree in all their digits.

    Args:
        mean: location mu, shape (..., *shape).
        log_scale: log s, same shape.
        levels: number of values, at least 2.
    """

    arg_constraints = {}  # noqa: RUF012  (the base class declares it so)
    support = constraints.unit_interval

    def __init__(self, mean: Tensor, log_scale: Tensor, levels: int) -> None:
        shape = torch.broadcast_shapes(mean.shape, log_scale.shape)
        self.location, self.log_scale = mean.expand(shape), log_scale.expand(shape)
        self.levels = levels
        self.half = 0.5 / (levels - 1)
        super().__init__(self.location.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats of grey levels `value` (multiples of 1 / (levels - 1) in [0, 1])."""
        inverse_scale = torch.exp(-self.log_scale)
        centred = (value - self.location) * inverse_scale
        half = self.half * inverse_scale
        below = F.logsigmoid(centred + half)  # log P(X <= x)
        above = F.logsigmoid(half - centred)  # log P(X >= x)
        inside = below + above + torch.log(-torch.expm1(-2.0 * half))
        return torch.where(value < self.half, below, torch.where(value > 1.0 - self.half, above, inside))

    @property
    def mean(self) -> Tensor:
        """Expectation: the sum over levels k >= 1 of P(X >= k), over levels - 1. Exact, one level at a time."""
        inverse_scale = torch.exp(-self.log_scale)
        total = torch.zeros_like(self.location)
        for k in range(1, self.levels):
            total += torch.sigmoid((self.location - (2 * k - 1) * self.half) * inverse_scale)
        return total / (self.levels - 1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of shape (*sample_shape, ..., *shape), each a grey level in [0, 1]."""
        with torch.no_grad():
            location = self.location.expand(self._extended_shape(torch.Size(sample_shape)))
            draw = location + torch.exp(self.log_scale) * torch.logit(torch.rand_like(location), eps=1e-7)
            steps = self.levels - 1
            levels: Tensor = (draw * steps).round().clamp(0, steps) / steps
            return levels


class DiscretisedLogistic(Likelihood):
    """`LogisticOnLevels` with the decoder giving location and log scale of each value.

    Raises:
        ValueError: fewer than two levels.
    """

    channels = 2

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels should be at least 2, got {levels}")
        self.levels = levels

    def distribution(self, *parameters: Tensor) -> LogisticOnLevels:
        mean, log_scale = parameters
        assert self.levels is not None
        # A decoder that puts out zeros starts at s = exp(-2), about a seventh of [0, 1].
        return LogisticOnLevels(mean, soft_clamp(log_scale, 6.0) - 2.0, self.levels)

    def extra_repr(self) -> str:
        return f"levels={self.levels}"
