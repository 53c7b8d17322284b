"""Discretised logistic likelihood, for grey levels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from jensen.likelihoods.base import Likelihood, soft_clamp

__all__ = ["DiscretisedLogistic", "LogisticOnLevels", "bounded_log_scale", "log_mass"]

NEAR = 16  # levels around the location of which the mean is summed one by one


def log_mass(value: Tensor, location: Tensor, log_scale: Tensor, half: float) -> Tensor:
    """log P(value) in nats of a logistic variable rounded to levels that are 2 `half` apart; see `LogisticOnLevels`."""
    inverse_scale = torch.exp(-log_scale)
    centred = (value - location) * inverse_scale
    width = half * inverse_scale
    below = F.logsigmoid(centred + width)  # log P(X <= x)
    above = F.logsigmoid(width - centred)  # log P(X >= x)
    inside = below + above + torch.log(-torch.expm1(-2.0 * width))
    return torch.where(value < half, below, torch.where(value > 1.0 - half, above, inside))


def bounded_log_scale(output: Tensor) -> Tensor:
    """log s from a decoder's output, softly kept within (-8, 4).

    A decoder that puts out zeros starts at s = exp(-2), about a seventh of [0, 1].
    """
    return soft_clamp(output, 6.0) - 2.0


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
        return log_mass(value, self.location, self.log_scale, self.half)

    @property
    def mean(self) -> Tensor:
        """Expectation: the sum over levels k >= 1 of P(X >= k), over levels - 1.

        Levels around the location are summed one by one. Farther away P(X >= k) changes so little from one level to the
        next that the sum is an integral, right to 0.002 of the distance between levels.
        """
        steps = self.levels - 1
        near = min(NEAR, steps)
        # The near ones are first + 1 .. first + near.
        first = (self.location * steps - near / 2).detach().round().clamp(0, steps - near)
        inverse_scale = torch.exp(-self.log_scale)
        total = torch.zeros_like(self.location)
        for k in range(near):
            total = total + torch.sigmoid((self.location - (first + (k + 0.5)) / steps) * inverse_scale)
        total = total / steps
        if near == steps:
            return total
        low, high = first / steps, (first + near) / steps
        return total + self._above(torch.zeros_like(low), low) + self._above(high, torch.ones_like(high))

    def _above(self, start: Tensor, end: Tensor) -> Tensor:
        """The integral of P(Y >= t), Y not rounded, over t from start to end."""
        scale = torch.exp(self.log_scale)
        to_start, to_end = ((self.location - t).abs() / scale for t in (start, end))
        bend = torch.log1p(torch.exp(-to_start)) - torch.log1p(torch.exp(-to_end))
        return self.location.clamp(start, end) - start + scale * bend

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
        return LogisticOnLevels(mean, bounded_log_scale(log_scale), self.levels)

    def extra_repr(self) -> str:
        return f"levels={self.levels}"
