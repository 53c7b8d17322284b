"""Expectations under a normal distribution without a closed form: of the logistic functions, of Poisson densities."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["expected_logistic", "expected_softplus", "log_expected_density"]

# The trapezoidal rule on the whole line: for analytic integrands its error falls exponentially with 1 / step, and
# unlike that of Gauss-Hermite it does not grow as fast where the normal is much wider than the integrand's features.
_REACH = 7.5
_NODES = 51
# The logistic distribution's standard deviation: the probit that has it differs from the sigmoid by little, and the
# difference integrates to nothing, so that it may be followed loosely where the normal is wide.
_SPREAD = math.pi / math.sqrt(3)
_LEAST_VARIANCE = 1e-14  # its root must have a derivative
_DOUBLINGS, _BISECTIONS = 64, 80


def _rule(like: Tensor) -> tuple[Tensor, Tensor]:
    """Points z_i and weights w_i, each (nodes,): E[f(Z)] = sum w_i f(z_i), Z ~ N(0, 1)."""
    points = torch.linspace(-_REACH, _REACH, _NODES, dtype=like.dtype, device=like.device)
    return points, torch.softmax(-0.5 * points**2, 0)


def expected_softplus(mean: Tensor, variance: Tensor) -> Tensor:
    """E[log(1 + e^a)], a ~ N(mean, variance), elementwise and differentiable in both.

    The integrand is split in that of a probit of the same spread, whose expectation is closed, and a small bump, which
    is integrated numerically. Error below 1e-9 for standard deviations up to 3, 1e-6 up to 5, 5e-3 for all.
    """
    variance = variance.clamp_min(_LEAST_VARIANCE)
    points, weights = _rule(mean)
    a = mean.unsqueeze(-1) + variance.sqrt().unsqueeze(-1) * points
    bump = torch.nn.functional.softplus(a) - _smooth_ramp(a, a.new_tensor(_SPREAD))
    expected: Tensor = _smooth_ramp(mean, (variance + _SPREAD**2).sqrt()) + (bump * weights).sum(-1)
    return expected


def expected_logistic(mean: Tensor, variance: Tensor) -> Tensor:
    """E[1 / (1 + e^-a)], a ~ N(mean, variance): the predictive probability where the predictor is normal."""
    points, weights = _rule(mean)
    a = mean.unsqueeze(-1) + variance.clamp_min(0).sqrt().unsqueeze(-1) * points
    bump = torch.sigmoid(a) - torch.special.ndtr(a / _SPREAD)
    smooth = torch.special.ndtr(mean / (variance.clamp_min(0) + _SPREAD**2).sqrt())
    expected: Tensor = smooth + (bump * weights).sum(-1)
    return expected.clamp(0, 1)


def log_expected_density(
    log_density: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], tuple[Tensor, Tensor]],
    mean: Tensor,
    variance: Tensor,
) -> Tensor:
    """log E[exp(log_density(a))], a ~ N(mean, variance), elementwise, for a log-concave density in a.

    The rule is centred on the integrand's mode and scaled by its curvature there, so that counts in the thousands are
    followed too (Liu & Pierce 1994).

    Args:
        log_density: of a predictor of shape (*shape of mean, nodes).
        slope: its first and second derivatives at a predictor of the shape of `mean`.
    """
    variance = variance.clamp_min(_LEAST_VARIANCE)
    mode = _mode(slope, mean, variance)
    width = (1 / variance - slope(mode)[1]).rsqrt()
    points, weights = _rule(mean)
    a = mode.unsqueeze(-1) + width.unsqueeze(-1) * points
    prior = -0.5 * (a - mean.unsqueeze(-1)) ** 2 / variance.unsqueeze(-1)
    log_ratio = prior + 0.5 * points**2 + torch.log(width / variance.sqrt()).unsqueeze(-1)
    return torch.logsumexp(log_density(a) + log_ratio + weights.log(), dim=-1)


def _mode(slope: Callable[[Tensor], tuple[Tensor, Tensor]], mean: Tensor, variance: Tensor) -> Tensor:
    """Where the log-concave density times N(mean, variance) is largest: bracketed, then bisected.

    Newton's method crawls where the density is that of a count (one unit a step along exp), and overshoots on its left.
    """

    def rises(a: Tensor) -> Tensor:
        return slope(a)[0] > (a - mean) / variance

    up = rises(mean)
    reach = torch.ones_like(mean)
    for _ in range(_DOUBLINGS):
        short = rises(mean + torch.where(up, reach, -reach)) == up
        if not bool(short.any()):
            break
        reach = torch.where(short, 2 * reach, reach)
    low, high = torch.where(up, mean, mean - reach), torch.where(up, mean + reach, mean)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = rises(middle)
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (low + high) / 2


def _smooth_ramp(mean: Tensor, spread: Tensor) -> Tensor:
    """E[max(a, 0)], a ~ N(mean, spread^2)."""
    ratio = mean / spread
    density = torch.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi)
    ramp: Tensor = mean * torch.special.ndtr(ratio) + spread * density
    return ramp
